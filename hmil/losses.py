"""The loss terms of HMIL.

C. Jin et al., HMIL, IEEE TMI 2025, doi 10.1109/TMI.2024.3520602.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mil_bench.bags.segments import segment_mean

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch

# Of the released contrastive loss: in the logarithm of the denominator and the count of positives.
_EPSILON = 1e-6


def bag_alignment(fine_logits: Tensor, coarse_labels: Tensor, lift: Tensor) -> Tensor:
    """Negative log of the coarse probability that the fine head implies.

    Args:
        fine_logits: ``[B, C]``.
        coarse_labels: ``[B]``.
        lift: 0/1 membership of fine in coarse classes ``[C, G]``.

    Returns:
        One value per bag, ``[B]``.
    """
    children = lift.T[coarse_labels] > 0  # [B, C]
    inside = fine_logits.masked_fill(~children, -torch.inf).logsumexp(1)
    return fine_logits.logsumexp(1) - inside  # [B]


def bag_alignment_released(fine_logits: Tensor, coarse_labels: Tensor, lift: Tensor) -> Tensor:
    """Bag alignment as in the released code, which takes lifted probabilities for logits.

    The second softmax keeps it between ``ln(e + G - 1) - 1`` and ``ln(e + G - 1)``, so it cannot
    reach 0.

    Args:
        fine_logits: ``[B, C]``.
        coarse_labels: ``[B]``.
        lift: 0/1 membership of fine in coarse classes ``[C, G]``.

    Returns:
        One value per bag, ``[B]``.
    """
    return F.cross_entropy(fine_logits.softmax(1) @ lift, coarse_labels, reduction="none")


def instance_alignment(
    coarse_attention: Tensor, fine_attention: Tensor, lift: Tensor, bags: BagBatch
) -> Tensor:
    """One minus the cosine of coarse and lifted fine attention, averaged over a bag's instances.

    Args:
        coarse_attention: ``[N, G]``, after the softmax over the bag.
        fine_attention: ``[N, C]``, after the softmax over the bag.
        lift: 0/1 membership of fine in coarse classes ``[C, G]``.
        bags: the batch.

    Returns:
        One value per bag, ``[B]``.
    """
    cosine = F.cosine_similarity(coarse_attention, fine_attention @ lift, dim=1, eps=1e-8)  # [N]
    return segment_mean(1 - cosine, bags)


def supervised_contrastive(
    embeddings: Tensor, labels: Tensor, weight: Tensor, temperature: float
) -> Tensor:
    """Supervised contrastive loss over all class embeddings, each with its bag's fine label.

    An anchor without positives contributes 0 but is counted, as in the released code. Each vector
    counts by the weight of its bag, as anchor, as positive and in the denominator.

    Args:
        embeddings: L2-normalised class embeddings ``[B, C, d]``.
        labels: fine labels ``[B]``.
        weight: ``[B]``.
        temperature: divides the similarities; the loss is scaled by ``temperature / 0.1``.
    """
    views = embeddings.shape[1]
    vectors = embeddings.transpose(0, 1).flatten(0, 1)  # [C * B, d], view by view
    labels, weight = labels.repeat(views), weight.repeat(views)
    similarity = vectors @ vectors.T / temperature
    counted = weight > 0
    peak = similarity.detach().masked_fill(~counted, -torch.inf).amax(1, keepdim=True)
    similarity = similarity - torch.where(peak.isfinite(), peak, 0.0)
    same = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    others = weight * (1 - same)  # [anchor, other]
    exponentials = torch.where(others > 0, similarity, -torch.inf).exp()
    log_probability = similarity - ((others * exponentials).sum(1, keepdim=True) + _EPSILON).log()
    positives = others * (labels[:, None] == labels)
    # Rows and columns of bags without weight hold arbitrary numbers, which are only ever multiplied
    # by 0.
    anchors = (positives * log_probability).sum(1) / (positives.sum(1) + _EPSILON)
    mean = (weight * anchors).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
    return -(temperature / 0.1) * mean
