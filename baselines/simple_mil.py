"""SimpleMIL: gated attention that sees a part of the channels; a linear head on the raw features.

Luoxd1996/nnMIL, commit 0b0fd99. The following properties of the release are kept:

- A training step draws the channels that the attention sees, the same for all bags of the batch.
- Evaluation shuffles the channels in one fixed order (seed 42) and averages over windows of them.
- The dropout of both gate factors is 0.25; the plan of the release states a rate that it ignores.

The release fills short training bags with zero rows, without a mask; here no row is added. The
order of the channels comes from the CPU's generator on every device; in the release it depends on
the device.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_max, segment_softmax, segment_sum
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, Method, Output, Recipe
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

ACTIVATIONS = ("softmax", "sigmoid", "relu", "leaky_relu")
_ORDER_SEED = 42
_ROWS = 2**14  # that are scored at a time by all windows


class SimpleMIL(Method):
    """SimpleMIL: attention by random channels in training, by windows of them in evaluation.

    The head is linear, so the mean of the windows' logits is the logits of the bag pooled with the
    mean of their weights, from which comes the attention that ``forward`` returns.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        hidden: width of the attention, and number of channels that it sees (at most D); 0 takes
            the release's ``max(256, D // 4)``.
        dropout: of both gate factors, 0.25 in the release.
        activation: what turns scores into weights: "softmax" (the release's default), "sigmoid",
            "relu" or "leaky_relu". Only the softmax gives weights that sum to 1 over a bag. Bags
            are pooled with the weights as they are; the returned attention is shifted if a weight
            of the bag is negative, and divided by its sum.
        stride_divisor: windows start every ``channels // stride_divisor`` channels, 4 in the
            release.
        select: draw channels and use the gate; without it the attention is one tanh layer of all
            channels (``no_feature_select`` in the release).
    """

    # The planner of the release for fewer than 200 slides; warm-up and samplers are left out.
    paper = "Luoxd1996/nnMIL (code)"
    link = "https://github.com/Luoxd1996/nnMIL"
    recipe = Recipe(
        learning_rate=3e-4,
        epochs=100,
        batch_size=16,
        optimizer="adamw",
        weight_decay=1e-4,
        schedule="cosine",
        patience=10,
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "hidden": Choice((0, 128, 256, 512)),
        "dropout": Float(0.0, 0.5),
    }
    map_meaning = "attention: the weight of the instance, averaged over windows of channels"

    _order: Tensor

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        hidden: int = 0,
        dropout: float = 0.25,
        activation: str = "softmax",
        stride_divisor: int = 4,
        select: bool = True,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        problems = [] if activation in ACTIVATIONS else [f"activation is {activation!r}"]
        problems += [] if hidden >= 0 else [f"hidden is {hidden}"]
        problems += [] if stride_divisor >= 1 else [f"stride_divisor is {stride_divisor}"]
        if problems:
            remedy = f"activation is one of {', '.join(ACTIVATIONS)}; hidden >= 0, divisor >= 1."
            raise InputError("building SimpleMIL", problems, remedy)
        hidden = hidden or max(256, in_dim // 4)
        self.keep, self.select, self.activation = min(hidden, in_dim), select, activation
        self.starts = _starts(in_dim, self.keep, stride_divisor)
        self.V, self.U = nn.Linear(in_dim, hidden), nn.Linear(in_dim, hidden)
        self.w, self.cls = nn.Linear(hidden, 1), nn.Linear(in_dim, hierarchy.n_fine)
        self.drop = Dropout(dropout)
        made = torch.Generator().manual_seed(_ORDER_SEED)
        order = torch.randperm(in_dim, generator=made)
        self.register_buffer("_order", order, persistent=False)

    def forward(self, bags: BagBatch) -> Output:
        """Logits and attention ``[N, 1]``; training draws the channels.

        Extras: ``weights`` ``[N, 1]``, with which the bag is pooled; ``embeddings`` ``[B, D]``.
        """
        if self.training and self.select and self.keep < self.in_dim:
            channels = torch.randperm(self.in_dim)[: self.keep]
            return self.seeing(bags, channels.to(bags.features.device, non_blocking=True))
        if not self.select:
            scores = self.w(self.drop(torch.tanh(self.V(bags.features))))
            return self._pooled(bags, self._attention(scores, bags))
        return self._pooled(bags, self.windows(bags).mean(1, keepdim=True))

    def seeing(self, bags: BagBatch, channels: Tensor) -> Output:
        """``forward`` with the attention of some channels ``[K]``."""
        rows = bags.features.index_select(1, channels)
        v, u = (
            F.linear(rows, m.weight.index_select(1, channels), m.bias) for m in (self.V, self.U)
        )
        return self._pooled(bags, self._attention(self._score(v, u), bags))

    def windows(self, bags: BagBatch) -> Tensor:
        """Attention of each window of the shuffled channels ``[N, W]``.

        Each stretch between two limits of windows is multiplied once, and a window adds its own.
        Rows are scored in blocks: the products of a large bag would take gigabytes.
        """
        limits = sorted({0, *self.starts, *(start + self.keep for start in self.starts)})
        both, bias = (
            torch.cat([self.V.weight, self.U.weight]),
            torch.cat([self.V.bias, self.U.bias]),
        )

        def scores(rows: Tensor) -> Tensor:  # [rows, W]
            products = {}
            for first, last in pairwise(limits):
                part = self._order[first:last]
                products[first] = F.linear(rows.index_select(1, part), both.index_select(1, part))
            columns = []
            for start in self.starts:
                inside = [p for first, p in products.items() if start <= first < start + self.keep]
                columns.append(self._score(*(torch.stack(inside).sum(0) + bias).chunk(2, dim=1)))
            return torch.cat(columns, dim=1)

        blocks = [scores(rows) for rows in bags.features.split(_ROWS)]
        return self._attention(torch.cat(blocks), bags)

    def _score(self, v: Tensor, u: Tensor) -> Tensor:
        return self.w(self.drop(torch.tanh(v)) * self.drop(torch.sigmoid(u)))

    def _attention(self, scores: Tensor, bags: BagBatch) -> Tensor:
        if self.activation == "softmax":
            return segment_softmax(scores, bags)
        activations: dict[str, Callable[[Tensor], Tensor]] = {
            "sigmoid": torch.sigmoid,
            "relu": F.relu,
            "leaky_relu": F.leaky_relu,
        }
        return activations[self.activation](scores)

    def _pooled(self, bags: BagBatch, weights: Tensor) -> Output:
        embeddings = attention_pool(weights, bags.features, bags)[:, 0]
        return Output(
            fine=self.cls(embeddings),
            attention=weights if self.activation == "softmax" else _shares(weights, bags),
            extras={"embeddings": embeddings, "weights": weights},
        )


def _shares(weights: Tensor, bags: BagBatch) -> Tensor:
    """Any weights as attention that sums to 1 over each bag, in the same order ``[N, 1]``.

    Weights that are all equal and not positive, such as zeros, give equal shares.
    """
    lowest = -segment_max(-weights, bags).clamp(min=0)  # [B, 1], 0 if no weight is negative
    positive = weights - lowest[bags.bag_of]
    total = segment_sum(positive, bags)
    is_empty = total <= 0
    positive = torch.where(is_empty[bags.bag_of], 1.0, positive)
    total = torch.where(is_empty, bags.sizes[:, None].to(total.dtype), total)
    return positive / total[bags.bag_of]


def _starts(width: int, keep: int, divisor: int) -> list[int]:
    """First channels of the windows; the last window ends with the last channel."""
    starts = list(range(0, width - keep + 1, max(1, keep // divisor)))
    return starts if starts[-1] == width - keep else [*starts, width - keep]
