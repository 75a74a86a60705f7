"""What can be inspected: a folder of feature files, a packed dataset, or an .npz of bags."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.errors import InputError
from mil_bench.intake.readers.interface import EXTRACT_AGAIN, check_expansion
from mil_bench.intake.row_packing import load_one, read_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mil_bench.bags.reading_process import ReadingProcess
    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.labels import LabelTable
    from mil_bench.intake.readers import FeatureFile


@dataclass(frozen=True)
class BagSource:
    """Bags that can be read one by one.

    Args:
        title: what it is, for the first line of a report.
        slides: slide ids.
        classes: names of the classes, () if labels are unknown.
        labels: class of each slide, -1 if it is unknown.
        read: features ``[n, D]`` and coordinates ``[n, 2]`` (or None) of the slide at a position;
            raises InputError if a file is broken.
    """

    title: str
    slides: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    read: Callable[[int], tuple[np.ndarray, np.ndarray | None]]

    @property
    def class_counts(self) -> list[int]:
        """Slides of each class, of those with a label."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes)).tolist()


def files_source(
    title: str,
    files: Sequence[FeatureFile],
    table: LabelTable | None,
    classes: tuple[str, ...],
    reader: ReadingProcess,
) -> BagSource:
    """Feature files as they are, before packing; a process of their own reads them."""

    def read(position: int) -> tuple[np.ndarray, np.ndarray | None]:
        file = files[position]
        raw = read_in(reader, load_one, file)
        if isinstance(raw, tuple):
            raise InputError(f"feature file {file.path}", raw, EXTRACT_AGAIN)
        return raw.features, raw.coords

    slides = {} if table is None else table.slides
    labels = [slides[file.slide].label if file.slide in slides else -1 for file in files]
    return BagSource(
        title,
        tuple(f.slide for f in files),
        classes if slides else (),
        np.array(labels, dtype=int),
        read,
    )


def store_source(title: str, store: BagStore) -> BagSource:
    """A packed dataset, whose rows are compared with their digests."""

    def read(position: int) -> tuple[np.ndarray, np.ndarray | None]:
        damaged = store.damaged(position)
        if damaged:
            slide, columns = store.slides["slide"].iloc[position], " and ".join(damaged)
            problem = f"the {columns} of slide '{slide}' changed on disk since they were packed"
            raise InputError(f"bag store {store.path}", [problem], "Pack the features again.")
        rows = store.rows_of(position)
        return store.features[rows], None if store.coords is None else store.coords[rows]

    return BagSource(title, tuple(store.slides["slide"]), store.hierarchy.fine, store.labels, read)


def npz_source(path: Path) -> BagSource:
    """A file of bags in the form of the classic MIL data.

    It holds ``features [N, D]``, ``offsets [B + 1]``, ``labels [B]``, and optionally ``bag_ids
    [B]``. Nothing in it is unpickled.

    Raises:
        InputError: with every fault of the arrays.
    """
    remedy = (
        "Give an .npz with features [N, D], offsets [B + 1] from 0 to N, "
        "and whole numbers as labels [B]."
    )
    _check_size(path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            held = {
                name: file[name]
                for name in ("features", "offsets", "labels", "bag_ids")
                if name in file
            }
    except (
        OSError,
        ValueError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
        AttributeError,
        TypeError,
    ) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(
            f"bag file {path}", [f"{path.name} cannot be read as arrays: {reason}"], remedy
        ) from error
    problems = _npz_problems(held)
    if problems:
        raise InputError(
            f"bag file {path}", [f"{path.name}: {problem}" for problem in problems], remedy
        )
    features, offsets, values = held["features"], held["offsets"], held["labels"]
    classes, labels = np.unique(values, return_inverse=True)
    slides = held.get("bag_ids", np.arange(len(labels)))

    def read(position: int) -> tuple[np.ndarray, None]:
        return features[offsets[position] : offsets[position + 1]], None

    names = tuple(f"label {value}" for value in classes)
    return BagSource(path.name, tuple(map(str, slides)), names, labels, read)


def _check_size(path: Path) -> None:
    """Refuse an archive that would unpack to many times its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return  # np.load says what is wrong
    check_expansion(path, path.stat().st_size, unpacked)


def _npz_problems(held: dict[str, np.ndarray]) -> list[str]:
    missing = [name for name in ("features", "offsets", "labels") if name not in held]
    if missing:
        return [f"no array '{name}'" for name in missing]
    features, offsets, labels = held["features"], held["offsets"], held["labels"]
    problems = []
    if features.ndim != 2 or features.dtype.kind != "f":
        problems.append(f"features are {features.dtype} of shape {features.shape}")
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        problems.append(f"labels are {labels.dtype} of shape {labels.shape}")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        problems.append(f"offsets are {offsets.dtype} of shape {offsets.shape}")
    elif (
        offsets[0] != 0
        or offsets[-1] != len(features)
        or (np.diff(offsets.astype(np.int64)) < 1).any()
    ):
        problems.append(
            f"offsets do not rise from 0 to {len(features)} with at least one row per bag"
        )
    if not problems and len(labels) != len(offsets) - 1:
        problems.append(f"{len(labels)} labels for {len(offsets) - 1} bags")
    if not problems and len(held.get("bag_ids", labels)) != len(labels):
        problems.append(f"{len(held['bag_ids'])} bag_ids for {len(labels)} bags")
    return problems
