"""The parts of RRT-MIL: the attention inside and between the regions of a bag's square.

Each has a second way for large bags in evaluation, ``add_in_blocks``, which adds to the rows in
place, for a few regions at a time. See ``mil_bench.methods.fused.large_bags``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from mil_bench.baselines.rrt.regions import Regions
from torch import Tensor, nn

from mil_bench.methods.fused import large_bags
from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.linear import affine
from mil_bench.methods.fused.no_effect import no_effect

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
_BETWEEN = 8  # regions a side of the attention between regions
_EPSILON = 1e-8
_LEAST_SIDE = 7  # of the square of PPEG
_CHANNELS = 32  # that PPEG convolves at a time in a large bag


class Kernel(NamedTuple):
    """The position term of an attention.

    Args:
        length: of the kernel, odd; 0 for no term.
        on: "scores"; or, as ablations, "values" or "merged": a convolution of the values over the
            square of a region is added to the values, or to the attention's output.
        flat: whether the kernel is a square, not a line; for values only.
    """

    length: int
    on: str = "scores"
    flat: bool = False

    def layer(self, width: int, heads: int) -> nn.Conv2d | None:
        """The convolution, with the release's shape."""
        if not self.length:
            return None
        shape = (self.length, self.length if self.flat else 1)
        channels = heads if self.on == "scores" else width
        padding = (shape[0] // 2, shape[1] // 2)
        return nn.Conv2d(channels, channels, shape, groups=channels, padding=padding)


class Attention(nn.Module):
    """Self-attention of several groups, with a position term if asked for."""

    def __init__(self, width: int, heads: int, kernel: Kernel, dropout: float) -> None:
        super().__init__()
        self.heads, self.on = heads, kernel.on
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.drop = Dropout(dropout)
        # On scores, its bias shifts all scores of a softmax alike; it is there for checkpoints.
        self.pe = kernel.layer(width, heads)

    def attend(self, qkv: Tensor, is_large: bool = False) -> Tensor:
        """``[G, n, 3 M]`` -> ``[G, n, M]``, before the last projection.

        Args:
            qkv: queries, keys and values of G groups.
            is_large: whether a matrix of all pairs of a group would take too much memory.
        """
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [G, h, n, c]
        if self.pe is None:
            term = None
        elif self.on == "scores":
            # As a matrix it has a gradient that torch computes correctly, see transmil.
            term = self._convolved(q) if is_large else self._convolution(q.shape[2]) @ q
            q = q + term
        else:
            term = self._of_values(v)
            v = v + term if self.on == "values" else v
        merged = F.scaled_dot_product_attention(q, k, v)
        if self.on == "merged" and term is not None:
            merged = merged + term
        return merged.transpose(1, 2).flatten(2)

    def attend_alone(self, rows: Tensor) -> Tensor:
        """What ``attend`` gives for groups of one row: its value. ``[N, M]`` -> ``[N, M]``."""
        width = rows.shape[1]
        values = F.linear(rows, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :])
        return values if self.pe is None else values + no_effect(self.pe)

    def _of_values(self, v: Tensor) -> Tensor:
        """The convolution of values over their region's square ``[G, h, n, c]``.

        As in the release, channels go in by place in the head and come out by head: a channel gets
        another channel's term.
        """
        assert self.pe is not None
        side = math.isqrt(v.shape[2])
        squares = v.permute(0, 3, 1, 2).flatten(1, 2).unflatten(2, (side, side))  # [G, c h, ., .]
        return self.pe(squares).flatten(2).unflatten(1, (self.heads, -1)).mT

    def _convolved(self, q: Tensor) -> Tensor:
        """The convolution of queries along their places, without its bias ``[G, h, n, c]``."""
        assert self.pe is not None
        reach = self.pe.weight.shape[2] // 2
        return F.conv2d(q, self.pe.weight, padding=(reach, 0), groups=self.heads)

    def _convolution(self, n: int) -> Tensor:
        """The convolution along n places as a matrix per head ``[h, n, n]``."""
        assert self.pe is not None
        kernel = self.pe.weight[:, 0, :, 0]  # [h, K]
        reach = kernel.shape[1] // 2
        place = torch.arange(n, device=kernel.device)
        apart = place - place[:, None] + reach  # of the queries in place and row
        inside = (apart >= 0) & (apart < kernel.shape[1])
        return kernel[:, apart.clamp(0, kernel.shape[1] - 1)] * inside


