"""All bags of a dataset in one HDF5 file.

Reading per-slide files is the slow part of every training loop in this field, so features are
packed once: one contiguous matrix, the offsets of the bags in it, ids, labels and groups. The
matrix is read through a memory map.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mil_bench import durable
from mil_bench.bags.bag import SLIDE_COLUMNS, Bag, Slide
from mil_bench.bags.index import (
    FORMAT,
    PARTLY_LABELLED,
    TEXTS,
    UNLABELLED,
    VERSION,
    MalformedIndexError,
    StoreIndex,
    read_index,
)
from mil_bench.bags.label_file import read_labels, relabelled
from mil_bench.bags.layout import BagEntry, StoreHeader, lay_out, write_index
from mil_bench.bags.rows import RowFile, digest_of
from mil_bench.bags.seal import seal_problem
from mil_bench.errors import InputError
from mil_bench.progress import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from mil_bench.progress import Watch

_READERS = 4  # threads that verify rows: more are no faster


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
    """Read access to a packed dataset: the labelled slides of a store.

    Bag b has the rows ``ranges[b]`` of the features, ``sizes[b]`` in number; here they are one
    range, and the bag is a slide (``mil_bench.bags.patients`` has bags of several slides). A store
    may have further slides, which nothing here shows; features are never copied.

    Args:
        path: the store file.
        labels: a label file; its labels count and not those of the store. None for the store's.

    Raises:
        InputError: not a store, of another version, cut short, or damaged outside its rows. Rows
            are verified by ``verify``.
    """

    unit = "slide"
    """What a bag is of, for messages."""

    def __init__(self, path: Path, labels: Path | None = None) -> None:
        self.path, self.labels_path = Path(path), labels
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
        self.stored = tuple(index.texts["slides"])  # also those that are not shown
        self._take(self._shown(index))
        end = max(column.stop for column in self._rowwise.values())
        if self.path.stat().st_size < end:
            raise self._broken(f"is cut short: {self.path.stat().st_size} bytes, {end} needed")

    def _check_version(self, file: h5py.File) -> None:
        name, version = file.attrs.get("format"), file.attrs.get("version")
        is_ours = isinstance(name, str) and name == FORMAT
        is_number = isinstance(version, int | np.integer)
        if not (is_ours and is_number and version in (VERSION, PARTLY_LABELLED)):
            says = f"it says {name!r}, version {version}"
            known = f"{VERSION} or {PARTLY_LABELLED}"
            raise self._broken(f"is not a bag store of version {known} ({says})")

    def _broken(self, *problems: str) -> InputError:
        return broken_store(self.path, *problems)

    def _shown(self, index: StoreIndex) -> StoreIndex:
        """The index of the slides that have a label."""
        if self.labels_path is not None:
            shown = relabelled(index, read_labels(self.labels_path))
        else:
            shown = index.part(np.flatnonzero(index.labels != UNLABELLED))
        if not len(shown.labels):
            source = "" if self.labels_path is None else f" of {self.labels_path}"
            raise self._broken(f"holds none of the labelled slides{source}")
        return shown

    def _take(self, index: StoreIndex) -> None:
        attributes = index.attributes
        self.dataset = attributes["dataset"]
        self.hierarchy = index.hierarchy
        self.origin, self.group_name = attributes["origin"], attributes["group_name"]
        self.coords_unit, self.encoder = attributes["coords_unit"], attributes["encoder"]
        self.without_features = index.without_features
        self._rowwise = index.rowwise
        self._index = index  # of the slides, whatever the bags are
        features = index.rowwise["features"]
        self.width, self.dtype = features.shape[1], np.dtype(features.dtype)
        self.sizes, self.labels = index.sizes, index.labels
        self.patch_sizes = index.patch_sizes
        spans = zip(index.starts.tolist(), index.sizes.tolist(), strict=True)
        self.ranges: list[tuple[slice, ...]] = [
            (slice(start, start + size),) for start, size in spans
        ]
        slides, groups, splits, centres = (index.texts[name] for name in TEXTS)
        declared = dict(
            zip(SLIDE_COLUMNS, (slides, self.labels, groups, splits, centres), strict=True)
        )
        import pandas as pd

        self.slides: pd.DataFrame = pd.DataFrame(declared | {"rows": self.sizes})
        if self.labels_path is not None and "instance_labels" in self._rowwise:
            own = {"instance_labels": [digest_of(rows) for rows in self._own_instance_labels()]}
            index = replace(index, digests={**index.digests, **own})
        # As of a store that was packed with these slides alone, so that results are the same ones.
        self.digest = index.digest

    def _own_instance_labels(self) -> Iterator[np.ndarray]:
        """Witness labels of each slide: a witness is one of the class that its slide has here."""
        stored = self._mapped("instance_labels")
        spans = zip(self._index.starts, self._index.sizes, self._index.labels, strict=True)
        for start, size, label in spans:
            rows = stored[start : start + size]
            yield np.where(rows >= 0, label, -1).astype(stored.dtype)

    def damaged(self, position: int) -> tuple[str, ...]:
        """Names of the columns in which a bag's rows are not those that were stored."""
        return self._damaged(position)

    def _damaged(self, position: int) -> tuple[str, ...]:
        """``damaged`` of a slide of the index."""
        first, size = int(self._index.starts[position]), int(self._index.sizes[position])
        with contextlib.closing(RowFile(self.path, self._rowwise, writable=False)) as file:
            return tuple(
                name
                for name, digests in self._index.digests.items()
                if file.digest(name, first, size) != digests[position]
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
            slides = self._index.texts["slides"]
            with ThreadPoolExecutor(_READERS) as readers:
                damages = readers.map(self._damaged, range(len(slides)))
                watched = watch(damages, len(slides), "verifying the rows")
                problems = [
                    f"is damaged: the {' and '.join(columns)} of slide '{slide}' changed on disk"
                    for slide, columns in zip(slides, watched, strict=True)
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
        """All rows of the file ``[N, D]`` as a read-only memory map."""
        return self._mapped("features")

    @cached_property
    def instance_labels(self) -> np.ndarray | None:
        """Witness labels ``[N]`` (fine class, -1 for background), or None."""
        if "instance_labels" not in self._rowwise:
            return None
        stored = self._mapped("instance_labels")
        if self.labels_path is None:
            return stored
        own = np.full_like(stored, -1)
        for start, rows in zip(self._index.starts, self._own_instance_labels(), strict=True):
            own[start : start + len(rows)] = rows
        return own

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

    def rows_of(self, index: int) -> slice | np.ndarray:
        """The rows of a bag; with several ranges, the number of each row ``[n]``."""
        ranges = self.ranges[index]
        if len(ranges) == 1:
            return ranges[0]
        return np.concatenate([np.arange(rows.start, rows.stop) for rows in ranges])

    @property
    def rows(self) -> int:
        """Number of instances of all bags."""
        return int(self.sizes.sum())

    def bag(self, index: int) -> Bag:
        """One bag; the features of a single range are a view of the memory map."""
        rows = self.rows_of(index)
        row = self.slides.iloc[index]
        size = self.patch_sizes[index]
        return Bag(
            slide=Slide(row["slide"], int(row["label"]), row["group"], row["split"], row["centre"]),
            features=self.features[rows],
            coords=None if self.coords is None else self.coords[rows],
            patch_size=None if np.isnan(size) else float(size),
            instance_labels=None if self.instance_labels is None else self.instance_labels[rows],
        )
