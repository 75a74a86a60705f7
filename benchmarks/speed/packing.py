"""Packing compared with reading the same files by h5py alone, from the page cache and the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import h5py
import numpy as np
from mil_bench.benchmarks.speed.timing import alternate, one_core, table

from mil_bench.datasets.card import DatasetSpec, GroupProfile
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.intake.pack import pack
from mil_bench.progress import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_WIDTH = 1024
# Layouts of the HDF5 datasets that the tools write.
LAYOUTS: Mapping[str, dict[str, Any]] = {
    "TRIDENT: a row per chunk": {"chunks": (1, _WIDTH)},
    "CLAM: chunks of 32 rows, grown": {"chunks": (32, _WIDTH), "maxshape": (None, _WIDTH)},
    "STAMP: contiguous": {},
}
_CARD = DatasetSpec(
    name="speed",
    title="made for timing",
    hierarchy=LabelHierarchy.flat(("a", "b")),
    class_counts=(),
    groups=GroupProfile("patient"),
    bags=None,
    protocols=("patient-kfold",),
    source="",
    licence="",
    citation="",
)


@dataclass(frozen=True)
class _Files:
    """A folder of feature files and its label table."""

    folder: Path
    sheet: Path
    bytes: int

    def paths(self) -> list[Path]:
        """All feature files."""
        return sorted(self.folder.glob("*.h5"))

    def forget(self) -> None:
        """Ask the system to drop the files from its cache."""
        for path in self.paths():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(place: Path, files: int, rows: int, repeats: int) -> str:
    """The table of all layouts.

    Args:
        place: an empty folder on the disk to measure.
        files: number of feature files per layout.
        rows: mean number of rows per file.
        repeats: number of turns; the table has medians.
    """
    lines = []
    for name, storage in LAYOUTS.items():
        made = _write_files(place, storage, files, rows)
        lines.append(_compare(name, made, place / "data", repeats, cached=True))
        lines.append(_compare(f"{name}, not cached", made, place / "data", repeats, cached=False))
        shutil.rmtree(made.folder)
    workers = os.cpu_count() or 1
    head = ["files", "h5py alone, GB/s", "packing, 1 worker, GB/s", "share", "share with fsync"]
    return table([*head, f"share, {workers} workers with fsync", "target"], lines)


def _write_files(place: Path, storage: dict[str, Any], files: int, rows: int) -> _Files:
    rng = np.random.default_rng(0)
    folder, sheet = place / "features", place / "labels.csv"
    folder.mkdir()
    size = 0
    for i in range(files):
        n = int(rows * rng.uniform(0.7, 1.3))
        features = rng.standard_normal((n, _WIDTH), dtype=np.float32)
        with h5py.File(folder / f"s{i:03d}.h5", "w") as file:
            if "maxshape" in storage:
                _grow(file, features, storage)
            else:
                file.create_dataset("features", data=features, **storage)
            file["coords"] = rng.integers(0, 10**5, (n, 2)).astype(np.int32)
        size += features.nbytes
    sheet.write_text(
        "slide,label,patient\n" + "".join(f"s{i:03d},{'ab'[i % 2]},{i}\n" for i in range(files))
    )
    return _Files(folder, sheet, size)


def _grow(file: h5py.File, features: np.ndarray, storage: dict[str, Any]) -> None:
    """Append batches of 256 rows, like a loop over batches of patches."""
    dataset = file.create_dataset("features", (0, _WIDTH), np.float32, **storage)
    for start in range(0, len(features), 256):
        batch = features[start : start + 256]
        dataset.resize(start + len(batch), axis=0)
        dataset[start:] = batch


def _compare(name: str, made: _Files, data: Path, repeats: int, cached: bool) -> list[str]:
    """A row of the table: h5py alone, one worker without and with the last fsync, all workers."""
    flushing: list[float] = []

    def alone() -> None:
        with one_core():
            for path in made.paths():
                with h5py.File(path) as file:
                    file["features"][:], file["coords"][:]

    def packed(workers: int) -> None:
        pack(made.folder, _CARD, made.sheet, data, unwatched, workers)

    def until_flushed() -> float:
        started = time.perf_counter()
        flushing.clear()
        with one_core(), _fsync_timed(flushing):
            packed(1)
        return time.perf_counter() - started - sum(flushing)

    def whole() -> None:
        with one_core():
            packed(1)

    def prepare() -> None:
        shutil.rmtree(data, ignore_errors=True)
        if not cached:
            made.forget()

    alone()  # into the page cache
    runs = {
        "alone": alone,
        "until": until_flushed,
        "whole": whole,
        "all": lambda: packed(os.cpu_count() or 1),
    }
    seconds = alternate(runs, range(repeats), prepare)
    shutil.rmtree(data)
    gigabytes = made.bytes / 1e9
    share = {key: seconds["alone"] / seconds[key] for key in runs}
    rates = [f"{gigabytes / seconds['alone']:.2f}", f"{gigabytes / seconds['until']:.2f}"]
    return [
        name,
        *rates,
        f"{share['until']:.0%}",
        f"{share['whole']:.0%}",
        f"{share['all']:.0%}",
        "80%" if cached else "",
    ]


@contextlib.contextmanager
def _fsync_timed(seconds: list[float]) -> Iterator[None]:
    """Record the seconds spent waiting for the disk inside the block."""
    fsync = os.fsync

    def timed(descriptor: int) -> None:
        started = time.perf_counter()
        fsync(descriptor)
        seconds.append(time.perf_counter() - started)

    with mock.patch.object(os, "fsync", timed):
        yield
