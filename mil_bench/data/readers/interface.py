"""What a reader gives: a feature file that knows its shape before its rows are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class RawBag:
    """One file's content.

    Args:
        features: ``[n, D]`` float16 or float32, as stored.
        coords: ``[n, 2]`` in the file's own numbers, or None.
        coords_unit: "level-0 pixels", or "" where there are none.
        patch_size: side of a patch in that unit, or None where the file does not say.
    """

    features: np.ndarray
    coords: np.ndarray | None = None
    coords_unit: str = ""
    patch_size: float | None = None


@dataclass(frozen=True)
class FeatureFile(ABC):
    """One slide's features on disk.

    Args:
        path: the file.
        rows: number of instances, n.
        width: feature width, D.
        dtype: name of the stored type.
        encoder: name of the encoder where the file says it, else "".
        has_coords: whether coordinates come with the features.
    """

    path: Path
    rows: int
    width: int
    dtype: str
    encoder: str
    has_coords: bool

    @property
    @abstractmethod
    def format(self) -> str:
        """Name of the format, for messages."""

    @abstractmethod
    def read(self) -> RawBag:
        """The rows.

        Raises:
            InputError: the file is broken.
        """
