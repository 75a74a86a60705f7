"""CLAM: attention MIL whose most and least attended instances also train instance classifiers.

M. Lu, D. Williamson, T. Chen, R. Chen, M. Barbieri, F. Mahmood, Data-efficient and weakly
supervised computational pathology on whole-slide images, Nature Biomedical Engineering 5, 2021;
released code mahmoodlab/CLAM. The smooth top-1 SVM loss is that of L. Berrada, A. Zisserman, M. P.
Kumar, Smooth Loss Functions for Deep Top-k Classification, ICLR 2018; released code
oval-group/smooth-topk.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, extreme_rows, segment_softmax
from mil_bench.errors import UnknownNameError
from mil_bench.methods import Choice, Float, Int, Method, Output, Recipe, weighted_mean
from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.gated_attention import gated_scores
from mil_bench.methods.fused.linear import affine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

# Constants of the release: the embedding's width in both sizes, the attention's per size, and the
# attention's dropout, whatever rate is set for the embedding.
_WIDTH = 512
_ATTENTION_WIDTHS = {"small": 256, "big": 384}
_ATTENTION_DROPOUT = 0.25
# If the two best scores are this far apart, the released SVM loss takes the hard maximum.
_HARD_GAP = math.log(1000)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every row: scores ``[..., C]``, labels ``[...]`` -> ``[...]``."""
    return F.cross_entropy(scores.movedim(-1, 1), labels, reduction="none")


def smooth_top1_svm(scores: Tensor, labels: Tensor) -> Tensor:
    """Smooth top-1 SVM loss of every row, margin 1 and temperature 1.

    The log-sum-exp over the classes of score plus margin minus the true class's score. As released,
    it is the plain maximum if the two largest scores are ln(1000) or more apart.

    Args:
        scores: ``[..., C]``.
        labels: ``[...]``.

    Returns:
        ``[...]``.
    """
    if scores.shape[-1] == 2:  # the instance classifiers: a function of the difference alone
        wrong = 1 + (scores[..., 1] - scores[..., 0]) * (1 - 2 * labels)
        return torch.where((wrong - 1).abs() >= _HARD_GAP, wrong.relu(), F.softplus(wrong))
    true = labels[..., None]
    margin = torch.ones_like(scores).scatter(-1, true, 0.0)
    violation = scores + margin - scores.gather(-1, true)
    best = scores.topk(2, dim=-1).values
    hard = best[..., 0] - best[..., 1] >= _HARD_GAP
    return torch.where(hard, violation.amax(-1), violation.logsumexp(-1))


_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy,
    "svm": smooth_top1_svm,
}


class Clusters(NamedTuple):
    """The instances that train the instance classifiers: P sets per bag, each of 2k instances.

    Args:
        classes: the class whose classifier a set trains ``[B, P]``.
        rows: row numbers ``[B, 2k, P]``; the last axis is 1 if all sets have the same rows.
        targets: 1 for instances taken as evidence of the class, 0 for others ``[B, 2k, P]``.
        counted: whether an entry takes part ``[B, 2k, P]``; some do not in small bags.
    """

    classes: Tensor
    rows: Tensor
    targets: Tensor
    counted: Tensor


class _GatedAttention(nn.Module):
    """Gated attention scores: ``[N, 512]`` -> ``[N, K]``, before the softmax."""

    def __init__(self, hidden: int, columns: int, dropout: float) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(_WIDTH, hidden), nn.Tanh())
        self.attention_b = nn.Sequential(nn.Linear(_WIDTH, hidden), nn.Sigmoid())
        self.attention_c = nn.Linear(hidden, columns)
        self.dropout = dropout

    def forward(self, embedded: Tensor) -> Tensor:
        a, b, c = affine(self.attention_a), affine(self.attention_b), affine(self.attention_c)
        dropout = self.dropout if self.training else 0.0
        return gated_scores(embedded, tanh=a, sigmoid=b, scores=c, dropout=dropout)


class _PlainAttention(nn.Module):
    """Attention scores without a gate: ``[N, 512]`` -> ``[N, K]``, before the softmax."""

    def __init__(self, hidden: int, columns: int, dropout: float) -> None:
        super().__init__()
        layers = [
            nn.Linear(_WIDTH, hidden),
            nn.Tanh(),
            Dropout(dropout),
            nn.Linear(hidden, columns),
        ]
        self.module = nn.Sequential(*layers)

    def forward(self, embedded: Tensor) -> Tensor:
        return self.module(embedded)


