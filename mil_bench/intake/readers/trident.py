"""TRIDENT's ``.h5`` files, and the coordinates of its ``.pt`` files.

TRIDENT 0.3 (WSI.py, IO.py): ``features_<encoder>/<slide>.h5`` with ``features [N, D]`` float16 or
float32, whose attributes name the encoder, and ``coords [N, 2]`` int64, the top left corner in
level-0 pixels, with ``patch_size_level0``. A slide without tissue has features of shape (0, D) or
(0,). An attribute that is not known is the word None. A ``.pt`` has features alone; its coordinates
stand in ``patches/<slide>_patches.h5`` beside the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.intake.readers.hdf5 import FeatureDatasets, dataset, feature_datasets, opened, values
from mil_bench.intake.readers.interface import LEVEL_0, FeatureFile, RawBag, coordinates, patch_side

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True, kw_only=True)
class TridentFile(FeatureFile):
    """A file as TRIDENT writes it."""

    @staticmethod
    def knows(tables: FeatureDatasets) -> bool:
        """Whether TRIDENT left its attributes."""
        return "encoder" in tables.features.attrs or (
            tables.coords is not None and "patch_size_level0" in tables.coords.attrs
        )

    @classmethod
    def open(cls, tables: FeatureDatasets, slide: str) -> TridentFile:
        """Read the shape and the encoder.

        Raises:
            InputError: the file does not have the layout above.
        """
        rows, width = tables.shape()
        encoder = str(tables.features.attrs.get("encoder", "None"))
        return cls(
            path=tables.path,
            slide=slide,
            format="TRIDENT .h5",
            rows=rows,
            width=width,
            dtype=tables.dtype(),
            encoder="" if encoder == "None" else encoder,
            coords_unit="" if tables.coords is None else LEVEL_0,
        )

    def load(self) -> RawBag:
        """The file's rows."""
        with feature_datasets(self.path) as tables:
            features, coords = tables.read()
            if coords is None:
                return RawBag(features)
            side = tables.coords.attrs.get("patch_size_level0")
        return RawBag(features, coords, LEVEL_0, patch_side(self.path, "patch_size_level0", side))


def patches_beside(path: Path, rows: int) -> Path | None:
    """The list of the patches whose features a file of TRIDENT holds, if one of as many rows lies in the job's folder.

    Raises:
        InputError: the list is damaged.
    """
    patches = path.parent.parent / "patches" / f"{path.stem}_patches.h5"
    if not path.parent.name.startswith("features_") or not patches.is_file():
        return None
    with opened(patches) as file:
        return patches if dataset(file, patches, "coords").shape == (rows, 2) else None


def read_patches(patches: Path, rows: int) -> tuple[np.ndarray, float | None]:
    """Coordinates ``[n, 2]`` and the side of a patch in level-0 pixels, or None.

    Raises:
        InputError: the list is damaged, or no longer of so many rows.
    """
    with opened(patches) as file:
        listed = dataset(file, patches, "coords")
        side = patch_side(patches, "patch_size_level0", listed.attrs.get("patch_size_level0"))
        return coordinates(patches, values(listed), rows), side
