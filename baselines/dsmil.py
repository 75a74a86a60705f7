"""Dual-stream MIL: the best instance of each class, and attention by likeness to it.

B. Li, Y. Li, K. Eliceiri, Dual-stream Multiple Instance Learning Network for Whole Slide Image Classification with
Self-supervised Contrastive Learning, CVPR 2021; released code binli123/dsmil-wsi (the script for whole slides).

Where the release is not what one expects:

- It scores a bag by the bag stream alone; the mean of both streams is the paper's, and the option called averaging
  sums them.
- Its option for dropout has no effect, since the script never switches the value map on that would drop.
- It stops, keeps an epoch and sets thresholds by the scores of the fold that it then reports.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.data.batch import BagBatch
from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.data.segments import attention_pool, segment_max, segment_softmax
from mil_bench.methods import Choice, Float, Method, Output, Recipe, weighted_mean
from mil_bench.methods.layers import Dropout, tanh_

_QUERY_WIDTH = 128  # of the released model


class DSMIL(Method):
    """Dual-stream MIL: a max-pooled instance classifier, and attention by likeness to its best instances.

    Every class has an output of its own (C = n_fine), trained as a yes-no question; labels become rows of one 1 and
    zeros. With ``none_class`` the first class has no output and is meant by zeros throughout (C = n_fine - 1), as a
    slide without tumour is in the release; two classes then make the release's model with C = 1.

    Of equal instance logits the first row of the bag wins; in the release that is left to an unstable sort.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        nonlinear: two layers with ReLU and tanh make the queries, as released; else one linear layer.
        passing_v: pool ``ReLU(Linear(D, D))`` of the features; the release pools the features themselves.
        dropout: before the layer that ``passing_v`` adds, and nowhere else; 0 in the release.
        none_class: the first fine class is the absence of all others; off, as in the release's model of TCGA lung.
        positive_weight: how much a present class counts in the loss against an absent one; 1 in the script for whole
            slides, while that for classical data takes absent / present among the training bags.
    """

    # train_tcga.py. It stops after more than 10 epochs without a better score, a mix of AUC and accuracy on the test
    # fold; here patience looks at the validation loss, as for every method.
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
    ):
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

        Extras: ``bag_logits`` and ``max_logits`` ``[B, C]``, ``instance_logits`` ``[N, C]``, ``critical`` ``[B, C]``
        (row of the batch with the highest instance logit), ``embeddings`` ``[B, C, D]``. Only logits of bags are
        sure to carry gradients.
        """
        instances, stream = self.i_classifier.fc[0], self.b_classifier
        if bags.n_bags == 1 and stream.is_released and not bags.features.requires_grad:
            weights = (*instances.parameters(), *stream.q.parameters(), *stream.fcc.parameters())
            bag_logits, max_logits, instance_logits, critical, attention, embeddings, *_ = _OneBag.apply(
                bags.features, *weights
            )
        else:
            # A thin product is faster with the rows of the bag as its columns.
            instance_logits = torch.addmm(instances.bias[:, None], instances.weight, bags.features.T).T  # [N, C]
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

        The release predicts by sigmoid, so the log of the sigmoid is what softmax turns into those very outputs, up to
        a sum of 1. The none class gets the log-probability that the likeliest other class is absent; where there is
        one other class, the softmax is exactly ``(1 - sigmoid, sigmoid)``.
        """
        present = F.logsigmoid(bag_logits)
        if not self.none_class:
            return present
        none = F.logsigmoid(-bag_logits).amin(1, keepdim=True)  # [B, 1]
        return torch.cat([none, present], dim=1)

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Half the binary cross-entropy of the bag stream and half that of the critical instances."""
        both = torch.stack([out.extras["bag_logits"], out.extras["max_logits"]], dim=1)  # [B, 2, C]
        return weighted_mean(self._entropies(both, bags).mean((1, 2)), weight)

    def loss_terms(self, out: Output, bags: BagBatch, weight: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy of both streams, averaged over the C outputs of a bag, then over bags by weight."""
        logits = {"bag": out.extras["bag_logits"], "max": out.extras["max_logits"]}
        return {
            name: weighted_mean(self._entropies(each[:, None], bags).mean((1, 2)), weight)
            for name, each in logits.items()
        }

    def _entropies(self, logits: Tensor, bags: BagBatch) -> Tensor:
        """Binary cross-entropy of every output: ``[B, streams, C]`` -> ``[B, streams, C]``."""
        classes = torch.arange(int(self.none_class), self.hierarchy.n_fine, device=bags.labels.device)
        present = (bags.labels[:, None] == classes)[:, None].to(logits.dtype).expand_as(logits)
        entropies = F.binary_cross_entropy_with_logits(logits, present, reduction="none")
        if self.positive_weight != 1:
            entropies = entropies * (1 + (self.positive_weight - 1) * present)
        return entropies


class _BagStream(nn.Module):
    """Attention by likeness to the critical instances, and a classifier that sees all class embeddings."""

    def __init__(self, in_dim: int, outputs: int, nonlinear: bool, passing_v: bool, dropout: float):
        super().__init__()
        self.q = nn.Linear(in_dim, _QUERY_WIDTH)
        if nonlinear:
            self.q = nn.Sequential(self.q, nn.ReLU(), nn.Linear(_QUERY_WIDTH, _QUERY_WIDTH), nn.Tanh())
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
        # The rows of the queries are the queries of the critical instances, so gradients flow through both sides.
        scores = _likeness(queries, queries[critical], bags) / math.sqrt(_QUERY_WIDTH)  # [N, C]
        attention = segment_softmax(scores, bags)
        embeddings = attention_pool(attention, self.v(bags.features), bags)  # [B, C, D]
        # A convolution as long as its input is one linear map of all embeddings, and as such it stacks.
        logits = F.linear(embeddings.flatten(1), self.fcc.weight.flatten(1), self.fcc.bias)  # [B, C]
        return logits, attention, embeddings


class _OneBag(torch.autograd.Function):
    """Both streams of the released architecture for a bag by itself, with their gradient written by hand.

    Steps of this method are small: autograd's calls, and products by the C outputs in the slower of their two
    orientations, took a sixth of them. Arguments are the features ``[N, D]``, then weight and bias of the instance
    classifier, of both layers of the queries and of ``fcc``; results are bag logits and maximal instance logits
    ``[1, C]``, and without gradient instance logits ``[N, C]``, critical rows ``[1, C]``, attention ``[N, C]``,
    embeddings ``[1, C, D]`` and both layers' outputs ``[N, Q]``.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        features: Tensor,
        i_weight: Tensor,
        i_bias: Tensor,
        a_weight: Tensor,
        a_bias: Tensor,
        b_weight: Tensor,
        b_bias: Tensor,
        fcc_weight: Tensor,
        fcc_bias: Tensor,
    ) -> tuple[Tensor, ...]:
        instances = torch.addmm(i_bias[:, None], i_weight, features.T)  # [C, N]
        critical = instances.argmax(1)  # [C]
        hidden = F.linear(features, a_weight, a_bias).relu_()
        queries = tanh_(F.linear(hidden, b_weight, b_bias))
        attention = (queries[critical] @ queries.T).div_(math.sqrt(_QUERY_WIDTH)).softmax(1)  # [C, N]
        embeddings = attention @ features  # [C, D]
        bag_logits = fcc_weight.flatten(1) @ embeddings.flatten() + fcc_bias
        max_logits = instances.gather(1, critical[:, None])[:, 0]
        return (
            bag_logits[None],
            max_logits[None],
            instances.T,
            critical[None],
            attention.T,
            embeddings[None],
            hidden,
            queries,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        features, _, _, _, _, b_weight, _, fcc_weight, _ = inputs
        _, _, *constants = output
        ctx.mark_non_differentiable(*constants)
        ctx.set_materialize_grads(False)
        _, critical, attention, embeddings, hidden, queries = constants
        ctx.save_for_backward(features, b_weight, fcc_weight, critical, attention, embeddings, hidden, queries)

    @staticmethod
    def backward(ctx: Any, to_bag: Tensor | None, to_max: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        features, b_weight, fcc_weight, critical, attention, embeddings, hidden, queries = ctx.saved_tensors
        nothing = features.new_zeros(critical.shape)  # a loss may be made of one stream
        to_bag, to_max = ((nothing if to is None else to)[0] for to in (to_bag, to_max))  # [C]
        attention, critical = attention.T, critical[0]
        to_embeddings = (to_bag @ fcc_weight.flatten(1)).view(fcc_weight.shape[1:])  # [C, D]
        to_attention = to_embeddings @ features.T  # [C, N]
        to_scores = attention * (to_attention - (attention * to_attention).sum(1, keepdim=True))
        to_scores = to_scores.div_(math.sqrt(_QUERY_WIDTH))
        # Critical instances take part twice: as rows of the bag, and as what those are compared with.
        to_queries = (to_scores.T @ queries[critical]).index_add_(0, critical, to_scores @ queries)
        to_queries = torch.ops.aten.tanh_backward(to_queries, queries)
        to_hidden = torch.ops.aten.threshold_backward(to_queries @ b_weight, hidden, 0)
        return (
            None,
            to_max[:, None] * features[critical],
            to_max,
            to_hidden.T @ features,
            to_hidden.sum(0),
            to_queries.T @ hidden,
            to_queries.sum(0),
            torch.outer(to_bag, embeddings.flatten()).view(fcc_weight.shape),
            to_bag,
        )


def _likeness(queries: Tensor, critical: Tensor, bags: BagBatch) -> Tensor:
    """Products ``[N, C]`` of each query ``[N, Q]`` with the critical ones of its bag ``[B, C, Q]``."""
    if bags.n_bags == 1:  # a matrix product is seven times faster than sums of products
        return queries @ critical[0].T
    columns = [(queries * column.index_select(0, bags.bag_of)).sum(1) for column in critical.unbind(1)]
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