class InRegions(nn.Module):
    """Attention inside regions: ``[N, M]`` -> ``[N, M]`` for one bag."""

    def __init__(
        self, width: int, heads: int, kernel: Kernel, regions: Regions, dropout: float
    ) -> None:
        super().__init__()
        self.regions = regions
        self.attn = Attention(width, heads, kernel, dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        square = self.regions.square(len(rows), rows.device)
        if square.row.shape[1] == 1 and self.attn.on == "scores":  # one place per region
            return self.attn.drop(self.attn.proj(self.attn.attend_alone(rows)))
        qkv = self.attn.qkv(rows)
        places = square.lay(qkv, self.attn.qkv.bias.to(qkv.dtype))  # of a zero row: the bias
        return self.attn.drop(self.attn.proj(square.lift(self.attn.attend(places))))

    def add_in_blocks(self, rows: Tensor, norm: nn.LayerNorm) -> None:
        """Adds to the rows what they receive after ``norm``; groups of regions are independent."""
        for places in _groups(self.regions.square(len(rows), rows.device).row):
            filled = places < len(rows)
            index = places[filled]
            own = self.attn.qkv(norm(rows[index]))
            qkv = self.attn.qkv.bias.to(own.dtype).repeat(*places.shape, 1)
            qkv[filled] = own
            rows[index] += self.attn.proj(self.attn.attend(qkv, is_large=True)[filled])


class BetweenRegions(nn.Module):
    """A few representatives of each region attend to each other: ``[N, M]`` -> ``[N, M]``."""

    def __init__(self, width: int, heads: int, slots: int, mlp: bool, dropout: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads, Kernel(0), dropout)
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
        """See the class."""
        if len(rows) <= _BETWEEN**2:  # one place per region, whose share is 0
            return torch.zeros_like(rows) + no_effect(self)
        square = Regions(_BETWEEN).square(len(rows), rows.device)
        logits = self._logits(rows)  # [N, K]
        logits = square.lay(logits, torch.zeros_like(logits[0]))  # [64, n, K]
        places = square.lay(rows, torch.zeros_like(rows[0]))  # [64, n, M]
        attended = self._exchanged(_representatives(logits, places))  # [64, K, M]
        return square.lift(_shares(logits).to(attended.dtype) @ attended)

    def add_in_blocks(self, rows: Tensor, norm: nn.LayerNorm) -> None:
        """Adds to the rows what they receive after ``norm``.

        They are normalised twice, so that no copy of them is held: for the representatives of all
        regions, and for each row's share of what these receive.
        """
        if len(rows) <= _BETWEEN**2:
            return
        groups = _groups(Regions(_BETWEEN).square(len(rows), rows.device).row)
        representatives = [_representatives(*self._laid(places, rows, norm)) for places in groups]
        attended = self._exchanged(torch.cat(representatives))
        for places, own in zip(groups, attended.split(len(groups[0])), strict=True):
            logits, _ = self._laid(places, rows, norm)
            filled = places < len(rows)
            rows[places[filled]] += (_shares(logits).to(own.dtype) @ own)[filled]

    def _logits(self, rows: Tensor) -> Tensor:
        """How much each row speaks for each slot: ``[N, M]`` -> ``[N, K]``."""
        logits = rows @ self.phi if isinstance(self.phi, nn.Parameter) else self.phi(rows)
        # In half precision the small number that keeps the quotient finite would be 0.
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _laid(self, places: Tensor, rows: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """Logits and normalised rows of some regions, 0 in empty places: ``[g, n, K or M]``."""
        filled = places < len(rows)
        normed = norm(rows[places[filled]])
        laid = []
        for values in (self._logits(normed), normed):
            laid.append(values.new_zeros(*places.shape, values.shape[1]))
            laid[-1][filled] = values
        return laid[0], laid[1]

    def _exchanged(self, representatives: Tensor) -> Tensor:
        """What the slots receive from the same slot of other regions ``[64, K, M]``."""
        attended = self.attn.attend(self.attn.qkv(representatives.transpose(0, 1)))
        return self.attn.drop(self.attn.proj(attended)).transpose(0, 1)


def _representatives(logits: Tensor, places: Tensor) -> Tensor:
    """Means of each region's rows: ``[g, n, K]``, ``[g, n, M]`` -> ``[g, K, M]``."""
    return logits.softmax(1).to(places.dtype).mT @ places


def _shares(logits: Tensor) -> Tensor:
    """How much of what the slots of its region received a row takes ``[g, n, K]``."""
    low, high = logits.amin(1, keepdim=True), logits.amax(1, keepdim=True)
    return (logits - low) / (high - low + _EPSILON) * logits.softmax(2)


def _groups(row: Tensor) -> tuple[Tensor, ...]:
    """The regions ``[regions, places]`` of a square in groups of about ``large_bags.ROWS``."""
    return row.split(max(1, large_bags.ROWS // row.shape[1]))


class Layer(nn.Module):
    """Adds an attention of the normalised rows, and a feed-forward part if asked for."""

    def __init__(
        self, width: int, attention: InRegions | BetweenRegions, feed_forward: str
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width) if feed_forward else None
        self.mlp = (
            nn.Sequential(
                nn.Linear(width, 4 * width),
                ACTIVATIONS[feed_forward](),
                nn.Linear(4 * width, width),
            )
            if feed_forward
            else None
        )

    def forward(self, rows: Tensor, bags: BagBatch) -> Tensor:
        """``[N, M]`` -> ``[N, M]``."""
        parts = self.norm(rows).split(bags.lengths)
        rows = rows + torch.cat([self.attn(part) for part in parts])
        if self.norm2 is None or self.mlp is None:
            return rows
        return rows + self.mlp(self.norm2(rows))

    def add_in_blocks(self, rows: Tensor) -> None:
        """The same for one bag in evaluation; it changes the rows ``[N, M]``."""
        self.attn.add_in_blocks(rows, self.norm)
        if self.norm2 is not None and self.mlp is not None:
            for block in rows.split(large_bags.ROWS):
                block += self.mlp(self.norm2(block))


class Positions(nn.Module):
    """PPEG: three convolutions of a bag's rows over their square are added to the rows.

    Rows from the start of the bag fill up the square; a square of less than 7 x 7 is then continued
    with zero rows.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj, self.proj1, self.proj2 = (
            nn.Conv2d(width, width, size, groups=width, padding=size // 2) for size in (7, 5, 3)
        )

    def forward(self, rows: Tensor, bags: BagBatch) -> Tensor:
        """``[N, M]`` -> ``[N, M]``."""
        return torch.cat([self._one(part) for part in rows.split(bags.lengths)])

    def _one(self, rows: Tensor) -> Tensor:
        n = len(rows)
        side = math.isqrt(n - 1) + 1
        filled = torch.cat([rows, rows[: side**2 - n]])
        if side < _LEAST_SIDE:
            side = _LEAST_SIDE
            filled = torch.cat([filled, rows.new_zeros(side**2 - len(filled), rows.shape[1])])
        square = filled.T.unflatten(1, (side, side))
        terms = self.proj(square) + self.proj1(square) + self.proj2(square)
        return rows + terms.flatten(1).T[:n]

    def add_in_blocks(self, rows: Tensor) -> None:
        """The same for one bag in evaluation; it changes the rows, a few channels at a time."""
        n = len(rows)
        side = max(math.isqrt(n - 1) + 1, _LEAST_SIDE)
        for first in range(0, rows.shape[1], _CHANNELS):
            some = slice(first, first + _CHANNELS)
            own = rows[:, some]
            filled = own.new_zeros(side**2, own.shape[1])
            filled[:n] = own
            repeated = (math.isqrt(n - 1) + 1) ** 2 - n
            filled[n : n + repeated] = own[:repeated]
            square = filled.T.unflatten(1, (side, side))
            for layer in (self.proj, self.proj1, self.proj2):
                weight, bias = affine(layer)
                terms = F.conv2d(
                    square,
                    weight[some],
                    bias[some],
                    padding=weight.shape[2] // 2,
                    groups=own.shape[1],
                )
                own += terms.flatten(1).T[:n]
