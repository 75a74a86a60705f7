"""All bags of a dataset in one HDF5 file.

Reading per-slide files is the slow part of every training loop in this field, so features are
packed once: one contiguous matrix, the offsets of the bags in it, ids, labels and groups. The
matrix is read through a memory map.
"""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd

from mil_bench import durable
from mil_bench.bags.bag import SLIDE_COLUMNS, Bag, Slide
from mil_bench.bags.index import (
    ROWWISE,
    TEXTS,
    MalformedIndexError,
    StoreIndex,
    index_digest,
    read_index,
)
from mil_bench.bags.rows import Column, RowFile
from mil_bench.bags.seal import seal, seal_problem
from mil_bench.errors import InputError
from mil_bench.progress import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.progress import Watch

FORMAT = "mil-bench bag store"
VERSION = 2
_PAGE = 4096  # columns begin at a page, as memory maps like them
_READERS = 4  # threads that verify rows: more are no faster


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


@dataclass(frozen=True)
class BagEntry:
    """What the index of a store says of one bag.

    Args:
        slide: what is declared of the slide.
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
        file.attrs.update(format=FORMAT, version=VERSION, sealed=True, **about)
        places = [
            (file[name].id.get_offset(), file[name].nbytes) for name in ROWWISE if name in file
        ]
    seal(path, [(start, start + size) for start, size in places])


class StoreWriter:
    """Writes a store bag by bag.

    Args:
        path: the file.
        header: what it will hold.

    Raises:
        OSError: the disk has not enough space.
    """

    def __init__(self, path: Path, header: StoreHeader) -> None:
        self._path, self._header = path, header
        self._rows = RowFile(path, lay_out(path, header))
        self._entries: list[BagEntry] = []
        self._added = 0

    def add(self, bag: Bag) -> None:
        """Append one bag. Its features are stored as they are, bit for bit."""
        rows = len(bag.features)
        if self._added + rows > self._header.rows:
            raise ValueError(f"{self._header.rows} rows were announced, more were added")
        digests = {
            name: self._rows.write(name, self._added, getattr(bag, name))
            for name in self._rows.columns
        }
        self._entries.append(BagEntry(bag.slide, rows, bag.patch_size, digests))
        self._added += rows

    def finish(self) -> None:
        """Write the index and the digest of everything."""
        if self._added != self._header.rows:
            raise ValueError(f"{self._header.rows} rows were announced, {self._added} were added")
        write_index(self._path, self._header, self._entries)

    def close(self) -> None:
        """Close the file."""
        self._rows.close()


@contextlib.contextmanager
def create_store(path: Path, header: StoreHeader) -> Iterator[StoreWriter]:
    """A writer whose file becomes ``path`` if the block succeeds; else nothing is left."""
    with (
        durable.new_file(path) as temporary,
        contextlib.closing(StoreWriter(temporary, header)) as writer,
    ):
        yield writer
        writer.finish()


def broken_store(path: Path, *problems: str) -> InputError:
    """The error of a store that cannot be used; problems are rests of sentences about it."""
    remedy = (
        "Move it away and pack the features again (mil-bench data pack); "
        "generated datasets are generated again."
    )
    return InputError(f"bag store {path}", [f"{path.name} {line}" for line in problems], remedy)


class BagStore:
    """Read access to a packed dataset.

    Args:
        path: the store file.

    Raises:
        InputError: not a store, of another version, cut short, or damaged outside its rows. Rows
            are verified by ``verify``.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._is_verified = False
        try:
            damage = seal_problem(self.path)
            if damage:
                raise self._broken(damage)
            with h5py.File(self.path, "r", locking=False) as file:
                self._check_version(file)
                index = read_index(file)
                if damage is None and "sealed" in file.attrs:
                    problem = "cannot be read as a bag store: its end is missing or was written to"
                    raise self._broken(problem)
        except MalformedIndexError as error:
            raise self._broken(str(error)) from error
        except InputError:
            raise
        except Exception as error:  # a damaged file makes HDF5 raise almost anything
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise self._broken(f"cannot be read as a bag store ({reason})") from error
        self._take(index)
        end = max(column.stop for column in self._rowwise.values())
        if self.path.stat().st_size < end:
            raise self._broken(f"is cut short: {self.path.stat().st_size} bytes, {end} needed")

    def _check_version(self, file: h5py.File) -> None:
        name, version = file.attrs.get("format"), file.attrs.get("version")
        is_number = isinstance(version, int | np.integer)
        if not (isinstance(name, str) and name == FORMAT and is_number and version == VERSION):
            says = f"it says {name!r}, version {version}"
            raise self._broken(f"is not a bag store of version {VERSION} ({says})")

    def _broken(self, *problems: str) -> InputError:
        return broken_store(self.path, *problems)

    def _take(self, index: StoreIndex) -> None:
        attributes = index.attributes
        self.dataset, self.digest = attributes["dataset"], attributes["digest"]
        self.hierarchy = index.hierarchy
        self.origin, self.group_name = attributes["origin"], attributes["group_name"]
        self.coords_unit = attributes["coords_unit"]
        self._rowwise, self._digests = index.rowwise, index.digests
        features = index.rowwise["features"]
        (self.rows, self.width), self.dtype = features.shape, np.dtype(features.dtype)
        self.offsets, self.labels = index.offsets, index.labels
        self.patch_sizes = index.patch_sizes
        slides, groups, splits, centres = (index.texts[name] for name in TEXTS)
        declared = dict(
            zip(SLIDE_COLUMNS, (slides, self.labels, groups, splits, centres), strict=True)
        )
        self.slides = pd.DataFrame(declared | {"rows": np.diff(self.offsets)})

    def damaged(self, position: int) -> tuple[str, ...]:
        """Names of the columns in which a slide's rows are not those that were stored."""
        first, stop = (int(row) for row in self.offsets[position : position + 2])
        with contextlib.closing(RowFile(self.path, self._rowwise, writable=False)) as file:
            return tuple(
                name
                for name, digests in self._digests.items()
                if file.digest(name, first, stop - first) != digests[position]
            )

    def verify(self, watch: Watch = unwatched) -> None:
        """Compare the rows of all slides with their digests; a second call does nothing.

        Args:
            watch: wraps the iteration over the slides (a progress bar).

        Raises:
            InputError: rows are not those that were stored, or cannot be read; names the slides.
        """
        if self._is_verified:
            return
        try:
            with ThreadPoolExecutor(_READERS) as readers:
                damages = readers.map(self.damaged, range(len(self)))
                watched = watch(damages, len(self), "verifying the rows")
                problems = [
                    f"is damaged: the {' and '.join(columns)} of slide '{slide}' changed on disk"
                    for slide, columns in zip(self.slides["slide"], watched, strict=True)
                    if columns
                ]
        except OSError as error:
            problems = [f"cannot be read: {error.strerror}"]
        if problems:
            raise self._broken(*problems)
        self._is_verified = True

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def features(self) -> np.ndarray:
        """All rows ``[N, D]`` as a read-only memory map."""
        return self._mapped("features")

    @cached_property
    def instance_labels(self) -> np.ndarray | None:
        """Witness labels ``[N]`` (fine class, -1 for background), or None."""
        return self._mapped("instance_labels") if "instance_labels" in self._rowwise else None

    @cached_property
    def coords(self) -> np.ndarray | None:
        """Coordinates ``[N, 2]`` in ``coords_unit``, or None."""
        return self._mapped("coords") if "coords" in self._rowwise else None

    def _mapped(self, name: str) -> np.ndarray:
        column = self._rowwise[name]
        return np.memmap(self.path, column.dtype, "r", column.start, column.shape)

    def index_of(self, slides: tuple[str, ...]) -> np.ndarray:
        """Positions of slide ids in the store."""
        position = {slide: i for i, slide in enumerate(self.slides["slide"])}
        return np.array([position[s] for s in slides], dtype=np.int64)

    def bag(self, index: int) -> Bag:
        """One bag; its features are a view of the memory map."""
        rows = slice(self.offsets[index], self.offsets[index + 1])
        row = self.slides.iloc[index]
        size = self.patch_sizes[index]
        return Bag(
            slide=Slide(row["slide"], int(row["label"]), row["group"], row["split"], row["centre"]),
            features=self.features[rows],
            coords=None if self.coords is None else self.coords[rows],
            patch_size=None if np.isnan(size) else float(size),
            instance_labels=None if self.instance_labels is None else self.instance_labels[rows],
        )
