"""Reading feature files and writing their rows into a store, in as many processes as asked for."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mil_bench import processes
from mil_bench.bags.rows import RowFile
from mil_bench.errors import InputError, MilBenchError
from mil_bench.intake.folders import FoundFile
from mil_bench.intake.partial_store import PackedRows, Place, Stamp
from mil_bench.intake.readers import FeatureFile, RawBag, open_features, problem_lines

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Spread = Callable[[Callable[[_Item], _Result], Iterable[_Item]], Iterator[_Result]]
"""A ``map`` over one or several processes; results come in the order of the items."""


@contextlib.contextmanager
def spread_over(workers: int) -> Iterator[Spread]:
    """A ``map`` that runs in ``workers`` processes, or in this one for ``workers=1``.

    h5py holds a lock over the whole process, so threads would read one after the other.

    Raises:
        MilBenchError: a process was killed from outside.
    """
    if workers == 1:
        yield map
        return
    # torch, which reads .pt files, does not survive a fork with threads: workers are forked from a
    # server without any, which has imported this module once for all of them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, context, initializer=processes.start_worker)
    try:
        yield lambda work, items: pool.map(work, items)
    except BrokenProcessPool as error:
        reason = "A packing process was killed, as happens when memory runs out."
        raise MilBenchError(
            f"{reason} Call again with fewer --workers; what is packed stays packed."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Opened:
    """A feature file whose shape is read, or what is wrong with it.

    Args:
        found: the file and its slide.
        file: its shape, or None.
        stamp: sizes and times of it and the files beside it that belong to it.
        problems: one line each.
    """

    found: FoundFile
    file: FeatureFile | None
    stamp: Stamp = ()
    problems: tuple[str, ...] = ()


def open_one(found: FoundFile) -> Opened:
    """Read a file's shape."""
    try:
        file = open_features(found.path, found.slide)
        return Opened(found, file, _stamp(file))
    except InputError as error:
        return Opened(found, None, problems=problem_lines(error))
    except OSError as error:
        return Opened(
            found,
            None,
            problems=(f"{error.filename or found.path} cannot be read: {error.strerror}",),
        )


def _stamp(file: FeatureFile) -> Stamp:
    status = [path.stat() for path in file.sources]
    return tuple(number for each in status for number in (each.st_size, each.st_mtime_ns))


@dataclass(frozen=True)
class RowJob:
    """One slide to pack.

    Args:
        opened: its file.
        first: its first row in the store.
        label: its fine class, which its witnesses get.
        place: where the rows go; None only looks for problems.
        claimed: what an earlier call says to have written of the same file, or None.
    """

    opened: Opened
    first: int = 0
    label: int = 0
    place: Place | None = None
    claimed: PackedRows | None = None

    @property
    def stamp(self) -> Stamp:
        """What the slide's rows are made of: its files and, where it has witnesses, their class."""
        file = self.opened.file
        return (
            (*self.opened.stamp, self.label)
            if file and file.has_instance_labels
            else self.opened.stamp
        )


def pack_rows(job: RowJob) -> PackedRows | tuple[str, ...]:
    """Write a slide's rows unless they are there already; or say what is wrong with its file."""
    if job.place is None:
        return _read(job.opened)[1]
    with contextlib.closing(RowFile(job.place.path, job.place.columns)) as store:
        return _pack_into(store, job, job.place)


def _pack_into(store: RowFile, job: RowJob, place: Place) -> PackedRows | tuple[str, ...]:
    file = job.opened.file
    assert file is not None
    if job.claimed is not None:
        found = {name: store.digest(name, job.first, file.rows) for name in place.columns}
        if found == job.claimed.digests:
            return job.claimed
    raw, problems = _read(job.opened)
    if raw is None or problems:
        return problems
    values: dict[str, Any] = {"features": raw.features, "coords": raw.coords}
    if raw.instance_labels is not None:
        values["instance_labels"] = np.where(raw.instance_labels > 0, job.label, -1)
    rows = PackedRows(
        {name: store.write(name, job.first, values[name]) for name in place.columns},
        raw.patch_size if "coords" in place.columns else None,
    )
    place.record(file.slide, job.stamp, rows)
    return rows


def _read(opened: Opened) -> tuple[RawBag | None, tuple[str, ...]]:
    """A file's rows, and what is wrong with them."""
    file, path = opened.file, opened.found.path
    assert file is not None
    try:
        raw = file.read()
        unchanged = _stamp(file) == opened.stamp and raw.features.shape == (file.rows, file.width)
    except InputError as error:
        return None, problem_lines(error)
    except OSError as error:
        return None, (f"{error.filename or path} cannot be read: {error.strerror}",)
    if not unchanged:
        return None, (f"{path}: it was changed while it was being read; pack when it is complete",)
    problems = []
    for what, values in (("features", raw.features), ("coordinates", raw.coords)):
        if values is not None and not _all_finite(values):
            broken = int(np.count_nonzero(~np.isfinite(values).all(1)))
            problems.append(
                f"{path}: {broken} of {file.rows} instances hold NaN or infinite {what}"
            )
    return raw, tuple(problems)


def _all_finite(values: np.ndarray) -> bool:
    if values.dtype != np.float16 or not values.size:
        return bool(np.isfinite(values).all())
    # NumPy converts half precision number by number. As integers without their sign, bits of NaN
    # and infinity are the largest: three times as fast.
    return int((values.view(np.uint16) << 1).max()) < 0xF800
