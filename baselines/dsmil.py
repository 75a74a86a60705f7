"""Dual-stream MIL: the best instance of each class, and attention by likeness to it.

B. Li, Y. Li, K. Eliceiri, Dual-stream Multiple Instance Learning Network for Whole Slide Image
Classification with Self-supervised Contrastive Learning, CVPR 2021; released code
binli123/dsmil-wsi (the script for whole slides).

Three things about the release may surprise:

- It scores a bag by the bag stream alone. The mean of both streams is in the paper only, and the
  option called averaging sums them.
- Its dropout option has no effect: dropout belongs to the value map, which the script never
  switches on.
- It stops early, selects the epoch and sets thresholds by the scores of the fold that it reports.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_max, segment_softmax
from mil_bench.methods import Choice, Float, InstanceMap, Method, Output, Recipe, weighted_mean
from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.dsmil_step import DualStreamLayers, dual_stream_step
from mil_bench.methods.fused.linear import affine

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

_QUERY_WIDTH = 128  # of the released model


class DSMIL(Method):
    """Dual-stream MIL: max-pooled instance classifier, attention by similarity to top instances.

    Every class has its own output (C = n_fine), trained as a binary question against one-hot
    labels. With ``none_class`` the first class has no output and its label is all zeros
    (C = n_fine - 1), as for a slide without tumour in the release; two classes then give the
    release's model with C = 1.

    Among equal instance logits the first row of the bag is the critical one; in the release an
    unstable sort decides.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        nonlinear: compute the queries with two layers, ReLU and tanh, as released; otherwise with
            one linear layer.
        passing_v: pool ``ReLU(Linear(D, D))`` of the features; the release pools the features
            themselves.
        dropout: before the layer that ``passing_v`` adds, and nowhere else; 0 in the release.
        none_class: the first fine class means that all others are absent; off, as in the release's
            model for TCGA lung.
        positive_weight: weight of a present class in the loss relative to an absent one; 1 in the
            script for whole slides, absent / present among the training bags in that for classical
            data.
    """

    # train_tcga.py. It stops after more than 10 epochs without a better score, a mix of AUC and
    # accuracy on the test fold; here patience counts on the validation loss, as for every method.
    paper = "Li et al., CVPR 2021"
    link = "https://arxiv.org/abs/2011.08939"
    recipe = Recipe(
        learning_rate=1e-4,
        epochs=50,
        weight_decay=1e-3,
        betas=(0.5, 0.9),
        schedule="cosine",
        final_learning_rate=5e-6,
        patience=11,
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "nonlinear": Choice((True, False)),
        "passing_v": Choice((False, True)),
        "dropout": Float(0.0, 0.5),
    }
    map_meaning = "attention: the weight of the instance in the class's embedding"
    # The release's instance classifier behind an image backbone lacks the index of the layer.
    official_names = {
        "i_classifier.fc.weight": "i_classifier.fc.0.weight",
        "i_classifier.fc.bias": "i_classifier.fc.0.bias",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        nonlinear: bool = True,
        passing_v: bool = False,
        dropout: float = 0.0,
        none_class: bool = False,
        positive_weight: float = 1.0,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        self.none_class, self.positive_weight = none_class, positive_weight
        outputs = hierarchy.n_fine - none_class
        self.i_classifier = nn.Sequential(OrderedDict(fc=nn.Sequential(nn.Linear(in_dim, outputs))))
        self.b_classifier = _BagStream(in_dim, outputs, nonlinear, passing_v, dropout)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d):
                weight, bias = affine(layer)
                nn.init.orthogonal_(weight)
                nn.init.zeros_(bias)

    def forward(self, bags: BagBatch) -> Output:
        """Log-probabilities as logits, the attention ``[N, C]``, and the logits of both streams.

        Extras: ``bag_logits`` and ``max_logits`` ``[B, C]``, ``instance_logits`` ``[N, C]``,
        ``critical`` ``[B, C]`` (row of the batch with the highest instance logit), ``embeddings``
        ``[B, C, D]``.
        """
        weight, bias = affine(self.i_classifier)
        # A thin product is faster with the rows of the bag as its columns.
        instance_logits = torch.addmm(bias[:, None], weight, bags.features.T).T  # [N, C]
        critical = _first_maximum(instance_logits, bags)  # [B, C]
        max_logits = instance_logits.gather(0, critical)
        bag_logits, attention, embeddings = self.b_classifier(bags, critical)
        return Output(
            fine=self._class_scores(bag_logits),
            attention=attention,
            extras={
                "bag_logits": bag_logits,
                "max_logits": max_logits,
                "instance_logits": instance_logits,
                "critical": critical,
                "embeddings": embeddings,
            },
        )

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """The attention of every class that has an output ``[N, C]``."""
        attention = self(bags).attention
        assert attention is not None
        return InstanceMap(attention, tuple(range(int(self.none_class), self.hierarchy.n_fine)))

    def _class_scores(self, bag_logits: Tensor) -> Tensor:
        """``[B, C]`` to logits ``[B, n_fine]`` whose softmax is the sigmoid outputs over their sum.

        The release predicts by sigmoid, and softmax turns the log of the sigmoid into those
        outputs, up to a sum of 1. The none class gets the log-probability that the most probable
        other class is absent; if there is one other class, the softmax is exactly ``(1 - sigmoid,
        sigmoid)``.
        """
        present = F.logsigmoid(bag_logits)
        if not self.none_class:
            return present
        none = F.logsigmoid(-bag_logits).amin(1, keepdim=True)  # [B, 1]
        return torch.cat([none, present], dim=1)

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:  # noqa: ARG002  # of the contract
        """Mean of the binary cross-entropies of the bag stream and the critical instances."""
        both = torch.stack([out.extras["bag_logits"], out.extras["max_logits"]], dim=1)  # [B, 2, C]
        return weighted_mean(self._entropies(both, self._present(bags, both)).mean((1, 2)), weight)

    def loss_terms(self, out: Output, bags: BagBatch, weight: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy of each stream, averaged over outputs, then over bags by weight."""
        terms = {}
        for name in ("bag", "max"):
            logits = out.extras[f"{name}_logits"][:, None]
            entropies = self._entropies(logits, self._present(bags, logits))
            terms[name] = weighted_mean(entropies.mean((1, 2)), weight)
        return terms

    def _present(self, bags: BagBatch, like: Tensor) -> Tensor:
        """1 for the class of the bag, 0 for others ``[B, streams, C]``, as these logits."""
        return self._is_label(bags)[:, None].to(like.dtype).expand_as(like)

    def _is_label(self, bags: BagBatch) -> Tensor:
        """Whether an output is that of the bag's class: ``[B, C]``."""
        first = int(self.none_class)
        classes = torch.arange(first, self.hierarchy.n_fine, device=bags.labels.device)
        return bags.labels[:, None] == classes

    def _entropies(self, logits: Tensor, present: Tensor) -> Tensor:
        """Binary cross-entropy of every output ``[B, streams, C]``."""
        entropies = F.binary_cross_entropy_with_logits(logits, present, reduction="none")
        if self.positive_weight == 1:
            return entropies
        return entropies * (1 + (self.positive_weight - 1) * present)

    def backward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss and its gradients; written by hand for one bag and the released architecture."""
        layers = self.b_classifier.released_layers(self.i_classifier)
        if bags.n_bags > 1 or layers is None:
            return super().backward(bags, weight, progress)
        is_label = self._is_label(bags)
        return dual_stream_step(layers, bags.features, is_label, weight, self.positive_weight)


class _BagStream(nn.Module):
    """Attention by similarity to the critical instances; a classifier of all class embeddings."""

    def __init__(
        self, in_dim: int, outputs: int, nonlinear: bool, passing_v: bool, dropout: float
    ) -> None:
        super().__init__()
        first = nn.Linear(in_dim, _QUERY_WIDTH)
        self.q: nn.Linear | nn.Sequential = first
        if nonlinear:
            second = nn.Linear(_QUERY_WIDTH, _QUERY_WIDTH)
            self.q = nn.Sequential(first, nn.ReLU(), second, nn.Tanh())
        self.v: nn.Sequential | nn.Identity = nn.Identity()
        if passing_v:
            layer = nn.Linear(in_dim, in_dim)
            self.v = nn.Sequential(Dropout(dropout), layer, nn.ReLU(inplace=True))
        self.fcc = nn.Conv1d(outputs, outputs, kernel_size=in_dim)

    def released_layers(self, instances: nn.Module) -> DualStreamLayers | None:
        """All maps if queries have two layers and the features themselves are pooled."""
        if isinstance(self.q, nn.Linear) or not isinstance(self.v, nn.Identity):
            return None
        first, second = affine(self.q[0]), affine(self.q[2])
        return DualStreamLayers(affine(instances), first, second, affine(self.fcc))

    def forward(self, bags: BagBatch, critical: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bag logits ``[B, C]``, attention ``[N, C]`` and embeddings ``[B, C, D]``.

        Args:
            bags: the batch.
            critical: rows of the batch with the highest instance logits ``[B, C]``.
        """
        queries = self.q(bags.features)  # [N, Q]
        # Gradients flow through both factors: the critical queries are rows of the queries.
        scores = _similarity(queries, queries[critical], bags) / math.sqrt(_QUERY_WIDTH)  # [N, C]
        attention = segment_softmax(scores, bags)
        embeddings = attention_pool(attention, self.v(bags.features), bags)  # [B, C, D]
        # A convolution as long as its input is one linear map of all embeddings, and in this form
        # it runs under vmap.
        weight = self.fcc.weight.flatten(1)
        logits = F.linear(embeddings.flatten(1), weight, self.fcc.bias)  # [B, C]
        return logits, attention, embeddings


def _similarity(queries: Tensor, critical: Tensor, bags: BagBatch) -> Tensor:
    """Products of queries ``[N, Q]`` with the critical ones of their bag ``[B, C, Q]``."""
    if bags.n_bags == 1:  # a matrix product is seven times faster than sums of products
        return queries @ critical[0].T
    columns = [
        (queries * column.index_select(0, bags.bag_of)).sum(1) for column in critical.unbind(1)
    ]
    return torch.stack(columns, dim=1)


def _first_maximum(scores: Tensor, bags: BagBatch) -> Tensor:
    """First row with the highest score, per bag and column: ``[N, C]`` -> ``[B, C]``."""
    if bags.n_bags == 1:
        return scores.detach().argmax(0, keepdim=True)
    highest = segment_max(scores.detach(), bags)  # [B, C]
    last = len(scores) - 1
    rows = torch.arange(len(scores), device=scores.device)[:, None]
    reached = torch.where(scores == highest[bags.bag_of], rows, last)  # [N, C]
    index = bags.bag_of[:, None].expand_as(reached)
    return reached.new_full(highest.shape, last).scatter_reduce(0, index, reached, "amin")
