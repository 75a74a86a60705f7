"""The layout of a bag store's file, and how it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mil_bench import durable
from mil_bench.bags.index import (
    FORMAT,
    PARTLY_LABELLED,
    ROWWISE,
    UNLABELLED,
    VERSION,
    index_digest,
)
from mil_bench.bags.rows import Column
from mil_bench.bags.seal import seal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.bags.bag import Slide
    from mil_bench.hierarchy import LabelHierarchy

_PAGE = 4096  # columns begin at a page, as memory maps like them


@dataclass(frozen=True)
class StoreHeader:
    """What must be known before the first bag is written.

    Args:
        dataset: slug of the dataset.
        hierarchy: its classes.
        rows: instances of all bags, N.
        width: feature width, D.
        dtype: "float16" or "float32", as the source has it.
        origin: where the features come from, one line.
        group_name: what a group is, "" if groups are unknown.
        coords_unit: unit of the coordinates, "" if bags have none.
        has_instance_labels: whether every bag has witness labels.
        encoder: name of the encoder, "" if it is not known.
        without_features: number of slides that the label table names and the store will lack.
    """

    dataset: str
    hierarchy: LabelHierarchy
    rows: int
    width: int
    dtype: str
    origin: str
    group_name: str
    coords_unit: str = ""
    has_instance_labels: bool = False
    encoder: str = ""
    without_features: int = 0


@dataclass(frozen=True)
class BagEntry:
    """What the index of a store says of one bag.

    Args:
        slide: what is declared of the slide; its label is ``UNLABELLED`` if no table names it.
        rows: number of instances.
        patch_size: side of a patch in the unit of the coordinates, None if unknown.
        digests: digest of the bag's rows in each row-wise column.
    """

    slide: Slide
    rows: int
    patch_size: float | None
    digests: Mapping[str, str]


def lay_out(path: Path, header: StoreHeader) -> dict[str, Column]:
    """Make the file with its row-wise columns, empty but with their space allocated.

    The index is written after the rows, by ``write_index``.

    Raises:
        OSError: the disk has not enough space.
    """
    # HDF5 does not survive a disk that fills up while it writes, so the space is reserved before it
    # opens the file, which frees it, and for good when the file is laid out.
    # 18 bytes are for coordinates and instance label.
    row_bytes = header.width * np.dtype(header.dtype).itemsize + 18
    durable.reserve(path, header.rows * row_bytes + 16 * _PAGE)
    columns = sparse_layout(path, header)
    durable.reserve(path, max(column.stop for column in columns.values()))
    return columns


def sparse_layout(path: Path, header: StoreHeader) -> dict[str, Column]:
    """Make the file with its row-wise columns, which take no disk space until they are written."""
    pages = {"alignment_threshold": _PAGE, "alignment_interval": _PAGE}
    with h5py.File(path, "w", locking=False, **pages) as file:
        columns = {"features": _column(file, "features", header.dtype, (header.rows, header.width))}
        if header.coords_unit:
            columns["coords"] = _column(file, "coords", "float64", (header.rows, 2))
        if header.has_instance_labels:
            columns["instance_labels"] = _column(file, "instance_labels", "int16", (header.rows,))
    return columns


def _column(file: h5py.File, name: str, dtype: str, shape: tuple[int, ...]) -> Column:
    """A contiguous dataset whose position is fixed now and which HDF5 does not fill."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)  # so that the same bags give the same file at any time
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), plan)
    return Column(dataset.get_offset(), dtype, shape)


def write_index(path: Path, header: StoreHeader, entries: Sequence[BagEntry]) -> None:
    """Complete a file that ``lay_out`` has made and whose rows are written.

    Raises:
        OSError: the disk has not enough space.
    """
    durable.reserve(path, path.stat().st_size + len(entries) * 2**10 + 2**20)
    offsets = np.cumsum([0, *(entry.rows for entry in entries)])
    columns = {
        "slides": [entry.slide.id for entry in entries],
        "groups": [entry.slide.group for entry in entries],
        "splits": [entry.slide.split for entry in entries],
        "centres": [entry.slide.centre for entry in entries],
    }
    labels = [entry.slide.label for entry in entries]
    digests = {name: [entry.digests[name] for entry in entries] for name in entries[0].digests}
    about = {
        "dataset": header.dataset,
        "hierarchy": json.dumps(header.hierarchy.to_json()),
        "origin": header.origin,
        "group_name": header.group_name,
        "coords_unit": header.coords_unit,
    }
    about["digest"] = index_digest(
        about, header.hierarchy, columns, labels, offsets.tolist(), digests
    )
    with h5py.File(path, "r+", locking=False) as file:
        file["offsets"] = offsets.astype(np.int64)
        file["labels"] = np.asarray(labels, dtype=np.int16)
        sizes = [np.nan if entry.patch_size is None else entry.patch_size for entry in entries]
        file["patch_sizes"] = np.asarray(sizes, dtype=np.float64)
        named = {f"{name}_digests": texts for name, texts in digests.items()}
        for name, texts in (columns | named).items():
            file.create_dataset(
                name, data=np.asarray(texts, dtype=object), dtype=h5py.string_dtype()
            )
        version = PARTLY_LABELLED if UNLABELLED in labels else VERSION
        more = {"encoder": header.encoder, "without_features": header.without_features}
        file.attrs.update(format=FORMAT, version=version, sealed=True, **about)
        file.attrs.update({name: value for name, value in more.items() if value})
        places = [
            (file[name].id.get_offset(), file[name].nbytes) for name in ROWWISE if name in file
        ]
    seal(path, [(start, start + size) for start, size in places])
