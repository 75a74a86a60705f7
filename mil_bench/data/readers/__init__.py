"""Readers of feature files, chosen by what a file is, not by what it is called."""

from __future__ import annotations

from pathlib import Path

from mil_bench.data.readers import clam_pt, hdf5
from mil_bench.data.readers.interface import FeatureFile, RawBag
from mil_bench.errors import InputError

__all__ = ["FeatureFile", "RawBag", "open_features"]


def open_features(path: Path) -> FeatureFile:
    """The reader for a file, with the file's shape read.

    Raises:
        InputError: no reader knows the format, or the file is broken.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from error
    if start == hdf5.SIGNATURE:
        return hdf5.Hdf5FeatureFile.open(path)
    if start.startswith(clam_pt.SIGNATURES):
        return clam_pt.TensorFeatureFile.open(path)
    raise _wrong(path, "is empty" if not start else "is neither HDF5 nor a torch file")


def _wrong(path: Path, problem: str) -> InputError:
    remedy = "Known formats: CLAM .h5 and .pt, TRIDENT .h5."
    return InputError(f"feature file {path}", [f"{path.name} {problem}"], remedy)
