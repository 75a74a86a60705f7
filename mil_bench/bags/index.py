"""The index of a bag store: what it says of its slides, read only if all of it can be true."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mil_bench.bags.bag import ROLES
from mil_bench.bags.rows import Column
from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROWWISE = {
    "features": ("float16", "float32"),
    "coords": ("float64",),
    "instance_labels": ("int16",),
}
"""Columns with a value or several per instance, and the number types that each may have."""
TEXTS = ("slides", "groups", "splits", "centres")
"""Columns with one text per slide."""
UNLABELLED = -1
"""The label of a slide that the label table of its store does not name."""
FORMAT = "mil-bench bag store"
VERSION = 2
PARTLY_LABELLED = 3
"""Versions of the layout: with and without a label of every slide; otherwise they are the same."""
_ATTRIBUTES = ("dataset", "hierarchy", "origin", "group_name", "coords_unit", "digest")
_DIGEST = re.compile("[0-9a-f]{32}")


class MalformedIndexError(ValueError):
    """The index cannot be true; the text says why, as the rest of a sentence about the store."""


@dataclass(frozen=True, eq=False)
class StoreIndex:
    """What a store says of itself and of its slides, in their order.

    Args:
        attributes: texts about the whole store by name.
        hierarchy: its classes.
        rowwise: its row-wise columns by name.
        starts: first row of each bag, int64 ``[B]``.
        sizes: number of its rows, int64 ``[B]``.
        labels: fine class of each slide, int64 ``[B]``, ``UNLABELLED`` if it has none.
        patch_sizes: side of a patch of each slide, float64 ``[B]``, NaN if unknown.
        texts: one text per slide, by column.
        digests: digest of each slide's rows, by row-wise column.
        without_features: number of slides that the label table names and the store lacks.
    """

    attributes: Mapping[str, str]
    hierarchy: LabelHierarchy
    rowwise: Mapping[str, Column]
    starts: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    patch_sizes: np.ndarray
    texts: Mapping[str, Sequence[str]]
    digests: Mapping[str, Sequence[str]]
    without_features: int = 0

    @property
    def digest(self) -> str:
        """The digest of its slides: that of a store with these slides and no others."""
        offsets = np.cumsum([0, *self.sizes]).tolist()
        labels = self.labels.tolist()
        return index_digest(
            self.attributes, self.hierarchy, self.texts, labels, offsets, self.digests
        )

    def part(self, bags: np.ndarray) -> StoreIndex:
        """The index of some slides (positions in this index), in the order given."""

        def texts(columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
            return {name: [values[bag] for bag in bags] for name, values in columns.items()}

        return replace(
            self,
            starts=self.starts[bags],
            sizes=self.sizes[bags],
            labels=self.labels[bags],
            patch_sizes=self.patch_sizes[bags],
            texts=texts(self.texts),
            digests=texts(self.digests),
        )


def index_digest(
    attributes: Mapping[str, str],
    hierarchy: LabelHierarchy,
    texts: Mapping[str, Sequence[str]],
    labels: Sequence[int],
    offsets: Sequence[int],
    digests: Mapping[str, Sequence[str]],
) -> str:
    """The digest of a store, which stands for all that results depend on."""
    index = [attributes["dataset"], hierarchy.to_json(), attributes["group_name"]]
    columns = [list(texts[name]) for name in TEXTS]
    rows = [list(values) for values in digests.values()]
    content = [*index, *columns, list(labels), list(offsets), *rows]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:16]


def read_index(file: h5py.File) -> StoreIndex:
    """The index of an open store.

    Raises:
        MalformedIndexError: it cannot be true, or is not the one that was written.
    """
    attributes = {name: _text(file, name) for name in _ATTRIBUTES}
    attributes["encoder"] = _text(file, "encoder") if "encoder" in file.attrs else ""
    hierarchy = _hierarchy(attributes["hierarchy"])
    rowwise = {name: _rowwise(file, name) for name in ROWWISE if name in file}
    if "features" not in rowwise:
        raise MalformedIndexError("has no dataset 'features'")
    rows = rowwise["features"].shape[0]
    for name, column in rowwise.items():
        if column.shape[0] != rows:
            raise MalformedIndexError(
                f"has {column.shape[0]} rows of {name} and {rows} of features"
            )
    offsets = _numbers(file, "offsets", "iu", None)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 1).any():
        raise MalformedIndexError(
            f"has offsets that do not rise from 0 to {rows}, with a row or more for every slide"
        )
    count = len(offsets) - 1
    labels = _numbers(file, "labels", "iu", count)
    least = UNLABELLED if file.attrs["version"] == PARTLY_LABELLED else 0
    outside = sorted({int(c) for c in labels} - set(range(least, hierarchy.n_fine)))
    if outside:
        raise MalformedIndexError(
            f"has the labels {outside[:5]}, which are none of its {hierarchy.n_fine} classes"
        )
    patch_sizes = _numbers(file, "patch_sizes", "f", count)
    if not (np.isnan(patch_sizes) | ((patch_sizes > 0) & np.isfinite(patch_sizes))).all():
        raise MalformedIndexError("has patch sizes that are not positive numbers")
    texts = {name: _texts(file, name, count) for name in TEXTS}
    digests = {name: _texts(file, f"{name}_digests", count) for name in rowwise}
    starts, sizes, missing = offsets[:-1], np.diff(offsets), _count(file, "without_features")
    index = StoreIndex(
        attributes, hierarchy, rowwise, starts, sizes, labels, patch_sizes, texts, digests, missing
    )
    _check_texts(index)
    if attributes["digest"] != index.digest:
        raise MalformedIndexError(
            "is damaged: its slides, labels or digests are not those that were written"
        )
    return index


def _check_texts(index: StoreIndex) -> None:
    slides = index.texts["slides"]
    if len(set(slides)) != len(slides) or "" in slides:
        raise MalformedIndexError("has a slide without an id, or twice")
    if not set(index.texts["splits"]) <= ROLES:
        raise MalformedIndexError("has roles of slides that are not train, val or test")
    if not all(_DIGEST.fullmatch(text) for texts in index.digests.values() for text in texts):
        raise MalformedIndexError("has digests of rows that are no digests")


def _text(file: h5py.File, name: str) -> str:
    value = file.attrs.get(name)
    if not isinstance(value, str):
        what = "has no" if value is None else "has something else than text as its"
        raise MalformedIndexError(f"{what} attribute '{name}'")
    return value


def _count(file: h5py.File, name: str) -> int:
    value = file.attrs.get(name, 0)
    if not isinstance(value, int | np.integer) or value < 0:
        raise MalformedIndexError(f"has something else than a number as its attribute '{name}'")
    return int(value)


def _hierarchy(text: str) -> LabelHierarchy:
    try:
        value = json.loads(text)
        names, parents = [*value["fine"], *value["coarse"]], value["parent"]
        if not all(isinstance(name, str) and name for name in names):
            raise MalformedIndexError("has a hierarchy with classes that have no name")
        if not all(type(parent) is int for parent in parents):
            raise MalformedIndexError("has a hierarchy whose parents are not whole numbers")
        return LabelHierarchy.from_json(value)
    except InputError as error:
        raise MalformedIndexError(f"has a hierarchy with an error: {error.problems[0]}") from error
    except MalformedIndexError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MalformedIndexError("has a hierarchy that cannot be read") from error


def _rowwise(file: h5py.File, name: str) -> Column:
    stored = _stored(file, name)
    columns = {"features": stored.shape[1:], "coords": (2,), "instance_labels": ()}[name]
    shape = (stored.shape[0] if stored.shape else 0, *columns)
    if stored.dtype.str.lstrip("<|") not in {
        np.dtype(kind).str.lstrip("<|") for kind in ROWWISE[name]
    }:
        raise MalformedIndexError(f"has {name} of type {stored.dtype}")
    if stored.shape != shape or (name == "features" and len(shape) != 2) or 0 in shape:
        raise MalformedIndexError(f"has {name} of shape {stored.shape}")
    return Column(stored.id.get_offset(), stored.dtype.name, shape)


def _numbers(file: h5py.File, name: str, kinds: str, count: int | None) -> np.ndarray:
    stored = _stored(file, name)
    if stored.dtype.kind not in kinds or stored.ndim != 1 or count not in (None, len(stored)):
        expected = "" if count is None else f" for {count} slides"
        raise MalformedIndexError(
            f"has {name} of type {stored.dtype} and shape {stored.shape}{expected}"
        )
    values = stored[:].astype(np.float64 if kinds == "f" else np.int64)
    if kinds == "iu" and (values != stored[:]).any():
        raise MalformedIndexError(f"has {name} that are too large")
    return values


def _texts(file: h5py.File, name: str, count: int) -> list[str]:
    stored = _stored(file, name)
    if h5py.check_string_dtype(stored.dtype) is None or stored.shape != (count,):
        raise MalformedIndexError(
            f"has {name} of type {stored.dtype} and shape {stored.shape} for {count} slides"
        )
    try:
        values: list[str] = stored.asstr()[:].tolist()
    except UnicodeDecodeError as error:
        raise MalformedIndexError(f"has {name} that are not UTF-8 text") from error
    return values


def _stored(file: h5py.File, name: str) -> Any:
    """A dataset whose values are all in the file, one after another."""
    link = file.get(name, getlink=True)
    if link is None:
        raise MalformedIndexError(f"has no dataset '{name}'")
    stored = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(stored, h5py.Dataset) or stored.shape is None:
        raise MalformedIndexError(f"has '{name}', but not as a dataset of its own")
    if stored.is_virtual or stored.external:
        raise MalformedIndexError(f"has '{name}' with its values in other files")
    if stored.chunks is not None:
        raise MalformedIndexError(f"has '{name}' in chunks, not in one piece")
    needed = math.prod(stored.shape) * stored.id.get_type().get_size()
    if needed and (stored.id.get_storage_size() < needed or stored.id.get_offset() is None):
        raise MalformedIndexError(f"declares '{name}' of shape {stored.shape}, but holds less")
    return stored
