"""Dual-stream MIL: the best instance of each class, and attention by likeness to it.

B. Li, Y. Li, K. Eliceiri, Dual-stream Multiple Instance Learning Network for Whole Slide Image
Classification with Self-supervised Contrastive Learning, CVPR 2021; released code
binli123/dsmil-wsi (the script for whole slides).

Where the release is not what one expects:

- It scores a bag by the bag stream alone; the mean of both streams is the paper's, and the option
  called averaging sums them.
- Its option for dropout has no effect, since the script never switches the value map on that would
  drop.
- It stops, keeps an epoch and sets thresholds by the scores of the fold that it then reports.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_max, segment_softmax
from mil_bench.methods import Choice, Float, Method, Output, Recipe, add_gradients, weighted_mean
from mil_bench.methods.layers import Dropout, blocks, tanh_

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

_QUERY_WIDTH = 128  # of the released model


class DSMIL(Method):
    """Dual-stream MIL: a max-pooled instance classifier, and attention by likeness to its best instances.

    Every class has an output of its own (C = n_fine), trained as a yes-no question; labels become
    rows of one 1 and zeros. With ``none_class`` the first class has no output and is meant by zeros
    throughout (C = n_fine - 1), as a slide without tumour is in the release; two classes then make
    the release's model with C = 1.

    Of equal instance logits the first row of the bag wins; in the release that is left to an
    unstable sort.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        nonlinear: two layers with ReLU and tanh make the queries, as released; else one linear
            layer.
        passing_v: pool ``ReLU(Linear(D, D))`` of the features; the release pools the features
            themselves.
        dropout: before the layer that ``passing_v`` adds, and nowhere else; 0 in the release.
        none_class: the first fine class is the absence of all others; off, as in the release's
            model of TCGA lung.
        positive_weight: how much a present class counts in the loss against an absent one; 1 in the
            script for whole slides, while that for classical data takes absent / present among the
            training bags.
    """

    # train_tcga.py. It stops after more than 10 epochs without a better score, a mix of AUC and
    # accuracy on the test fold; here patience looks at the validation loss, as for every method.
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
                nn.init.orthogonal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, bags: BagBatch) -> Output:
        """Log-probabilities as logits, the attention ``[N, C]``, and the logits of both streams.

        Extras: ``bag_logits`` and ``max_logits`` ``[B, C]``, ``instance_logits`` ``[N, C]``,
        ``critical`` ``[B, C]`` (row of the batch with the highest instance logit), ``embeddings``
        ``[B, C, D]``.
        """
        instances, stream = self.i_classifier.fc[0], self.b_classifier
        # A thin product is faster with the rows of the bag as its columns.
        instance_logits = torch.addmm(
            instances.bias[:, None], instances.weight, bags.features.T
        ).T  # [N, C]
        critical = _first_maximum(instance_logits, bags)  # [B, C]
        max_logits = instance_logits.gather(0, critical)
        bag_logits, attention, embeddings = stream(bags, critical)
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

    def _class_scores(self, bag_logits: Tensor) -> Tensor:
        """``[B, C]`` to logits ``[B, n_fine]`` whose softmax is the sigmoid outputs over their sum.

        The release predicts by sigmoid, so the log of the sigmoid is what softmax turns into those
        very outputs, up to a sum of 1. The none class gets the log-probability that the likeliest
        other class is absent; where there is one other class, the softmax is exactly ``(1 -
        sigmoid, sigmoid)``.
        """
        present = F.logsigmoid(bag_logits)
        if not self.none_class:
            return present
        none = F.logsigmoid(-bag_logits).amin(1, keepdim=True)  # [B, 1]
        return torch.cat([none, present], dim=1)

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Half the binary cross-entropy of the bag stream and half that of the critical instances."""
        both = torch.stack([out.extras["bag_logits"], out.extras["max_logits"]], dim=1)  # [B, 2, C]
        return weighted_mean(self._entropies(both, self._present(bags, both)).mean((1, 2)), weight)

    def loss_terms(self, out: Output, bags: BagBatch, weight: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy of both streams, averaged over the C outputs of a bag, then over bags by weight."""
        logits = {
            "bag": out.extras["bag_logits"][:, None],
            "max": out.extras["max_logits"][:, None],
        }
        return {
            name: weighted_mean(
                self._entropies(each, self._present(bags, each)).mean((1, 2)), weight
            )
            for name, each in logits.items()
        }

    def _present(self, bags: BagBatch, like: Tensor) -> Tensor:
        """1 for the class of the bag, else 0: ``[B, streams, C]`` like these logits."""
        classes = torch.arange(
            int(self.none_class), self.hierarchy.n_fine, device=bags.labels.device
        )
        return (bags.labels[:, None] == classes)[:, None].to(like.dtype).expand_as(like)

    def _entropies(self, logits: Tensor, present: Tensor) -> Tensor:
        """Binary cross-entropy of every output ``[B, streams, C]``."""
        entropies = F.binary_cross_entropy_with_logits(logits, present, reduction="none")
        return entropies if self.positive_weight == 1 else entropies * self._importance(present)

    def _importance(self, present: Tensor) -> Tensor:
        """How much each output counts."""
        return 1 + (self.positive_weight - 1) * present

    def backward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Of one bag, the recipe's batch, and the released architecture: written by hand, else autograd's.

        Steps of this method are small: autograd's calls took a sixth of one at 120 rows (measured).
        """
        if bags.n_bags > 1 or not self.b_classifier.is_released:
            return super().backward(bags, weight, progress)
        with torch.no_grad():
            return self._one_bag(bags, weight)

    def _one_bag(self, bags: BagBatch, weight: Tensor) -> Tensor:
        """Loss and gradients of a bag by itself."""
        instances, (first, _, second, _), last = (
            self.i_classifier.fc[0],
            self.b_classifier.q,
            self.b_classifier.fcc,
        )
        features, fcc, scale = bags.features, last.weight.flatten(1), 1 / math.sqrt(_QUERY_WIDTH)
        instance_logits, hidden, queries = self._rows(features)  # [C, N], [N, Q], [N, Q]
        critical = instance_logits.argmax(1)
        keys = queries[critical]
        attention = (keys @ queries.T).mul_(scale).softmax(1)  # [C, N]
        embeddings = attention @ features  # [C, D]
        max_logits = instance_logits.gather(1, critical[:, None])[:, 0]
        both = torch.stack([torch.addmv(last.bias, fcc, embeddings.flatten()), max_logits])[
            None
        ]  # [1, 2, C]
        present = self._present(bags, both)
        loss = weighted_mean(self._entropies(both, present).mean((1, 2)), weight)

        to_both = both.sigmoid().sub_(present).div_(both.numel())
        to_both = to_both if self.positive_weight == 1 else to_both * self._importance(present)
        to_bag, to_max = torch.where(weight > 0, to_both, 0.0)[0]
        to_attention = (to_bag @ fcc).view_as(embeddings) @ features.T  # [C, N]
        to_scores = torch.ops.aten._softmax_backward_data(
            to_attention, attention, 1, attention.dtype
        ).mul_(scale)
        # Critical instances take part twice: as rows of the bag, and as what those are compared
        # with.
        to_queries = (to_scores.T @ keys).index_add_(0, critical, to_scores @ queries)
        to_queries = torch.ops.aten.tanh_backward(to_queries, queries)
        to_hidden = torch.ops.aten.threshold_backward(to_queries @ second.weight, hidden, 0)
        add_gradients(
            [
                (instances.weight, to_max[:, None] * features[critical]),
                (instances.bias, to_max),
                (first.weight, to_hidden.T @ features),
                (first.bias, to_hidden.sum(0)),
                (second.weight, to_queries.T @ hidden),
                (second.bias, to_queries.sum(0)),
                (last.weight, torch.outer(to_bag, embeddings.flatten()).view_as(last.weight)),
                (last.bias, to_bag),
            ]
        )
        return loss

    def _rows(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Instance logits ``[C, N]``, and what both layers of the queries make of the rows, ``[N, Q]`` each."""
        instances, (first, _, second, _) = self.i_classifier.fc[0], self.b_classifier.q
        logits = features.new_empty(len(instances.bias), len(features))
        hidden, queries = (features.new_empty(len(features), _QUERY_WIDTH) for _ in range(2))
        for rows in blocks(features):
            own = features[rows]
            torch.addmm(instances.bias[:, None], instances.weight, own.T, out=logits[:, rows])
            torch.addmm(first.bias, own, first.weight.T, out=hidden[rows]).relu_()
            tanh_(torch.addmm(second.bias, hidden[rows], second.weight.T, out=queries[rows]))
        return logits, hidden, queries


class _BagStream(nn.Module):
    """Attention by likeness to the critical instances, and a classifier that sees all class embeddings."""

    def __init__(
        self, in_dim: int, outputs: int, nonlinear: bool, passing_v: bool, dropout: float
    ) -> None:
        super().__init__()
        self.q = nn.Linear(in_dim, _QUERY_WIDTH)
        if nonlinear:
            self.q = nn.Sequential(
                self.q, nn.ReLU(), nn.Linear(_QUERY_WIDTH, _QUERY_WIDTH), nn.Tanh()
            )
        self.v = (
            nn.Sequential(Dropout(dropout), nn.Linear(in_dim, in_dim), nn.ReLU(inplace=True))
            if passing_v
            else nn.Identity()
        )
        self.fcc = nn.Conv1d(outputs, outputs, kernel_size=in_dim)

    @property
    def is_released(self) -> bool:
        """Whether queries have two layers, and the features themselves are pooled."""
        return not isinstance(self.q, nn.Linear) and isinstance(self.v, nn.Identity)

    def forward(self, bags: BagBatch, critical: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bag logits ``[B, C]``, attention ``[N, C]`` and embeddings ``[B, C, D]`` for critical rows ``[B, C]``."""
        queries = self.q(bags.features)  # [N, Q]
        # The rows of the queries are the queries of the critical instances, so gradients flow
        # through both sides.
        scores = _likeness(queries, queries[critical], bags) / math.sqrt(_QUERY_WIDTH)  # [N, C]
        attention = segment_softmax(scores, bags)
        embeddings = attention_pool(attention, self.v(bags.features), bags)  # [B, C, D]
        # A convolution as long as its input is one linear map of all embeddings, and as such it
        # stacks.
        logits = F.linear(
            embeddings.flatten(1), self.fcc.weight.flatten(1), self.fcc.bias
        )  # [B, C]
        return logits, attention, embeddings


def _likeness(queries: Tensor, critical: Tensor, bags: BagBatch) -> Tensor:
    """Products ``[N, C]`` of each query ``[N, Q]`` with the critical ones of its bag ``[B, C, Q]``."""
    if bags.n_bags == 1:  # a matrix product is seven times faster than sums of products
        return queries @ critical[0].T
    columns = [
        (queries * column.index_select(0, bags.bag_of)).sum(1) for column in critical.unbind(1)
    ]
    return torch.stack(columns, dim=1)


def _first_maximum(scores: Tensor, bags: BagBatch) -> Tensor:
    """Row of the highest score of each bag, column by column: ``[N, C]`` -> ``[B, C]``; the first of equals."""
    if bags.n_bags == 1:
        return scores.detach().argmax(0, keepdim=True)
    highest = segment_max(scores.detach(), bags)  # [B, C]
    last = len(scores) - 1
    rows = torch.arange(len(scores), device=scores.device)[:, None]
    reached = torch.where(scores == highest[bags.bag_of], rows, last)  # [N, C]
    index = bags.bag_of[:, None].expand_as(reached)
    return reached.new_full(highest.shape, last).scatter_reduce(0, index, reached, "amin")