class _CLAM(Method):
    """What both branches share: embedding, attention, pooling, instance clustering and losses.

    The loss of a bag is ``bag_weight`` times the bag loss plus ``1 - bag_weight`` times the
    instance loss. The instance loss trains the two-way classifier of the bag's class: the k most
    attended instances of the bag have target 1, the k least attended have target 0, and the loss is
    averaged over these 2k. Attention is taken after the softmax, and no gradient flows through the
    choice. With ``subtyping``, the k most attended instances of every other class also have target
    0 in the classifier of that class, and the loss is averaged over all classes. Both losses are
    computed for each bag as released and then averaged over bags.

    Compared with the release:

    - It trains on one bag per step and fails on bags of fewer than ``k_sample`` instances. Here
      such a bag has ``k = N``: each of its instances has target 1 and target 0.
    - Bags of fewer than ``2 k`` instances have their middle instances in both sets, as released.
    - ``dropout`` is the rate behind the embedding; in the attention, any rate but 0 means 0.25.
    - Classifiers of classes that no bag of a step trains get a zero gradient, so Adam's moments and
      weight decay still move them. In the release they get none.
    - Its documented commands draw bags balanced by class; here every bag is seen once per epoch.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        size: "small" or "big", attention width 256 or 384; the reference values were measured with
            small.
        gated: gated attention, the release's default, or plain.
        dropout: behind the embedding, and on or off in the attention; 0.25 in the released recipe.
        k_sample: most and least attended instances per bag; 8 in the release.
        subtyping: also train the instance classifiers of the other classes; off by default in the
            release, and meant for classes that exclude each other within a slide.
        instance_loss: "svm" as in the documented commands, or "ce", the default of the release's
            command line.
        bag_loss: "ce" as in the documented commands, or "svm".
        bag_weight: share of the bag loss, 0.7 in the release; 1 trains without the instance
            classifiers.
    """

    # The documented commands' learning rate (the command line's own default is 1e-4); weight decay
    # and epochs are the release's. Early stopping is off by default there, so there is no patience.
    paper = "Lu et al., Nature Biomedical Engineering 2021"
    link = "https://doi.org/10.1038/s41551-020-00682-w"
    recipe = Recipe(learning_rate=2e-4, weight_decay=1e-5, epochs=200)
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "dropout": Choice((0.0, 0.25)),
        "k_sample": Int(1, 64),
        "bag_weight": Float(0.3, 1.0),
        "size": Choice(("small", "big")),
    }
    map_meaning = "attention: the weight of the instance in the mean that is classified"
    # The demo checkpoint has names with "attention_net.module.". Without dropout, the release's
    # plain attention has one layer less before its last, which always has index 3 here.
    official_names = {
        "attention_net.module.": "attention_net.",
        "attention_net.3.module.2.": "attention_net.3.module.3.",
        "attention_net.module.3.module.2.": "attention_net.3.module.3.",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        size: str = "small",
        gated: bool = True,
        dropout: float = 0.25,
        k_sample: int = 8,
        subtyping: bool = False,
        instance_loss: str = "svm",
        bag_loss: str = "ce",
        bag_weight: float = 0.7,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        for setting, value, known in (
            ("size", size, _ATTENTION_WIDTHS),
            ("instance_loss", instance_loss, _LOSSES),
            ("bag_loss", bag_loss, _LOSSES),
        ):
            if value not in known:
                raise UnknownNameError(setting, value, known)
        self.k_sample, self.subtyping, self.bag_weight = k_sample, subtyping, bag_weight
        self.instance_loss, self.bag_loss = instance_loss, bag_loss
        attention = _GatedAttention if gated else _PlainAttention
        columns, self.classifiers = self._head(hierarchy.n_fine)
        self.attention_net = nn.Sequential(
            nn.Linear(in_dim, _WIDTH),
            nn.ReLU(inplace=True),
            Dropout(dropout),
            attention(_ATTENTION_WIDTHS[size], columns, _ATTENTION_DROPOUT if dropout else 0.0),
        )
        self.instance_classifiers = nn.ModuleList(nn.Linear(_WIDTH, 2) for _ in hierarchy.fine)

    @abstractmethod
    def _head(self, classes: int) -> tuple[int, nn.Module]:
        """Number of attention columns K, and the bag classifier."""

    @abstractmethod
    def _classify(self, pooled: Tensor) -> Tensor:
        """Logits ``[B, C]`` from pooled embeddings ``[B, K, 512]``."""

    def forward(self, bags: BagBatch) -> Output:
        """Logits and attention ``[N, K]``; extras: its raw scores, the embedding ``[N, 512]``."""
        embedded = self.attention_net[:3](bags.features)  # [N, 512]
        scores = self.attention_net[3](embedded)  # [N, K]
        attention = segment_softmax(scores, bags)
        pooled = attention_pool(attention, embedded, bags)  # [B, K, 512]
        return Output(
            self._classify(pooled),
            attention=attention,
            extras={"scores": scores, "embedded": embedded},
        )

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:  # noqa: ARG002  # of the contract
        """Bag loss and instance loss of each bag, averaged over bags by weight."""
        bag = self.bag_losses(out, bags)
        instance = self.instance_losses(out, bags)
        return weighted_mean(self.bag_weight * bag + (1 - self.bag_weight) * instance, weight)

    def bag_losses(self, out: Output, bags: BagBatch) -> Tensor:
        """Bag loss of each bag ``[B]``."""
        return _LOSSES[self.bag_loss](out.fine, bags.labels)

    def instance_losses(self, out: Output, bags: BagBatch) -> Tensor:
        """Instance loss of each bag ``[B]``."""
        clusters = self.clusters(out, bags)
        losses = _LOSSES[self.instance_loss](
            self.instance_logits(out, clusters), clusters.targets
        )  # [B, 2k, P]
        counted = clusters.counted.to(losses.dtype)
        return ((losses * counted).sum(1) / counted.sum(1)).mean(1)

    def clusters(self, out: Output, bags: BagBatch) -> Clusters:
        """The instances that train the instance classifiers, see ``subtyping``."""
        label = bags.labels[:, None]  # [B, 1]
        every = torch.arange(self.hierarchy.n_fine, device=label.device).expand(bags.n_bags, -1)
        classes = every if self.subtyping else label  # [B, P]
        assert out.attention is not None
        attention = out.attention.detach()
        if attention.shape[1] > 1:
            attention = attention.gather(1, classes[bags.bag_of])  # [N, P]
        rows, filled = extreme_rows(attention, bags, self.k_sample)
        is_label = (classes == label)[:, None]  # [B, 1, P]
        is_top = torch.arange(2 * self.k_sample, device=label.device) < self.k_sample
        is_top = is_top[:, None]  # [2k, 1]
        counted = filled[..., None] & (is_top | is_label)
        return Clusters(classes, rows, (is_top & is_label).long(), counted)

    def instance_logits(self, out: Output, clusters: Clusters) -> Tensor:
        """Logits of each set's classifier for its rows ``[B, 2k, P, 2]``."""
        # All classifiers are stacked, so that all get a gradient, whichever of them a batch uses.
        layers = [affine(layer) for layer in self.instance_classifiers]
        weights = torch.stack([weight for weight, _ in layers])[clusters.classes]  # [B, P, 2, 512]
        biases = torch.stack([bias for _, bias in layers])[clusters.classes]  # [B, P, 2]
        rows = clusters.rows
        embedded = out.extras["embedded"].index_select(0, rows.flatten()).unflatten(0, rows.shape)
        return torch.einsum("bkpm,bpom->bkpo", embedded, weights) + biases[:, None]

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the constant that the SVM loss stores in a released checkpoint."""
        state.pop("instance_loss_fn.labels", None)
        return super().from_official(state)


class CLAMSB(_CLAM):
    """CLAM, single branch: one attention for all classes, a linear classifier, instance clustering.

    With ``subtyping`` the same most attended instances have target 1 for the bag's class and 0 for
    all others. ``_CLAM`` describes the settings and the differences from the release.
    """

    def _head(self, classes: int) -> tuple[int, nn.Module]:
        return 1, nn.Linear(_WIDTH, classes)

    def _classify(self, pooled: Tensor) -> Tensor:
        return self.classifiers(pooled[:, 0])


class CLAMMB(_CLAM):
    """CLAM, multi branch: an attention and a linear score for each class, instance clustering.

    The attention of a class chooses the instances that train its instance classifier. ``_CLAM``
    describes the settings and the differences from the release.
    """

    classifiers: nn.ModuleList

    def _head(self, classes: int) -> tuple[int, nn.Module]:
        return classes, nn.ModuleList(nn.Linear(_WIDTH, 1) for _ in range(classes))

    def _classify(self, pooled: Tensor) -> Tensor:
        return torch.cat([layer(pooled[:, c]) for c, layer in enumerate(self.classifiers)], dim=1)
