"""WiKG: every instance gathers a message from the instances that suit it best.

J. Li et al., Dynamic Graph Representation with Knowledge-aware Attention for Histopathology Whole
Slide Image Analysis, CVPR 2024; released code WonderLandxD/WiKG (without a licence: written from a
description). Three things about the release may surprise:

- The score of a neighbour is a product of two sums over channels. In the paper it is the dot
  product of tail and gate, see ``neighbour_score``. With the product, the attention over the
  neighbours is close to choosing one of them.
- It fails on bags of fewer instances than neighbours. Here such a bag has fewer neighbours.
- Three layers of it are never used; they are left out here.

The release holds the scores of all pairs of instances. Here neighbours are found block by block,
without a gradient, and the scores of the chosen ones are computed again: values and gradients are
the same, and 64 MB of scores are held at a time. Evaluation goes through a large bag in blocks, of
which the messages are computed at once. Its time still grows with the square of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_max, segment_mean, segment_softmax
from mil_bench.devices import exact_products
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, Int, Method, Output, Recipe
from mil_bench.methods.fused import large_bags
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

AGGREGATIONS = ("bi-interaction", "gcn", "sage")
POOLINGS = ("mean", "max", "attention")
SCORES = ("product", "dot")
_PAIRS = 2**24  # scores that are held at a time
_UNUSED = ("gate_U.", "gate_V.", "gate_W.")


class WiKG(Method):
    """WiKG: each instance takes a message from those whose tail suits its head best.

    The scores of all pairs of rows are computed, so that twice the rows take four times as long:
    56 seconds of one core for 50,000 rows (measured), so about 15 minutes for 200,000.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        neighbours: k; a bag of fewer instances has as many as it has.
        aggregation: how a row takes its message: "bi-interaction", "gcn" (their sum) or "sage"
            (both side by side).
        pooling: "mean", as the release is trained, "max" or "attention".
        neighbour_score: "product" of two sums, as released, or "dot", as in the paper.
        embed_dim: width H.
        dropout: of the updated rows.
    """

    # train.py. It keeps a best epoch for each of five metrics of the validation part.
    paper = "Li et al., CVPR 2024"
    link = "https://arxiv.org/abs/2403.07719"
    recipe = Recipe(learning_rate=1e-4, epochs=100, weight_decay=1e-5)
    search_space = {
        "learning_rate": Float(1e-5, 1e-3, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "neighbours": Int(2, 12),
        "pooling": Choice(POOLINGS),
        "dropout": Float(0.0, 0.5),
    }
    map_meaning = "attention of the pooling: the weight of the instance after its messages"
    official_names = {
        "_fc1.0.": "embed.",
        "W_head.": "head.",
        "W_tail.": "tail.",
        "linear1.": "update.0.",
        "linear2.": "update.1.",
        "linear.": "update.0.",
        "fc.": "classifier.",
        "readout.gate_nn.": "gate.",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        neighbours: int = 6,
        aggregation: str = "bi-interaction",
        pooling: str = "mean",
        neighbour_score: str = "product",
        embed_dim: int = 512,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        problems = [
            f"{name}='{value}' is none of {', '.join(known)}"
            for name, value, known in (
                ("aggregation", aggregation, AGGREGATIONS),
                ("pooling", pooling, POOLINGS),
                ("neighbour_score", neighbour_score, SCORES),
            )
            if value not in known
        ]
        if neighbours < 1:
            problems.append(f"neighbours={neighbours} is not 1 or more")
        if problems:
            raise InputError(
                "wikg", problems, "The docstring of the method says what each setting means."
            )
        self.neighbours, self.aggregation = neighbours, aggregation
        self.pooling, self.neighbour_score = pooling, neighbour_score
        if pooling == "mean":
            self.without_map = "averages its rows, which all have the same weight"
        elif pooling == "max":
            self.without_map = "takes each unit of the embedding from another instance"
        self.embed = nn.Linear(in_dim, embed_dim)
        self.head = nn.Linear(embed_dim, embed_dim)
        self.tail = nn.Linear(embed_dim, embed_dim)
        widths = {"bi-interaction": [embed_dim] * 2, "gcn": [embed_dim], "sage": [2 * embed_dim]}
        self.update = nn.ModuleList(nn.Linear(width, embed_dim) for width in widths[aggregation])
        self.activation = nn.LeakyReLU()
        self.dropout = Dropout(dropout)
        half = embed_dim // 2
        self.gate = (
            nn.Sequential(nn.Linear(embed_dim, half), nn.LeakyReLU(), nn.Linear(half, 1))
            if pooling == "attention"
            else None
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.classifier = nn.Linear(embed_dim, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits, and with attention pooling the attention ``[N, 1]``.

        Extras: ``embedding`` ``[B, H]`` after normalisation.
        """
        if large_bags.has_large_bag(bags, self):
            updated = self._updated_in_blocks(bags)
        else:
            updated = self.dropout(self.updated(self.mixed(bags), bags))
        attention = None
        if self.gate is not None:
            attention = segment_softmax(self.gate(updated), bags)
            pooled = attention_pool(attention, updated, bags)[:, 0]
        else:
            pooled = (segment_max if self.pooling == "max" else segment_mean)(updated, bags)
        embedding = self.norm(pooled)
        return Output(self.classifier(embedding), None, attention, {"embedding": embedding})

    def mixed(self, bags: BagBatch) -> Tensor:
        """The embedding of each row, averaged with that of its bag ``[N, H]``."""
        embedded = self.activation(self.embed(bags.features))
        return (embedded + segment_mean(embedded, bags)[bags.bag_of]) / 2

    def updated(self, mixed: Tensor, bags: BagBatch) -> Tensor:
        """The rows with the messages of their neighbours ``[N, H]``."""
        heads, tails = self.head(mixed), self.tail(mixed)
        # In half precision other neighbours would be chosen.
        with exact_products(heads.device):
            heads, tails = _exact(heads), _exact(tails)
            message = self.messages(heads, tails, bags)["message"]
        return self._taken(heads, message)

    def _updated_in_blocks(self, bags: BagBatch) -> Tensor:
        """``updated`` of ``mixed`` in evaluation; of all rows it holds two embeddings."""
        rows = large_bags.in_blocks(lambda part: self.activation(self.embed(part)), bags.features)
        step = max(1, large_bags.ROWS // self.neighbours)
        for own in rows.split(bags.lengths):
            own.add_(own.mean(0)).div_(2)
            tails = _exact(large_bags.in_blocks(self.tail, own))
            sums, k = tails.sum(1), min(self.neighbours, len(own))
            for block in own.split(step):
                heads = _exact(self.head(block))
                with exact_products(heads.device):
                    nearest = _best_in_blocks(heads, tails, k)
                    filled = torch.ones_like(nearest, dtype=torch.bool)
                    found = self._weighed(heads, tails[nearest], sums[nearest], filled)
                block.copy_(self._taken(heads, found["message"]))
        return rows

    def _taken(self, heads: Tensor, message: Tensor) -> Tensor:
        """The rows after they have taken their messages ``[N, H]``."""
        if self.aggregation == "sage":
            return self.activation(self.update[0](torch.cat([heads, message], 1)))
        updated = self.activation(self.update[0](heads + message))
        if self.aggregation == "bi-interaction":
            updated = updated + self.activation(self.update[1](heads * message))
        return updated

    def messages(self, heads: Tensor, tails: Tensor, bags: BagBatch) -> dict[str, Tensor]:
        """The message to each row ``[N, H]``, and what it comes from, each ``[N, k]``.

        Returns:
            ``message``, ``neighbours`` (row numbers, best first), ``edge_logits``,
            ``edge_weights``, ``knowledge_logits`` and ``knowledge_weights``. Places that a small
            bag does not fill have logits of -inf.
        """
        neighbours = self.nearest(heads.detach(), tails.detach(), bags)
        place = torch.arange(self.neighbours, device=heads.device)
        filled = place < bags.sizes[bags.bag_of][:, None]  # [N, k]
        found = self._weighed(heads, tails[neighbours], tails.sum(1)[neighbours], filled)
        return {"neighbours": neighbours, **found}

    def _weighed(
        self, heads: Tensor, found: Tensor, sums: Tensor, filled: Tensor
    ) -> dict[str, Tensor]:
        """``messages`` to some rows, without ``neighbours``.

        Args:
            heads: ``[n, H]``.
            found: the tails of their neighbours ``[n, k, H]``.
            sums: of these tails' channels ``[n, k]``.
            filled: which places have a neighbour ``[n, k]``.
        """
        edge_logits = (found @ heads[:, :, None])[..., 0] * heads.shape[1] ** -0.5
        edge_logits = torch.where(filled, edge_logits, -torch.inf)
        edges = edge_logits.softmax(1)
        # Row plus edge, which is the tail and the row weighted by p and 1 - p.
        gate = (edges[..., None] * found + (2 - edges)[..., None] * heads[:, None]).tanh()
        if self.neighbour_score == "product":
            knowledge = sums * gate.sum(2)
        else:
            knowledge = (found * gate).sum(2)
        knowledge = torch.where(filled, knowledge, -torch.inf)
        weights = knowledge.softmax(1)
        return {
            "message": (weights[:, None] @ found)[:, 0],
            "edge_logits": edge_logits,
            "edge_weights": edges,
            "knowledge_logits": knowledge,
            "knowledge_weights": weights,
        }

    def nearest(self, heads: Tensor, tails: Tensor, bags: BagBatch) -> Tensor:
        """Row numbers of the tails with the largest products with each head ``[N, k]``.

        Places that a small bag does not fill name its first row.
        """
        parts, start = [], 0
        for n in bags.lengths:
            own, k = tails[start : start + n], min(self.neighbours, n)
            for part in heads[start : start + n].split(max(1, _PAIRS // n)):
                best = (part @ own.T).topk(k, dim=1).indices
                parts.append(start + F.pad(best, (0, self.neighbours - k)))
            start += n
        return torch.cat(parts)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes the release's state dict out of its file and drops the layers never used."""
        state = state.get("model", state)  # type: ignore[assignment]  # a dict in a dict
        return super().from_official({n: v for n, v in state.items() if not n.startswith(_UNUSED)})


def _exact(values: Tensor) -> Tensor:
    """At least in float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _best_in_blocks(heads: Tensor, tails: Tensor, k: int) -> Tensor:
    """Numbers of the tails with the largest products with each head, best first ``[n, k]``.

    Tails go through in blocks, too: products of a few heads with all tails of a large bag would
    take half as long again (measured).
    """
    scores, numbers, step = [], [], max(k, _PAIRS // len(heads))
    for start in range(0, len(tails), step):
        products = heads @ tails[start : start + step].T
        best = products.topk(min(k, products.shape[1]), dim=1)
        scores.append(best.values)
        numbers.append(best.indices + start)
    best = torch.cat(scores, dim=1).topk(k, dim=1)
    return torch.cat(numbers, dim=1).gather(1, best.indices)
