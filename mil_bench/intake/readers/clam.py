"""CLAM's ``.h5`` files, and all that look like them.

CLAM (extract_features_fp.py): ``h5_files/<slide>.h5`` with ``features [N, D]`` float32 and ``coords
[N, 2]`` int32, the top left corner in level-0 pixels, no attributes. The patch size is in
``patches/<slide>.h5`` (attributes of ``coords``; wsi_core/WholeSlideImage.py): ``patch_size`` at
the level the patches were cut at, times that level's ``downsample``. It is used if that file is in
the folder next to ``h5_files``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.datasets.slide_ids import HDF5_ENDINGS
from mil_bench.intake.readers.hdf5 import dataset, feature_datasets, opened
from mil_bench.intake.readers.interface import (
    LEVEL_0,
    FeatureFile,
    RawBag,
    Reader,
    broken,
    patch_side,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ClamFile(FeatureFile):
    """A file as CLAM writes it."""

    @classmethod
    def open(cls, path: Path, slide: str) -> ClamFile:
        """Read the shape.

        Raises:
            InputError: the file does not have the layout above.
        """
        with feature_datasets(path) as datasets:
            rows, width = datasets.shape()
            return cls(
                path=path,
                slide=slide,
                format="CLAM .h5",
                rows=rows,
                width=width,
                dtype=datasets.dtype(),
                coords_unit="" if datasets.coords is None else LEVEL_0,
            )

    def load(self) -> RawBag:
        """The file's rows."""
        with feature_datasets(self.path) as datasets:
            features, coords = datasets.read()
        if coords is None:
            return RawBag(features)
        return RawBag(features, coords, LEVEL_0, _patch_side(self.path, coords))


def _patch_side(path: Path, coords: np.ndarray) -> float | None:
    """Side of a patch in level-0 pixels, if there is a list of the same patches."""
    patches = path.parent.parent / "patches" / path.name
    if path.parent.name != "h5_files" or not patches.is_file():
        return None
    # The first and the last patch only: all of them would take as long as the features.
    ends = (slice(1), slice(max(0, len(coords) - 1), None))
    with opened(patches) as file:
        listed = dataset(file, patches, "coords")
        if listed.shape != coords.shape or any(
            not np.array_equal(listed[end], coords[end]) for end in ends
        ):
            return None  # patches of another run
        side = patch_side(patches, "patch_size", listed.attrs.get("patch_size"))
        scale = np.atleast_1d(listed.attrs.get("downsample", np.nan))
    if side is None or scale.dtype.kind not in "iuf" or not scale[0] > 0:
        raise broken(
            patches,
            "has no patch_size and downsample on its 'coords'",
            "Move this list of patches out of its folder.",
        )
    return side * float(scale[0])


CLAM = Reader(
    title="CLAM's .h5",
    endings=HDF5_ENDINGS,
    # Every HDF5 file that no other reader recognises: opening it says what is wrong with it.
    matches=lambda start: start.is_hdf5,
    open=ClamFile.open,
)
