"""The square in which RRT-MIL lays out the rows of a bag, and its regions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_EPSILON = 1e-8


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
