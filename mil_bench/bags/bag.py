"""One slide as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Bag:
    """One slide's instances with what is known about them.

    Args:
        slide: slide id, always text.
        label: index of the fine class.
        group: patient, centre or writer.
        features: ``[n, D]`` float16 or float32, n >= 1.
        coords: ``[n, 2]`` x, y of each instance's top left corner, or None.
        patch_size: side of a patch in the unit of ``coords``, or None where the file does not say.
        instance_labels: ``[n]`` int16, the fine class an instance is a witness of, -1 for
            background; or None.
        split: the dataset's own role of the slide ("train", "val", "test"), "" where it has none.
        centre: who made the slide (hospital, data provider), "" where it is not known.
    """

    slide: str
    label: int
    group: str
    features: np.ndarray
    coords: np.ndarray | None = None
    patch_size: float | None = None
    instance_labels: np.ndarray | None = None
    split: str = ""
    centre: str = ""
