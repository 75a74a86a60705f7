"""The parts of RRT-MIL: the square of a bag, and the attention inside and between its regions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.no_effect import no_effect

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
_BETWEEN = 8  # regions a side of the attention between regions
_EPSILON = 1e-8
_LEAST_SIDE = 7  # of the square of PPEG


class Regions(NamedTuple):
    """How the square of a bag is divided.

    Args:
        per_side: regions a side.
        length: places a side of a region; 0 if ``per_side`` decides.
        least_rows: a bag with fewer rows is one region.
        least_share: a bag is one region if it has more empty places than its rows divided by this
            number; 0 for never.
    """

    per_side: int
    length: int = 0
    least_rows: int = 0
    least_share: float = 0.0

    def side_of(self, n: int) -> int:
        """Places a side of the square of n rows, as if it was not one region."""
        side = math.isqrt(n - 1) + 1
        return side + -side % (self.length or self.per_side)

    def square(self, n: int, device: torch.device) -> Square:
        """The square of n rows."""
        side = self.side_of(n)
        if side**2 - n > n / (self.least_share + _EPSILON) or n < self.least_rows:
            side = math.isqrt(n - 1) + 1
            side += side % 2
            return Square.made(n, side, side, device)
        return Square.made(n, side, self.length or side // self.per_side, device)


class Square(NamedTuple):
    """Where the rows of a bag are in the regions of its square.

    Args:
        place: of each row among the places, region after region ``[N]``.
        row: of each place ``[regions, places per region]``; N if it is empty.
    """

    place: Tensor
    row: Tensor

    @classmethod
    def made(cls, n: int, side: int, length: int, device: torch.device) -> Square:
        """For n rows in a square of ``side`` places a side, whose regions have ``length`` each."""
        regions = side // length
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

    def attend(self, qkv: Tensor) -> Tensor:
        """``[G, n, 3 M]`` -> ``[G, n, M]``, before the last projection."""
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [G, h, n, c]
        if self.pe is None:
            term = None
        elif self.on == "scores":
            term = self._convolution(q.shape[2]) @ q
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


class Layer(nn.Module):
    """Adds an attention of the normalised rows, and a feed-forward part if asked for."""

    def __init__(self, width: int, attention: nn.Module, feed_forward: str) -> None:
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
