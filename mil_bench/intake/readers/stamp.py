"""STAMP's ``.h5`` files.

STAMP 2.5 (preprocessing/__init__.py): ``feats [N, D]`` float16 and ``coords [N, 2]`` float32 in
micrometres; attributes of the file: ``extractor``, ``unit`` ("um"), ``tile_size_um``, ``feat_type``
("tile"). Its own reader (modeling/data.py) also takes ``patch_embeddings``, which has no
coordinates, version 2.0's ``tile_size`` with the unit, and version 1, which has no unit: pixels of
tiles of 224, each 256 micrometres wide. One vector for a slide or a patient is stored under the
same name; ``feat_type`` tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mil_bench.intake.readers.hdf5 import FeatureDatasets, feature_datasets, values
from mil_bench.intake.readers.interface import (
    MICROMETRES,
    UNKNOWN_UNIT,
    FeatureFile,
    RawBag,
    broken,
    coordinates,
    patch_side,
)

_OLD_TILE_PIXELS, _OLD_TILE_MICROMETRES = 224, 256


@dataclass(frozen=True, kw_only=True)
class StampFile(FeatureFile):
    """A file as STAMP writes it.

    Args:
        tile_side: side of a tile in micrometres, or None where it is not known.
        scale: micrometres a stored coordinate stands for.
    """

    tile_side: float | None
    scale: float

    @classmethod
    def open(cls, tables: FeatureDatasets, slide: str) -> StampFile:
        """Read the shape and the attributes; the coordinates too, where only they can tell their unit.

        Raises:
            InputError: the file does not have the layout above, or holds one vector for a whole
                slide.
        """
        kind = str(tables.attrs.get("feat_type", "tile"))
        if kind != "tile":
            remedy = "Give the folder of tile features that it was made of."
            problem = f"holds one vector for a whole {kind} (feat_type), a bag of patches is needed"
            raise broken(tables.path, problem, remedy)
        rows, width = tables.shape()
        unit, side, scale = _unit(tables)
        return cls(
            path=tables.path,
            slide=slide,
            format="STAMP .h5",
            rows=rows,
            width=width,
            dtype=tables.dtype(),
            encoder=str(tables.attrs.get("extractor", "")),
            coords_unit=unit,
            tile_side=side,
            scale=scale,
        )

    def load(self) -> RawBag:
        """The file's rows, with coordinates in micrometres where their unit is known."""
        with feature_datasets(self.path) as tables:
            features, coords = tables.read()
        if coords is None:
            return RawBag(features)
        return RawBag(features, coords * self.scale, self.coords_unit, self.tile_side)


def _unit(tables: FeatureDatasets) -> tuple[str, float | None, float]:
    """Unit of the coordinates, side of a tile, and what to multiply coordinates by."""
    path, attributes = tables.path, tables.attrs
    if tables.coords is None:
        return "", None, 1.0
    if attributes.get("unit") == "um" or "tile_size_um" in attributes:
        name = "tile_size_um" if "tile_size_um" in attributes else "tile_size"
        return MICROMETRES, patch_side(path, name, attributes.get(name)), 1.0
    stride = patch_side(path, "tile_size", attributes.get("tile_size"))
    if stride is None:
        stride = _stride(coordinates(path, values(tables.coords), tables.shape()[0]))
    if round(stride) == _OLD_TILE_PIXELS:
        return MICROMETRES, float(_OLD_TILE_MICROMETRES), _OLD_TILE_MICROMETRES / _OLD_TILE_PIXELS
    return UNKNOWN_UNIT, None, 1.0


def _stride(coords: np.ndarray) -> float:
    """Smallest step between columns or rows of tiles; a lone tile, which has none, is taken for a tile of version 1."""
    finite = coords[np.isfinite(coords).all(1)]
    steps = [np.diff(np.unique(axis)) for axis in finite.T]
    return float(min((step.min() for step in steps if step.size), default=_OLD_TILE_PIXELS))
