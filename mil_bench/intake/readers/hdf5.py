"""Datasets of HDF5 files; no other file is ever read, and every value is known to be stored."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mil_bench.errors import InputError
from mil_bench.intake.readers.interface import (
    EXTRACT_AGAIN,
    bag_shape,
    broken,
    check_expansion,
    coordinates,
    feature_type,
    reading,
)
from mil_bench.intake.readers.row_chunks import read_row_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class FeatureDatasets:
    """What an open feature file holds.

    Args:
        path: the file.
        key: name of the dataset with the features.
        features: that dataset.
        coords: the dataset with the coordinates, or None.
        attrs: attributes of the file itself.
    """

    path: Path
    key: str
    features: h5py.Dataset
    coords: h5py.Dataset | None
    attrs: Mapping[str, object]

    @property
    def is_slide_vector(self) -> bool:
        """Whether one vector for a whole slide is stored: a bag of one row.

        STAMP says so in an attribute, TRIDENT by the name of the folder.
        """
        is_said = self.attrs.get("feat_type") == "slide"
        is_said |= self.path.parent.name.startswith("slide_features_")
        return bool(is_said and self.features.ndim == 1 and self.features.size)

    def shape(self) -> tuple[int, int]:
        """Instances and width."""
        if self.is_slide_vector:
            return 1, self.features.size
        return bag_shape(self.path, self.features.shape, f"has '{self.key}'")

    def dtype(self) -> str:
        """Name of the features' type."""
        return feature_type(self.path, self.features.dtype.name, self.shape()[0])

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Features ``[n, D]`` as stored and coordinates ``[n, 2]`` as float64."""
        shape = self.shape()
        features = values(self.features).reshape(shape)
        return features, None if self.coords is None else coordinates(
            self.path, values(self.coords), shape[0]
        )


@contextlib.contextmanager
def feature_datasets(path: Path) -> Iterator[FeatureDatasets]:
    """The datasets of a feature file, open for reading.

    Raises:
        InputError: the file is damaged, or has no features, or not all of their values.
    """
    with opened(path) as file:
        wanted = reading().keys
        keys = [name for name in wanted if file.get(name, getlink=True) is not None]
        if len(keys) > 1:
            raise broken(
                path,
                f"has several datasets of features ({', '.join(keys)})",
                "Name the one that is meant with --key.",
            )
        if not keys:
            held = ", ".join(list(file)[:8])
            hint = (
                "; that is a list of patches, their features are in another folder"
                if held == "coords"
                else ""
            )
            raise broken(
                path,
                f"has no dataset '{wanted[0]}' (it holds: {held or 'nothing'}{hint})",
                f"{EXTRACT_AGAIN[:-1]}; features under another name are named with --key.",
            )
        features = FeatureDatasets(path, keys[0], dataset(file, path, keys[0]), None, file.attrs)
        if file.get("coords", getlink=True) is not None and not features.is_slide_vector:
            features = replace(features, coords=dataset(file, path, "coords"))
        yield features


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file for reading; any error of HDF5 becomes one message.

    Raises:
        InputError: the file is damaged, or needs a filter that is not installed.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # a damaged file makes HDF5 raise almost anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise broken(
            path, f"cannot be opened as HDF5, it may be cut short or damaged ({reason})"
        ) from error


def dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """A dataset that is in the file itself with every value written.

    Raises:
        InputError: there is none of that name, or it is a link, a group, or not all its values are
            in the file.
    """
    links = [file.get(part, getlink=True) for part in accumulate(name.split("/"), "{}/{}".format)]
    if None in links:
        raise broken(
            path, f"has no dataset '{name}' (it holds: {', '.join(list(file)[:8]) or 'nothing'})"
        )
    if not all(isinstance(link, h5py.HardLink) for link in links):
        raise broken(path, f"has '{name}' as a link to another place, which is not followed")
    stored = file[name]
    if not isinstance(stored, h5py.Dataset) or stored.shape is None:
        raise broken(path, f"has '{name}', but not as a dataset of numbers")
    if stored.is_virtual or stored.external:
        raise broken(path, f"has '{name}' with its values in other files, which are not read")
    if not _is_complete(stored):
        raise broken(
            path, f"declares '{name}' of shape {stored.shape}, but not all of it was written"
        )
    check_expansion(path, stored.id.get_storage_size(), stored.size * stored.dtype.itemsize)
    return stored


def _is_complete(stored: h5py.Dataset) -> bool:
    """Whether all values are stored; HDF5 would make up zeros for the rest."""
    size = stored.id.get_type().get_size()  # NumPy's may be larger: it reads a bfloat16 as float32
    if stored.chunks is None:
        return stored.id.get_storage_size() >= stored.size * size
    count = math.prod(
        -(-side // chunk) for side, chunk in zip(stored.shape, stored.chunks, strict=True)
    )
    if stored.id.get_create_plist().get_nfilters():
        return stored.id.get_num_chunks() == count
    return stored.id.get_storage_size() >= count * math.prod(stored.chunks) * size


def values(stored: h5py.Dataset) -> np.ndarray:
    """All values in this machine's byte order.

    They are read into an array made here: h5py's ``[:]`` clears its array first, which took up to
    1.6 times as long.
    """
    into = np.empty(stored.shape, stored.dtype.newbyteorder("="))
    if into.size and not read_row_chunks(stored, into):
        stored.read_direct(into)
    return into
