"""torchmil's folders of arrays, ``features/``, ``patch_labels/`` and ``coords/``.

Each holds one ``<bag>.npy`` or ``<bag>.h5`` per bag.

torchmil 1.0 (datasets/processed_mil_dataset.py): features ``[N, D]``, coordinates ``[N, 2]``,
labels of patches ``[N]``, 1 where a patch shows what the bag's label says; its published sets have
features one level deeper, in ``features/features_<encoder>/``. An ``.h5`` has the array under the
name of its folder. No file says the unit of the coordinates. Its ``labels/`` are not read: labels
come from the label table. A single ``.npy`` outside such folders is read as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.datasets.slide_ids import HDF5_ENDINGS, NUMPY_ENDINGS
from mil_bench.intake.readers import hdf5
from mil_bench.intake.readers.interface import (
    FEATURE_KEYS,
    HDF5_SIGNATURE,
    UNKNOWN_UNIT,
    FeatureFile,
    FileStart,
    RawBag,
    Reader,
    bag_shape,
    broken,
    coordinates,
    feature_type,
    reading,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.errors import InputError

_SIGNATURE = b"\x93NUMPY"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, kw_only=True)
class TorchmilFile(FeatureFile):
    """A bag of torchmil, or a single ``.npy``.

    Args:
        coords_path: the file with the coordinates, or None.
        labels_path: the file with the labels of the patches, or None.
    """

    coords_path: Path | None
    labels_path: Path | None

    @classmethod
    def open(cls, path: Path, slide: str) -> TorchmilFile:
        """Read the shape, and find the bag's coordinates and patch labels.

        Raises:
            InputError: the features are not a float16 or float32 matrix, or are cut short.
        """
        shape, dtype = _header(path)
        rows, width = bag_shape(path, shape, "holds an array")
        coords, labels = _sibling(path, "coords"), _sibling(path, "patch_labels")
        return cls(
            path=path,
            slide=slide,
            format=f"torchmil {path.suffix}" if _is_bag(path) else "plain .npy",
            rows=rows,
            width=width,
            dtype=feature_type(path, dtype.name, rows),
            coords_unit=UNKNOWN_UNIT if coords else "",
            has_instance_labels=labels is not None,
            coords_path=coords,
            labels_path=labels,
        )

    def load(self) -> RawBag:
        """The file's rows, with coordinates and patch labels if the bag has them."""
        features = _array(self.path, "features")
        features = features.reshape(bag_shape(self.path, features.shape, "holds an array"))
        coords, labels = None, None
        if self.coords_path is not None:
            coords = coordinates(self.coords_path, _array(self.coords_path, "coords"), self.rows)
        if self.labels_path is not None:
            labels = _patch_labels(
                self.labels_path, _array(self.labels_path, "patch_labels"), self.rows
            )
        return RawBag(features, coords, self.coords_unit, instance_labels=labels)


def _is_bag(path: Path) -> bool:
    """Whether the same bag has a file in another of torchmil's folders."""
    return any(_sibling(path, name) for name in ("labels", "patch_labels", "coords"))


def _matches(start: FileStart) -> bool:
    if start.content.startswith(_SIGNATURE):
        return True
    stored = [key for key in (*FEATURE_KEYS, "coords") if key in start.datasets]
    return "features" in reading().keys and stored == ["features"] and _is_bag(start.path)


TORCHMIL = Reader(
    title="torchmil's .npy and .h5, or a single .npy",
    endings=(*NUMPY_ENDINGS, *HDF5_ENDINGS),
    matches=_matches,
    open=TorchmilFile.open,
)


def _sibling(path: Path, name: str) -> Path | None:
    """The bag's file in another of torchmil's folders, if there is one."""
    for features in path.parents[:2]:
        if features.name == "features":
            paths = (features.parent / name / f"{path.stem}{ending}" for ending in (".npy", ".h5"))
            return next((file for file in paths if file.is_file()), None)
    return None


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the features without their values."""
    if _is_hdf5(path):
        with hdf5.opened(path) as file:
            features = hdf5.dataset(file, path, "features")
            return features.shape, features.dtype
    try:
        with path.open("rb") as file:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
            start = file.tell()
    except Exception as error:  # a damaged header is Python text, which can be wrong in any way
        raise _unreadable(path, error) from error
    stored = path.stat().st_size - start
    if dtype.kind != "O" and stored < math.prod(shape) * dtype.itemsize:
        raise _unreadable(path, f"{stored} bytes of values for the shape {shape}")
    return shape, dtype


def _array(path: Path, name: str) -> np.ndarray:
    if _is_hdf5(path):
        with hdf5.opened(path) as file:
            return hdf5.values(hdf5.dataset(file, path, name))
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:
        raise _unreadable(path, error) from error


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def _unreadable(path: Path, reason: object) -> InputError:
    return broken(
        path,
        f"cannot be read as a NumPy array, it may be cut short or hold Python objects ({reason})",
    )


def _patch_labels(path: Path, labels: np.ndarray, rows: int) -> np.ndarray:
    """Labels of the patches as ``[n]`` int16."""
    if labels.shape not in ((rows,), (rows, 1), (1, rows)):
        raise broken(path, f"has labels of shape {labels.shape} for {rows} instances")
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise broken(path, "has labels of patches other than 0 and 1")
    return labels.reshape(rows).astype(np.int16)
