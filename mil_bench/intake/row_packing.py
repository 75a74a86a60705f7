"""Reading feature files and writing their rows into a store, in one or several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from mil_bench.bags.reading_process import NoEndError, ReadingProcess
from mil_bench.bags.rows import RowFile
from mil_bench.errors import InputError
from mil_bench.intake.partial_store import PackedRows, RowTarget, Stamp
from mil_bench.intake.readers import (
    AS_USUAL,
    FeatureFile,
    RawBag,
    Reading,
    open_features,
    problem_lines,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.intake.folders import FoundFile


class HasPath(Protocol):
    """Anything about a feature file."""

    @property
    def path(self) -> Path:
        """The file."""


_Item = TypeVar("_Item", bound=HasPath)
_Result = TypeVar("_Result")
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""A ``map`` over processes; results come in the order of the items, which have a ``path``.

In place of a result that a file does not give there are ``Problems``.
"""

Problems = tuple[str, ...]
"""What is wrong with a file, one line each: what a function returns in place of its result."""


@contextlib.contextmanager
def spread_over(workers: int) -> Iterator[Spread]:
    """A ``map`` that runs in ``workers`` processes, or in this one for ``workers=0``.

    A process that a file keeps for too long is ended, and the file has a problem. Files that this
    process opens itself can hold it for ever.

    Raises:
        MilBenchError: a process was killed from outside.
    """
    if workers == 0:
        yield map
        return
    readers = [ReadingProcess(__name__) for _ in range(workers)]
    free: SimpleQueue[ReadingProcess] = SimpleQueue()
    for reader in readers:
        free.put(reader)

    def one(work: Callable[[_Item], _Result], item: _Item) -> _Result | Problems:
        reader = free.get()
        try:
            return read_in(reader, work, item)
        finally:
            free.put(reader)

    pool = ThreadPoolExecutor(workers, "packing")  # its threads only wait for the processes
    try:
        yield lambda work, items: pool.map(partial(one, work), items)
    finally:
        for reader in readers:
            reader.close()
        pool.shutdown(cancel_futures=True)


def read_in(
    reader: ReadingProcess, work: Callable[[_Item], _Result], item: _Item
) -> _Result | Problems:
    """The result of ``work(item)`` in another process, or why its file gives none."""
    try:
        size = item.path.stat().st_size
    except OSError as error:
        return _unreadable(error, item.path)
    try:
        return reader.call(work, item, size)
    except NoEndError as error:
        return (f"{item.path} {error}; the file or its disk is damaged",)


def parted(results: Iterable[_Result | Problems]) -> tuple[list[_Result], list[str]]:
    """Results, and the problems of those that have none."""
    values: list[_Result] = []
    problems: list[str] = []
    for result in results:
        if isinstance(result, tuple):
            problems += result
        else:
            values.append(result)
    return values, problems


@dataclass(frozen=True)
class OpenedFile:
    """A feature file whose shape is read.

    Args:
        file: the file.
        stamp: sizes and times of the file and of those read with it.
    """

    file: FeatureFile
    stamp: Stamp

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path


def open_one(found: FoundFile, how: Reading = AS_USUAL) -> OpenedFile | Problems:
    """Read a file's shape, or say what is wrong with it."""
    try:
        file = open_features(found.path, found.slide, how)
        return OpenedFile(file, _stamp(file))
    except InputError as error:
        return problem_lines(error)
    except OSError as error:
        return _unreadable(error, found.path)


def _stamp(file: FeatureFile) -> Stamp:
    return tuple(
        number
        for status in (path.stat() for path in file.sources)
        for number in (status.st_size, status.st_mtime_ns)
    )


def _unreadable(error: OSError, path: Path) -> Problems:
    return (f"{error.filename or path} cannot be read: {error.strerror}",)


@dataclass(frozen=True)
class RowJob:
    """One slide to pack.

    Args:
        opened: its file.
        first: its first row in the store.
        label: its fine class, which its witnesses get.
        target: where the rows are written.
        claimed: what an earlier call says it has written of the same file, or None.
    """

    opened: OpenedFile
    first: int
    label: int
    target: RowTarget
    claimed: PackedRows | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.opened.path

    @property
    def stamp(self) -> Stamp:
        """What the slide's rows are made of: its files and, if it has witnesses, their class."""
        stamp = self.opened.stamp
        return (*stamp, self.label) if self.opened.file.has_instance_labels else stamp


def pack_rows(job: RowJob) -> PackedRows | Problems:
    """Write a slide's rows unless they are there already, or say what is wrong with its file."""
    with contextlib.closing(RowFile(job.target.path, job.target.columns)) as store:
        return _pack_into(store, job)


def _pack_into(store: RowFile, job: RowJob) -> PackedRows | Problems:
    file, columns = job.opened.file, job.target.columns
    if job.claimed is not None:
        digests = {name: store.digest(name, job.first, file.rows) for name in columns}
        if digests == job.claimed.digests:
            return job.claimed
    raw = read_rows(job.opened)
    if isinstance(raw, tuple):
        return raw
    values: dict[str, Any] = {"features": raw.features, "coords": raw.coords}
    if raw.instance_labels is not None:
        values["instance_labels"] = np.where(raw.instance_labels > 0, job.label, -1)
    rows = PackedRows(
        {name: store.write(name, job.first, values[name]) for name in columns},
        raw.patch_size if "coords" in columns else None,
    )
    job.target.record(file.slide, job.stamp, rows)
    return rows


def load_one(file: FeatureFile) -> RawBag | Problems:
    """A file's rows as they are, or why it cannot be read."""
    try:
        return file.read()
    except InputError as error:
        return problem_lines(error)


def row_problems(opened: OpenedFile) -> Problems:
    """What is wrong with a file's rows."""
    raw = read_rows(opened)
    return raw if isinstance(raw, tuple) else ()


def read_rows(opened: OpenedFile) -> RawBag | Problems:
    """A file's rows, or what is wrong with them."""
    file = opened.file
    try:
        raw = file.read()
        unchanged = _stamp(file) == opened.stamp and raw.features.shape == (file.rows, file.width)
    except InputError as error:
        return problem_lines(error)
    except OSError as error:
        return _unreadable(error, file.path)
    if not unchanged:
        return (f"{file.path} changed while it was being read; pack when it is complete",)
    problems = []
    for what, values in (("features", raw.features), ("coordinates", raw.coords)):
        if values is not None and not all_finite(values):
            count = int(np.count_nonzero(~np.isfinite(values).all(1)))
            problems.append(
                f"{file.path}: {count} of {file.rows} instances hold NaN or infinite {what}"
            )
    return tuple(problems) or raw


def all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite."""
    if values.dtype != np.float16 or not values.size:
        return bool(np.isfinite(values).all())
    # NumPy converts half precision one number at a time. As integers without the sign, NaN and
    # infinity are the largest: three times as fast.
    return int((values.view(np.uint16) << 1).max()) < 0xF800
