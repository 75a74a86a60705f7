"""A plain Transformer: two layers of self-attention over the instances and a class token.

KatherLab/STAMP, commit c54ce06, class VisionTransformer. The following properties of the release
are kept:

- The feed-forward part drops half of its values, whatever the dropout of the rest is.
- Training draws 512 rows of a longer bag anew at every visit; evaluation sees all rows.
- ALiBi, off by default, subtracts the distance after the softmax, and puts the class token at
  (0, 0).

The release fills shorter training bags with zero rows that it does not mask; here no row is added.
Its class weights sum to 1 and are otherwise those of this project's recipes, "balanced"; its loss
is divided by the number of bags, as theirs is. AdamW does not see the constant between them.

Only the class token leaves the last layer, so that layer projects no key and no value: the class
token's query is taken through the keys' weight, and the mean of the rows through the values'.
Evaluation takes memory in proportion to the rows: with ALiBi, it goes through the pairs of a large
bag in blocks. In training, ALiBi and attention dropout hold all pairs of the rows that are drawn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from mil_bench.baselines.transformer.parts import (
    Attention,
    Block,
    DistanceAttention,
    RunningMean,
    distances_between,
)
from torch import Tensor, nn

from mil_bench import devices
from mil_bench.bags.batch import BagBatch
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, InstanceMap, Method, Output, Recipe
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from mil_bench.hierarchy import LabelHierarchy


class Transformer(Method):
    """Plain Transformer: instances and a class token attend to each other, without positions.

    Every row attends to every other one in all layers but the last, so that twice the rows take
    four times as long to evaluate: 79 seconds of one core for 50,000 rows (measured), so about 21
    minutes for 200,000.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        dim: width E of the tokens, 512 in the release.
        feed_forward: inner width of the feed-forward part, 512 in the release.
        heads: 8 in the release; they divide ``dim``.
        layers: 2 in the release.
        dropout: of the embedding and of the attention, 0.25 in the configuration of the release
            (0 in its class of settings).
        rows: how many rows of a longer bag training draws, 512 in the release; 0 trains on all.
            Training with dropout takes 8 bytes per head, layer and pair of rows.
        alibi: subtract the distance of two tokens from their attention, as the release's
            experimental option does; the data need coordinates.
    """

    # config.yaml of the release. Its one-cycle schedule advances once per epoch although it is
    # laid out in steps; here the learning rate falls to 0 over the epochs.
    paper = "KatherLab/STAMP (code)"
    link = "https://github.com/KatherLab/STAMP"
    recipe = Recipe(
        learning_rate=1e-4,
        epochs=32,
        batch_size=64,
        optimizer="adamw",
        weight_decay=0.01,
        schedule="cosine",
        patience=16,
        class_weights="balanced",
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-4, 1e-1, log=True),
        "dim": Choice((128, 256, 512)),
        "dropout": Float(0.0, 0.5),
    }
    # Lightning holds the network as "model".
    map_meaning = "attention of the class token in the last layer, averaged over heads"
    official_names = {"model.": ""}
    # Fused attention has no rule for stacked models on a CPU, and training changes ALiBi's buffers.
    stackable = False

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        dim: int = 512,
        feed_forward: int = 512,
        heads: int = 8,
        layers: int = 2,
        dropout: float = 0.25,
        rows: int = 512,
        alibi: bool = False,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        problems = []
        if heads < 1 or dim % heads:
            problems.append(f"dim is {dim}, which {heads} heads do not divide")
        if rows < 0:
            problems.append(f"rows is {rows}")
        if problems:
            remedy = "Choose heads that divide dim, and rows >= 0."
            raise InputError("building Transformer", problems, remedy)
        self.rows, self.alibi = rows, alibi
        if alibi:
            self.without_map = (
                "subtracts distances from its attention (ALiBi), which leaves no weights"
            )
        self.class_token = nn.Parameter(torch.randn(dim))
        self.project_features = nn.Sequential(nn.Linear(in_dim, dim), nn.GELU(), Dropout(dropout))
        kind = DistanceAttention if alibi else Attention
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            Block(kind(dim, heads, dropout), dim, feed_forward) for _ in range(layers)
        )
        self.transformer.norm = nn.LayerNorm(dim)
        self.mlp_head = nn.Sequential(nn.Linear(dim, hierarchy.n_fine))

    def forward(self, bags: BagBatch) -> Output:
        """Logits; training draws the rows."""
        embeddings = self.embed(self._drawn(bags))
        return Output(fine=self.mlp_head(embeddings), extras={"embeddings": embeddings})

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """The last layer's attention of the class token ``[N, 1]``; None with ALiBi."""
        if self.alibi:
            return None
        *before, last = cast("list[nn.ModuleList]", self.transformer.layers)
        tokens = self._tokens(bags)
        for block in before:
            tokens = replace(tokens, features=block(tokens, None, False))
        normed = replace(tokens, features=last[0].get_submodule("norm")(tokens.features))
        attention = cast("Attention", last[0].get_submodule("mhsa"))
        weights = attention.class_weights(normed).mean(1, keepdim=True)
        is_instance = torch.ones(len(weights), dtype=torch.bool, device=weights.device)
        is_instance[tokens.offsets[:-1]] = False
        return InstanceMap(weights[is_instance])

    def training_loss(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss; in training, ALiBi first adds the bags that count to its mean distance."""
        if self.alibi and self.training:
            self._measure(bags, weight > 0)
        return super().training_loss(bags, weight, progress)

    def embed(self, bags: BagBatch, padding: Tensor | None = None) -> Tensor:
        """The class tokens after all layers ``[B, E]``.

        Args:
            bags: the batch.
            padding: which rows of the only bag are padding ``[N]``; the release's mask, which
                its training and evaluation do not use. Padding does not see padding, and no row
                sees the class token.
        """
        tokens, seen = self._tokens(bags), None
        if padding is not None:
            own = F.pad(padding, (1, 0))
            seen = ~(own[:, None] & own)
            seen[1:, 0] = False
        blocks = cast("nn.ModuleList", self.transformer.layers)
        for block in blocks:
            tokens = replace(tokens, features=block(tokens, seen, block is blocks[-1]))
        return self.transformer.get_submodule("norm")(tokens.features)

    def _tokens(self, bags: BagBatch) -> BagBatch:
        """Each bag's class token and embedded rows."""
        parts = self.project_features(bags.features).split(bags.lengths)
        tokens = torch.cat([t for part in parts for t in (self.class_token[None], part)])
        return BagBatch.pack(
            tokens, torch.tensor(bags.lengths) + 1, bags.labels, self._positions(bags)
        )

    def _positions(self, bags: BagBatch) -> Tensor | None:
        """Coordinates of all tokens; class tokens are at (0, 0)."""
        if not self.alibi:
            return None
        if bags.coords is None:
            remedy = "Give the bags coordinates, or set alibi to False."
            raise InputError("Transformer with ALiBi", ["the bags have no coordinates"], remedy)
        parts = bags.coords.to(self.class_token.dtype).split(bags.lengths)
        return torch.cat([F.pad(part, (0, 0, 1, 0)) for part in parts])

    def _drawn(self, bags: BagBatch) -> BagBatch:
        """In training, at most ``rows`` random rows of each bag."""
        if not (self.training and self.rows) or max(bags.lengths) <= self.rows:
            return bags
        start, kept = 0, []
        for n in bags.lengths:
            own = torch.randperm(n)[: self.rows] if n > self.rows else torch.arange(n)
            kept.append(own + start)
            start += n
        index = devices.send(torch.cat(kept), bags.features.device)
        sizes = torch.tensor([len(own) for own in kept])
        coords = None if bags.coords is None else bags.coords[index]
        return BagBatch.pack(bags.features[index], sizes, bags.labels, coords)

    def _measure(self, bags: BagBatch, counts: Tensor) -> None:
        """Add the mean distance of two tokens to the mean over the steps, per head and layer.

        Args:
            bags: the batch.
            counts: whether a bag takes part ``[B]``; not read, since a GPU would be waited for.
        """
        positions = self._positions(bags)
        assert positions is not None
        total, pairs = positions.new_zeros(()), counts.new_zeros((), dtype=torch.int64)
        for at, takes_part in zip(
            positions.split([n + 1 for n in bags.lengths]), counts, strict=True
        ):
            for part in at.split(1024):
                total = total + torch.where(takes_part, distances_between(part, at).sum(), 0.0)
            pairs = pairs + takes_part * len(at) ** 2
        for module in self.modules():
            if isinstance(module, RunningMean):
                module.add(total / pairs, pairs > 0)
