"""RRT-MIL: instances attend to each other inside regions of a square, then are pooled as in ABMIL.

W. Tang et al., Feature Re-Embedding: Towards Foundation Model-Level Performance in Computational
Pathology, CVPR 2024; released code DearCaat/RRT-MIL (without a licence: written from a
description). Four things about the release may surprise:

- The rows are laid out line by line in a square that zero rows fill up. Nothing masks these, so
  they take part in the attention. The order of the rows is the only position there is.
- **For up to 64 instances each region has one place**: attention inside regions is a map of each
  row, and the attention between regions adds exactly nothing.
- The attention between regions always has 8 x 8 regions, whatever ``regions`` says.
- In its documented commands the epoch is chosen on the test fold.

Its position term, a convolution of the scores along the queries, equals one of the queries
themselves, so no score is held. Ablations of the release are left out: other position encodings, a
position term on the values, regions of a fixed size or of a least number of rows, another
activation of the feed-forward part.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, Method, Output, Recipe
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
_BETWEEN = 8  # regions a side of the attention between regions
_POOLING_DIM = 128
_EPSILON = 1e-8


class _Square(NamedTuple):
    """Where the rows of a bag are in the regions of its square.

    Args:
        place: of each row among the places, region after region ``[N]``.
        row: of each place ``[regions, places per region]``; N if it is empty.
    """

    place: Tensor
    row: Tensor

    @classmethod
    def of(cls, n: int, regions: int, device: torch.device) -> _Square:
        """For n rows and ``regions`` regions a side."""
        side = math.isqrt(n - 1) + 1
        side += -side % regions
        length = side // regions
        index = torch.arange(n, device=device)
        line, column = index // side, index % side
        region = line // length * regions + column // length
        place = region * length**2 + line % length * length + column % length
        row = torch.full((side**2,), n, device=device).scatter(0, place, index)
        return cls(place, row.view(regions**2, length**2))

    def lay(self, rows: Tensor, empty: Tensor) -> Tensor:
        """``[N, M]`` -> ``[regions, places, M]``, with ``empty`` ``[M]`` in empty places."""
        return torch.cat([rows, empty[None]])[self.row]

    def lift(self, places: Tensor) -> Tensor:
        """``[regions, places, M]`` -> ``[N, M]``."""
        return places.flatten(0, 1)[self.place]


class _Attention(nn.Module):
    """Self-attention of several groups, with a convolution of the queries if asked for."""

    def __init__(self, width: int, heads: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.drop = Dropout(dropout)
        # Its bias shifts all scores of a softmax alike; it is there for checkpoints.
        self.pe = nn.Conv2d(heads, heads, (kernel, 1), groups=heads) if kernel else None

    def attend(self, qkv: Tensor) -> Tensor:
        """``[G, n, 3 M]`` -> ``[G, n, M]``, before the last projection."""
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [G, h, n, c]
        if self.pe is not None:
            q = q + self._convolution(q.shape[2]) @ q
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def attend_alone(self, rows: Tensor) -> Tensor:
        """What ``attend`` gives for groups of one row: its value. ``[N, M]`` -> ``[N, M]``."""
        width = rows.shape[1]
        values = F.linear(rows, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :])
        return values if self.pe is None else values + _no_effect(self.pe)

    def _convolution(self, n: int) -> Tensor:
        """The convolution along n places as a matrix per head ``[h, n, n]``."""
        assert self.pe is not None
        kernel = self.pe.weight[:, 0, :, 0]  # [h, K]
        reach = kernel.shape[1] // 2
        place = torch.arange(n, device=kernel.device)
        apart = place - place[:, None] + reach  # of the queries in place and row
        inside = (apart >= 0) & (apart < kernel.shape[1])
        return kernel[:, apart.clamp(0, kernel.shape[1] - 1)] * inside


class _InRegions(nn.Module):
    """Attention inside regions: ``[N, M]`` -> ``[N, M]`` for one bag."""

    def __init__(self, width: int, heads: int, kernel: int, regions: int, dropout: float) -> None:
        super().__init__()
        self.regions = regions
        self.attn = _Attention(width, heads, kernel, dropout)

    def forward(self, rows: Tensor) -> Tensor:
        if len(rows) <= self.regions**2:  # one place per region
            return self.attn.drop(self.attn.proj(self.attn.attend_alone(rows)))
        square = _Square.of(len(rows), self.regions, rows.device)
        qkv = self.attn.qkv(rows)
        places = square.lay(qkv, self.attn.qkv.bias.to(qkv.dtype))  # of a zero row: the bias
        return self.attn.drop(self.attn.proj(square.lift(self.attn.attend(places))))


class _BetweenRegions(nn.Module):
    """A few representatives of each region attend to each other: ``[N, M]`` -> ``[N, M]``."""

    def __init__(self, width: int, heads: int, slots: int, mlp: bool, dropout: float) -> None:
        super().__init__()
        self.attn = _Attention(width, heads, 0, dropout)
        self.phi: nn.Parameter | nn.Sequential
        if mlp:
            self.phi = nn.Sequential(
                nn.Linear(width, width // 4, bias=False),
                nn.Tanh(),
                nn.Linear(width // 4, slots, bias=False),
            )
        else:
            limit = slots**-0.5
            self.phi = nn.Parameter(torch.empty(width, slots).uniform_(-limit, limit))

    def forward(self, rows: Tensor) -> Tensor:
        if len(rows) <= _BETWEEN**2:  # one place per region, whose share is 0
            return torch.zeros_like(rows) + _no_effect(self)
        square = _Square.of(len(rows), _BETWEEN, rows.device)
        logits = rows @ self.phi if isinstance(self.phi, nn.Parameter) else self.phi(rows)  # [N, K]
        # In half precision the small number that keeps the quotient finite would be 0.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = square.lay(logits, torch.zeros_like(logits[0]))  # [64, n, K]
        places = square.lay(rows, torch.zeros_like(rows[0]))  # [64, n, M]
        representatives = logits.softmax(1).to(places.dtype).mT @ places  # [64, K, M]
        attended = self.attn.attend(self.attn.qkv(representatives.transpose(0, 1)))
        attended = self.attn.drop(self.attn.proj(attended)).transpose(0, 1)  # [64, K, M]
        low, high = logits.amin(1, keepdim=True), logits.amax(1, keepdim=True)
        share = (logits - low) / (high - low + _EPSILON) * logits.softmax(2)
        return square.lift(share.to(attended.dtype) @ attended)


def _no_effect(module: nn.Module) -> Tensor:
    """0, whose gradient gives all parameters a gradient of 0.

    An optimizer treats that differently from no gradient: weights decay and moments continue.
    """
    return sum(p.flatten()[0] for p in module.parameters()) * torch.zeros(())


class _Layer(nn.Module):
    """Adds an attention of the normalised rows, and a feed-forward part if asked for."""

    def __init__(self, width: int, attention: nn.Module, feed_forward: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width) if feed_forward else None
        self.mlp = (
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            if feed_forward
            else None
        )

    def forward(self, rows: Tensor, bags: BagBatch) -> Tensor:
        parts = self.norm(rows).split(bags.lengths)
        rows = rows + torch.cat([self.attn(part) for part in parts])
        if self.norm2 is None or self.mlp is None:
            return rows
        return rows + self.mlp(self.norm2(rows))


class RRT(Method):
    """RRT-MIL: attention inside and between regions of a square, then attention pooling.

    The order of the rows is their position: as the tiler stored them, line by line.

    Memory grows evenly with the rows, as torch's attention holds no scores.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        kernel: length of the position term, odd; 0 leaves it out. 9 to 21 in the documented runs.
        slots: representatives per region, 1, 3 or 5 in the documented runs; 0 leaves out the
            attention between regions.
        slot_heads: heads of the attention between regions.
        slot_mlp: whether two layers give the slots' logits, instead of one.
        shortcut: whether the embedding is added again at the end.
        layers: number of attentions inside regions.
        heads: their heads.
        regions: regions a side inside which rows attend to each other.
        feed_forward: whether each layer has a feed-forward part.
        activation: of the embedding, "relu" or "gelu".
        pooling_activation: "relu", as the release's default, "tanh", as in all its documented runs,
            or "gelu".
        gated: whether the pooling is gated.
        dropout: of the embedding.
        attention_dropout: after each attention.
        embed_dim: width E; 512 in the release.
    """

    # main.py. Without a validation set it chooses the epoch on the test fold; here patience counts
    # on the validation loss, as for every method, from the first epoch on.
    recipe = Recipe(
        learning_rate=2e-4,
        epochs=200,
        weight_decay=1e-5,
        schedule="cosine",
        patience=30,
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-3, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "kernel": Choice((9, 13, 15, 17, 21)),
        "slots": Choice((1, 3, 5)),
        "shortcut": Choice((False, True)),
        "pooling_activation": Choice(("relu", "tanh")),
        "dropout": Float(0.0, 0.5),
    }
    order_matters = True
    # torch's attention has no rule for models that are computed as one on a CPU, and would go
    # through them one by one.
    stackable = False
    official_names = {
        "patch_to_emb.0.": "embed.0.",
        "online_encoder.norm.": "norm.",
        "online_encoder.layers.": "layers.",
        "online_encoder.cr_msa.": "between.",
        "pool_fn.attention.attention.0.": "pool_a.0.",
        "pool_fn.attention.attention.2.": "pool_c.",
        "pool_fn.attention.attention_a.0.": "pool_a.0.",
        "pool_fn.attention.attention_b.0.": "pool_b.0.",
        "pool_fn.attention.attention_c.": "pool_c.",
        "predictor.": "classifier.",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        kernel: int = 15,
        slots: int = 3,
        slot_heads: int = 8,
        slot_mlp: bool = False,
        shortcut: bool = False,
        layers: int = 1,
        heads: int = 8,
        regions: int = 8,
        feed_forward: bool = False,
        activation: str = "relu",
        pooling_activation: str = "relu",
        gated: bool = False,
        dropout: float = 0.25,
        attention_dropout: float = 0.1,
        embed_dim: int = 512,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        counts = {"layers": layers, "heads": heads, "slot_heads": slot_heads, "regions": regions}
        names = {"activation": activation, "pooling_activation": pooling_activation}
        _refuse(kernel, slots, embed_dim, counts, names)
        self.shortcut = shortcut
        self.embed = nn.Sequential(nn.Linear(in_dim, embed_dim), ACTIVATIONS[activation]())
        self.drop = Dropout(dropout)
        self.layers = nn.ModuleList(
            _Layer(
                embed_dim,
                _InRegions(embed_dim, heads, kernel, regions, attention_dropout),
                feed_forward,
            )
            for _ in range(layers)
        )
        self.between = None
        if slots:
            crossing = _BetweenRegions(embed_dim, slot_heads, slots, slot_mlp, attention_dropout)
            self.between = _Layer(embed_dim, crossing, feed_forward)
        self.norm = nn.LayerNorm(embed_dim)
        act = ACTIVATIONS[pooling_activation]
        self.pool_a = nn.Sequential(nn.Linear(embed_dim, _POOLING_DIM, bias=False), act())
        self.pool_b = (
            nn.Sequential(nn.Linear(embed_dim, _POOLING_DIM, bias=False), nn.Sigmoid())
            if gated
            else None
        )
        self.pool_c = nn.Linear(_POOLING_DIM, 1, bias=False)
        self.classifier = nn.Linear(embed_dim, hierarchy.n_fine)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, bags: BagBatch) -> Output:
        """Logits, and the attention of the pooling ``[N, 1]``.

        Extras: ``scores`` ``[N, 1]`` before the softmax, ``embedding`` ``[B, E]``.
        """
        rows = self.stages(bags)["encoder_out"]
        gates = self.pool_a(rows)
        scores = self.pool_c(gates if self.pool_b is None else gates * self.pool_b(rows))
        attention = segment_softmax(scores, bags)
        pooled = attention_pool(attention, rows, bags)[:, 0]
        extras = {"scores": scores, "embedding": pooled}
        return Output(self.classifier(pooled), None, attention, extras)

    def stages(self, bags: BagBatch) -> dict[str, Tensor]:
        """The rows after every part, by the names of the release, each ``[N, E]``."""
        embedded = rows = self.drop(self.embed(bags.features))
        stages = {"embedded": embedded}
        for number, layer in enumerate(self.layers):
            stages[f"rmsa{number}"] = rows = layer(rows, bags)
        if self.between is not None:
            stages["crmsa"] = rows = self.between(rows, bags)
        if self.shortcut:
            rows = rows + embedded
        stages["encoder_out"] = self.norm(rows)
        return stages

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The feed-forward part has names of its own; the release's file has the state inside."""
        state = state.get("model", state)  # type: ignore[assignment]  # a dict in a dict
        return {
            name.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.2."): value
            for name, value in super().from_official(state).items()
        }


def _refuse(
    kernel: int, slots: int, embed_dim: int, counts: Mapping[str, int], names: Mapping[str, str]
) -> None:
    """Refuse settings with which the method cannot be built.

    Raises:
        InputError: names them all.
    """
    problems = [
        f"{name}='{value}' is none of {', '.join(ACTIVATIONS)}"
        for name, value in names.items()
        if value not in ACTIVATIONS
    ]
    if kernel < 0 or (kernel and kernel % 2 == 0):
        problems.append(f"kernel={kernel} is not 0 or an odd number")
    if slots < 0:
        problems.append(f"slots={slots} is negative")
    problems += [f"{name}={n} is not 1 or more" for name, n in counts.items() if n < 1]
    problems += [
        f"{name}={counts[name]} does not divide embed_dim={embed_dim}"
        for name in ("heads", "slot_heads")
        if counts[name] >= 1 and embed_dim % counts[name]
    ]
    if problems:
        remedy = "The docstring of the method says what each setting means."
        raise InputError("rrt", problems, remedy)
