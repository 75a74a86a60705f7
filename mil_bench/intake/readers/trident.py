"""TRIDENT's ``.h5`` files, and the coordinates of its ``.pt`` files.

TRIDENT 0.3 (WSI.py, IO.py): ``features_<encoder>/<slide>.h5`` with ``features [N, D]`` float16 or
float32, whose attributes name the encoder, and ``coords [N, 2]`` int64, the top left corner in
level-0 pixels, with ``patch_size_level0``. A slide without tissue has features of shape (0, D) or
(0,). The word None means that an attribute is unknown. A ``.pt`` holds features only; its
coordinates are in ``patches/<slide>_patches.h5`` next to the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.datasets.slide_ids import HDF5_ENDINGS
from mil_bench.intake.readers.hdf5 import dataset, feature_datasets, opened, values
from mil_bench.intake.readers.interface import (
    LEVEL_0,
    FeatureFile,
    FileStart,
    RawBag,
    Reader,
    coordinates,
    patch_side,
    reading,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

_PATCH_SIDE = "patch_size_level0"


@dataclass(frozen=True, kw_only=True)
class TridentFile(FeatureFile):
    """A file as TRIDENT writes it."""

    @classmethod
    def open(cls, path: Path, slide: str) -> TridentFile:
        """Read the shape and the encoder.

        Raises:
            InputError: the file does not have the layout above.
        """
        with feature_datasets(path) as datasets:
            rows, width = datasets.shape()
            encoder = str(datasets.features.attrs.get("encoder", "None"))
            return cls(
                path=path,
                slide=slide,
                format="TRIDENT .h5",
                rows=rows,
                width=width,
                dtype=datasets.dtype(),
                encoder="" if encoder == "None" else encoder,
                coords_unit="" if datasets.coords is None else LEVEL_0,
            )

    def load(self) -> RawBag:
        """The file's rows."""
        with feature_datasets(self.path) as datasets:
            features, coords = datasets.read()
            if coords is None or datasets.coords is None:
                return RawBag(features)
            side = datasets.coords.attrs.get(_PATCH_SIDE)
        return RawBag(features, coords, LEVEL_0, patch_side(self.path, _PATCH_SIDE, side))


def _matches(start: FileStart) -> bool:
    """Whether TRIDENT left its attributes."""
    key = reading().key or "features"
    if key not in start.datasets:
        return False
    return "encoder" in start.datasets[key] or _PATCH_SIDE in start.datasets.get("coords", ())


TRIDENT = Reader(
    title="TRIDENT's .h5", endings=HDF5_ENDINGS, matches=_matches, open=TridentFile.open
)


def patches_beside(path: Path, rows: int) -> Path | None:
    """The list of patches of a file of TRIDENT, if the job's folder has one of that length.

    Raises:
        InputError: the list is damaged.
    """
    patches = path.parent.parent / "patches" / f"{path.stem}_patches.h5"
    if not path.parent.name.startswith("features_") or not patches.is_file():
        return None
    with opened(patches) as file:
        return patches if dataset(file, patches, "coords").shape == (rows, 2) else None


def read_patches(patches: Path, rows: int) -> tuple[np.ndarray, float | None]:
    """Coordinates ``[n, 2]`` and the side of a patch in level-0 pixels, None if unknown.

    Raises:
        InputError: the list is damaged, or no longer has that many rows.
    """
    with opened(patches) as file:
        listed = dataset(file, patches, "coords")
        side = patch_side(patches, _PATCH_SIDE, listed.attrs.get(_PATCH_SIDE))
        return coordinates(patches, values(listed), rows), side
