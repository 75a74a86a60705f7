"""Where the instances of a slide lie, in level-0 pixels if that can be known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.intake.readers.interface import LEVEL_0, MICROMETRES

if TYPE_CHECKING:
    from mil_bench.bags.bag import Bag

_GRID = "position in the file"


@dataclass(frozen=True, eq=False)
class Patches:
    """The squares of a slide's instances.

    Args:
        corners: x and y of each top left corner ``[n, 2]``.
        side: side of a square.
        unit: of corners and side; "level-0 pixels", "micrometres", "unknown unit", or "position in
            the file" if there are no coordinates and the instances are laid out row by row.
        notes: what was assumed, one sentence each.
    """

    corners: np.ndarray
    side: float
    unit: str
    notes: tuple[str, ...] = ()

    @property
    def have_coords(self) -> bool:
        """Whether the positions mean places on the slide."""
        return self.unit != _GRID

    @property
    def are_pixels(self) -> bool:
        """Whether the unit is level-0 pixels."""
        return self.unit == LEVEL_0


def patches_of(bag: Bag, unit: str, micrometres_per_pixel: float | None) -> Patches:
    """The squares of a bag's instances.

    CLAM and TRIDENT give level-0 pixels; STAMP gives micrometres, which become pixels if the size
    of a pixel is known.

    Args:
        bag: with or without coordinates.
        unit: unit of its coordinates, "" if there are none.
        micrometres_per_pixel: width of a level-0 pixel, None if it is unknown.
    """
    if bag.coords is None:
        return _in_rows(len(bag.features))
    corners, side, notes = np.asarray(bag.coords, dtype=np.float64), bag.patch_size, []
    if side is None:
        side = _step(corners)
        notes.append(
            f"The features do not say how large a patch is: {side:g} is the smallest distance of "
            "two columns or rows of patches."
        )
    if unit == MICROMETRES and micrometres_per_pixel is not None:
        corners, side, unit = corners / micrometres_per_pixel, side / micrometres_per_pixel, LEVEL_0
        notes.append(f"Micrometres became pixels of {micrometres_per_pixel:g} micrometres.")
    elif unit != LEVEL_0:
        notes.append(
            f"Coordinates are in {unit}, not in level-0 pixels, so no GeoJSON is written; with "
            "--image or --mpp micrometres become pixels."
        )
    return Patches(corners, side, unit, tuple(notes))


def _in_rows(count: int) -> Patches:
    """Squares of side 1, row by row in a field about as wide as high."""
    width = math.ceil(math.sqrt(count))
    rows, columns = np.divmod(np.arange(count), width)
    note = "The instances have no coordinates: they are shown row by row in the order of the file."
    return Patches(np.stack([columns, rows], 1).astype(np.float64), 1.0, _GRID, (note,))


def _step(corners: np.ndarray) -> float:
    """Smallest distance of two columns or rows; 1 for a single patch."""
    steps = [np.diff(np.unique(axis)) for axis in corners.T]
    return float(min((step.min() for step in steps if step.size), default=1.0))
