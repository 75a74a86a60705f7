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
from torch import Tensor, nn

from mil_bench.bags.batch import BagBatch
from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, InstanceMap, Method, Output, Recipe
from mil_bench.methods.fused import large_bags
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.hierarchy import LabelHierarchy

FEED_FORWARD_DROPOUT = 0.5
_PAIRS = 2**24  # of tokens, in a large bag with ALiBi, that are held at a time


class _Attention(nn.Module):
    """Self-attention within each bag: tokens ``[T, E]`` -> ``[T, E]``."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, bags: BagBatch, seen: Tensor | None = None) -> Tensor:
        """What every token receives; ``seen`` ``[T, T]`` says which pairs of one bag may meet."""
        projected = F.linear(bags.features, self.in_proj_weight, self.in_proj_bias)
        rate = self.dropout if self.training else 0.0
        parts = []
        for part in projected.split(bags.lengths):
            q, k, v = part.unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)[:, None]
            mixed = F.scaled_dot_product_attention(q, k, v, seen, rate)[0]
            parts.append(mixed.transpose(0, 1).flatten(1))
        return self.out_proj(torch.cat(parts))

    def receiver(
        self,
        tokens: Tensor,
        norm: nn.Module,
        at: Tensor | None,  # noqa: ARG002  # for attention with distances
    ) -> Callable[[slice], Tensor]:
        """For a large bag in evaluation: a function of what some of its tokens receive ``[n, E]``.

        It holds the keys and values of all tokens, but not their queries.

        Args:
            tokens: before ``norm`` ``[T, E]``.
            norm: the normalisation.
            at: coordinates of the tokens ``[T, 2]``.
        """
        width = tokens.shape[1]
        to_query, to_others = self.in_proj_weight.split([width, 2 * width])
        query_bias, bias = self.in_proj_bias.split([width, 2 * width])
        both = large_bags.in_blocks(lambda part: F.linear(norm(part), to_others, bias), tokens)
        k, v = both.unflatten(1, (2, self.heads, -1)).permute(1, 2, 0, 3)[:, None]

        def received(rows: slice) -> Tensor:
            queries = F.linear(norm(tokens[rows]), to_query, query_bias)
            q = queries.unflatten(1, (self.heads, -1)).transpose(0, 1)[None]
            mixed = F.scaled_dot_product_attention(q, k, v)[0]
            return self.out_proj(mixed.transpose(0, 1).flatten(1))

        return received

    def class_weights(self, bags: BagBatch) -> Tensor:
        """Attention of each bag's class token to the bag's tokens ``[T, heads]``."""
        width = bags.features.shape[1]
        to_query, to_key, _ = self.in_proj_weight.chunk(3)
        first = bags.features[bags.offsets[:-1]]
        queries = F.linear(first, to_query, self.in_proj_bias[:width])
        queries = queries.unflatten(1, (self.heads, -1)) * (width // self.heads) ** -0.5
        # A key's bias adds the same to all scores of a query, which the softmax ignores.
        through = torch.einsum("bhc,hce->bhe", queries, to_key.unflatten(0, (self.heads, -1)))
        scores = [
            rows @ of_bag.T
            for rows, of_bag in zip(bags.features.split(bags.lengths), through, strict=True)
        ]
        return segment_softmax(torch.cat(scores), bags)

    def class_rows(self, bags: BagBatch) -> Tensor:
        """What the class tokens receive ``[B, E]``."""
        weights = self.class_weights(bags)
        if self.training and self.dropout:
            weights = F.dropout(weights, self.dropout)
        to_value = self.in_proj_weight.chunk(3)[2].unflatten(0, (self.heads, -1))
        bias = self.in_proj_bias.chunk(3)[2].unflatten(0, (self.heads, -1))
        ones = weights.new_ones(len(weights), 1)
        total = attention_pool(weights, ones, bags)  # [B, heads, 1]; not 1 after dropout
        pooled = attention_pool(weights, bags.features, bags)  # [B, heads, E]
        mixed = torch.einsum("bhe,hce->bhc", pooled, to_value) + total * bias
        return self.out_proj(mixed.flatten(1))


class _RunningMean(nn.Module):
    running_mean: Tensor
    items_so_far: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.ones(1))
        self.register_buffer("items_so_far", torch.ones(1))

    @torch.no_grad()
    def add(self, value: Tensor) -> None:
        self.running_mean += (value - self.running_mean) / self.items_so_far
        self.items_so_far += 1


class _DistanceBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias_scale = nn.Parameter(torch.rand(1))
        self.scale_distance = _RunningMean()

    def forward(self, distance: Tensor) -> Tensor:
        return self.bias_scale * distance / self.scale_distance.running_mean


class _DistanceAttention(nn.Module):
    """Self-attention from which a multiple of the distance is subtracted (ALiBi)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        for name in ("query", "key", "value"):
            layers = nn.ModuleList(nn.Linear(width, width // heads) for _ in range(heads))
            self.add_module(f"{name}_encoders", layers)
        self.attentions = nn.ModuleList(_DistanceBias() for _ in range(heads))
        self.fc = nn.Linear(width, width)

    def forward(self, bags: BagBatch, seen: Tensor | None = None) -> Tensor:
        """As that of the plain attention; ``bags`` has the coordinates of the tokens."""
        assert bags.coords is not None
        rate = self.dropout if self.training else 0.0
        parts = []
        for tokens, at in zip(
            bags.features.split(bags.lengths), bags.coords.split(bags.lengths), strict=True
        ):
            distance = _distances(at, seen is not None)
            heads = [self._head(j, tokens, distance, seen) for j in range(len(self.attentions))]
            parts.append(F.dropout(torch.cat(heads, dim=1), rate))
        return self.fc(torch.cat(parts))

    def receiver(
        self, tokens: Tensor, norm: nn.Module, at: Tensor | None
    ) -> Callable[[slice], Tensor]:
        """As that of the plain attention; pairs of tokens go through in blocks."""
        assert at is not None
        heads, places = len(self.attentions), at

        def projected(name: str, rows: Tensor) -> list[Tensor]:
            return [self.get_submodule(f"{name}_encoders.{j}")(rows) for j in range(heads)]

        def keys_and_values(part: Tensor) -> Tensor:
            normed = norm(part)
            return torch.cat([*projected("key", normed), *projected("value", normed)], dim=1)

        columns = large_bags.in_blocks(keys_and_values, tokens).chunk(2 * heads, dim=1)

        def received(rows: slice) -> Tensor:
            queries = projected("query", norm(tokens[rows]))
            parts, step = [], max(1, _PAIRS // len(tokens))
            for *own, near in zip(*(x.split(step) for x in (*queries, places[rows])), strict=True):
                distance = _distances_between(near, places)
                mixed = []
                for j, q in enumerate(own):
                    weights = (q @ columns[j].T * q.shape[1] ** -0.5).softmax(-1)
                    mixed.append((weights - self.attentions[j](distance)) @ columns[heads + j])
                parts.append(torch.cat(mixed, dim=1))
            return self.fc(torch.cat(parts))

        return received

    def _head(self, j: int, tokens: Tensor, distance: Tensor, seen: Tensor | None) -> Tensor:
        q, k, v = (
            self.get_submodule(f"{name}_encoders.{j}")(tokens) for name in ("query", "key", "value")
        )
        # The release masks the weights alone, after a softmax over all tokens.
        weights = (q @ k.T * q.shape[1] ** -0.5).softmax(-1) - self.attentions[j](distance)
        return (weights if seen is None else weights.masked_fill(~seen, 0.0)) @ v


def _distances(at: Tensor, masked: bool) -> Tensor:
    """Distances of the tokens of a bag ``[T, T]``, without the matrix product that rounds them."""
    distance = torch.cdist(at, at, compute_mode="donot_use_mm_for_euclid_dist")
    if masked:
        distance[0], distance[:, 0] = 0, 0
    return distance


class _Block(nn.ModuleList):
    """Attention and feed-forward part of a layer, each added to its input."""

    def __init__(self, attention: nn.Module, width: int, inner: int) -> None:
        first = nn.Module()
        first.norm, first.mhsa = nn.LayerNorm(width), attention
        second = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, inner),
            nn.GELU(),
            Dropout(FEED_FORWARD_DROPOUT),
            nn.Linear(inner, width),
            Dropout(FEED_FORWARD_DROPOUT),
        )
        super().__init__([first, second])

    def forward(self, bags: BagBatch, seen: Tensor | None, last: bool) -> Tensor:
        """Tokens ``[T, E]``; those of the classes ``[B, E]`` from the last layer.

        It changes the tokens of large bags in evaluation.
        """
        tokens, firsts = bags.features, bags.offsets[:-1]
        attention = self[0].get_submodule("mhsa")
        is_for_classes = last and seen is None and isinstance(attention, _Attention)
        if seen is None and not is_for_classes and large_bags.has_large_bag(bags, self):
            return self._in_blocks(bags, last)
        normed = replace(bags, features=self[0].get_submodule("norm")(tokens))
        if is_for_classes:
            tokens = tokens[firsts] + attention.class_rows(normed)
        else:
            tokens = tokens + attention(normed, seen)
            tokens = tokens[firsts] if last else tokens
        return tokens + self[1](tokens)

    def _in_blocks(self, bags: BagBatch, last: bool) -> Tensor:
        norm = self[0].get_submodule("norm")
        attention = cast("_Attention | _DistanceAttention", self[0].get_submodule("mhsa"))
        positions = [None] * bags.n_bags if bags.coords is None else bags.coords.split(bags.lengths)
        for tokens, at in zip(bags.features.split(bags.lengths), positions, strict=True):
            received = attention.receiver(tokens, norm, at)
            stop = 1 if last else len(tokens)
            for start in range(0, stop, large_bags.ROWS):
                rows = slice(start, min(start + large_bags.ROWS, stop))
                tokens[rows] += received(rows)
                tokens[rows] += self[1](tokens[rows])
        return bags.features[bags.offsets[:-1]] if last else bags.features


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
        kind = _DistanceAttention if alibi else _Attention
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            _Block(kind(dim, heads, dropout), dim, feed_forward) for _ in range(layers)
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
        attention = cast("_Attention", last[0].get_submodule("mhsa"))
        weights = attention.class_weights(normed).mean(1, keepdim=True)
        is_instance = torch.ones(len(weights), dtype=torch.bool, device=weights.device)
        is_instance[tokens.offsets[:-1]] = False
        return InstanceMap(weights[is_instance])

    def training_loss(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss; in training, ALiBi first adds the bags that count to its mean distance."""
        if self.alibi and self.training and weight.any():
            self._measure(bags.select(weight.nonzero()[:, 0]))
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
        index = torch.cat(kept).to(bags.features.device)
        sizes = torch.tensor([len(own) for own in kept])
        coords = None if bags.coords is None else bags.coords[index]
        return BagBatch.pack(bags.features[index], sizes, bags.labels, coords)

    def _measure(self, bags: BagBatch) -> None:
        """Add the mean distance of two tokens to the mean over the steps, per head and layer."""
        positions = self._positions(bags)
        assert positions is not None
        total, pairs = positions.new_zeros(()), 0
        for at in positions.split([n + 1 for n in bags.lengths]):
            for part in at.split(1024):
                total = total + _distances_between(part, at).sum()
            pairs += len(at) ** 2
        for module in self.modules():
            if isinstance(module, _RunningMean):
                module.add(total / pairs)


def _distances_between(some: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist")
