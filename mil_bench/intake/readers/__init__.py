"""Readers of feature files, one module a format, chosen by what a file is and not by what it is called."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from mil_bench.intake.readers import hdf5, torchmil
from mil_bench.intake.readers.clam import ClamFile
from mil_bench.intake.readers.folders import FoundFile, find_feature_files, named_as_labelled
from mil_bench.intake.readers.interface import FeatureFile, RawBag, broken, problem_lines
from mil_bench.intake.readers.stamp import StampFile
from mil_bench.intake.readers.trident import TridentFile

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FeatureFile",
    "FoundFile",
    "RawBag",
    "find_feature_files",
    "named_as_labelled",
    "open_features",
    "problem_lines",
]

_TORCH = (b"PK\x03\x04", b"\x80\x02")  # its archive since 1.6, and its older form
_FORMATS = "Known formats: CLAM's and TRIDENT's .h5 and .pt, STAMP's .h5, torchmil's .npy, .pt with a tensor or a dict."


def open_features(path: Path, slide: str = "") -> FeatureFile:
    """The reader for a file, with the file's shape read.

    Args:
        path: the file.
        slide: slide id; without it the file's name without its ending.

    Raises:
        InputError: no reader knows the format, or the file is broken.
    """
    slide = slide or path.stem
    start = _start(path)
    if start == hdf5.SIGNATURE:
        return _open_hdf5(path, slide)
    if start.startswith(torchmil.SIGNATURE):
        return torchmil.TorchmilFile.open(path, slide)
    if start.startswith(_TORCH):
        from mil_bench.intake.readers.torch_pt import TorchFile  # seconds, and many never need it

        return TorchFile.open(path, slide)
    raise broken(
        path,
        "is neither HDF5 nor a torch file nor a NumPy array" if start else "is empty",
        _FORMATS,
    )


def _start(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise broken(path, "is not a file (a pipe or a device)")
        with path.open("rb") as file:
            return file.read(len(hdf5.SIGNATURE))
    except OSError as error:
        raise broken(path, f"cannot be read: {error.strerror}", _FORMATS) from error


def _open_hdf5(path: Path, slide: str) -> FeatureFile:
    with hdf5.feature_datasets(path) as tables:
        if tables.key != "features":
            return StampFile.open(tables, slide)
        if TridentFile.knows(tables):
            return TridentFile.open(tables, slide)
        if tables.coords is not None or not torchmil.is_bag(path):
            return ClamFile.open(tables, slide)
    return torchmil.TorchmilFile.open(path, slide)
