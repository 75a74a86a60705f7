"""STAMP's ``.h5`` files.

STAMP 2.5 (preprocessing/__init__.py): ``feats [N, D]`` float16 and ``coords [N, 2]`` float32 in
micrometres; attributes of the file: ``extractor``, ``unit`` ("um"), ``tile_size_um``, ``feat_type``
("tile"). Its own reader (modeling/data.py) also takes ``patch_embeddings``, which has no
coordinates, version 2.0's ``tile_size`` with the unit, and version 1, which has no unit: pixels of
tiles of 224, each 256 micrometres wide. One vector per slide or patient is stored under the same
name; ``feat_type`` tells them apart. A vector of a slide is a bag of one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.datasets.slide_ids import HDF5_ENDINGS
from mil_bench.intake.readers.hdf5 import FeatureDatasets, feature_datasets, values
from mil_bench.intake.readers.interface import (
    MICROMETRES,
    UNKNOWN_UNIT,
    FeatureFile,
    FileStart,
    RawBag,
    Reader,
    broken,
    coordinates,
    patch_side,
    reading,
)

if TYPE_CHECKING:
    from pathlib import Path

_ENCODER_OF = {"tile": "extractor", "slide": "encoder"}
"""``feat_type`` to the attribute that names the encoder."""
_FEATURES = ("feats", "patch_embeddings")
_OLD_TILE_PIXELS, _OLD_TILE_MICROMETRES = 224, 256


@dataclass(frozen=True, kw_only=True)
class StampFile(FeatureFile):
    """A file as STAMP writes it.

    Args:
        tile_side: side of a tile in micrometres, None if unknown.
        scale: micrometres per unit of a stored coordinate.
    """

    tile_side: float | None
    scale: float

    @classmethod
    def open(cls, path: Path, slide: str) -> StampFile:
        """Read the shape and the attributes, and the coordinates if only they tell their unit.

        Raises:
            InputError: the file does not have the layout above, or holds one vector for a whole
                patient.
        """
        with feature_datasets(path) as datasets:
            kind = str(datasets.attrs.get("feat_type", "tile"))
            if kind not in ("tile", "slide"):
                raise broken(
                    path,
                    f"holds one vector for a whole {kind} (feat_type), features of slides are "
                    "needed",
                    "Give the folder with the tile or slide features it was made from.",
                )
            rows, width = datasets.shape()
            unit, side, scale = _unit(datasets)
            return cls(
                path=path,
                slide=slide,
                format="STAMP .h5",
                rows=rows,
                width=width,
                dtype=datasets.dtype(),
                encoder=str(datasets.attrs.get(_ENCODER_OF[kind], "")),
                coords_unit=unit,
                tile_side=side,
                scale=scale,
            )

    def load(self) -> RawBag:
        """The file's rows, with coordinates in micrometres if their unit is known."""
        with feature_datasets(self.path) as datasets:
            features, coords = datasets.read()
        if coords is None:
            return RawBag(features)
        return RawBag(features, coords * self.scale, self.coords_unit, self.tile_side)


def _unit(datasets: FeatureDatasets) -> tuple[str, float | None, float]:
    """Unit of the coordinates, side of a tile, and what to multiply coordinates by."""
    path, attributes = datasets.path, datasets.attrs
    if datasets.coords is None:
        return "", None, 1.0
    if attributes.get("unit") == "um" or "tile_size_um" in attributes:
        name = "tile_size_um" if "tile_size_um" in attributes else "tile_size"
        return MICROMETRES, patch_side(path, name, attributes.get(name)), 1.0
    stride = patch_side(path, "tile_size", attributes.get("tile_size"))
    if stride is None:
        stride = _stride(coordinates(path, values(datasets.coords), datasets.shape()[0]))
    if round(stride) == _OLD_TILE_PIXELS:
        return MICROMETRES, float(_OLD_TILE_MICROMETRES), _OLD_TILE_MICROMETRES / _OLD_TILE_PIXELS
    return UNKNOWN_UNIT, None, 1.0


def _stride(coords: np.ndarray) -> float:
    """Smallest step between columns or rows of tiles.

    A single tile has none; it is taken for a tile of version 1.
    """
    finite = coords[np.isfinite(coords).all(1)]
    steps = [np.diff(np.unique(axis)) for axis in finite.T]
    return float(min((step.min() for step in steps if step.size), default=_OLD_TILE_PIXELS))


def _matches(start: FileStart) -> bool:
    key = reading().key
    if key:
        return key in _FEATURES and key in start.datasets
    return "features" not in start.datasets and not start.datasets.keys().isdisjoint(_FEATURES)


STAMP = Reader(
    title="STAMP's .h5",
    endings=HDF5_ENDINGS,
    matches=_matches,
    open=StampFile.open,
)
