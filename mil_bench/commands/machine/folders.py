"""Whether folders can hold results and features, also if several machines share them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from mil_bench import durable
from mil_bench.commands.machine.finding import Finding
from mil_bench.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEAST_SPACE = 2e9  # bytes; weights of a run take hundreds of megabytes
_LARGEST_CLOCK_DIFFERENCE = 10.0  # seconds; claims of workers expire after a minute
_MOUNTS = Path("/proc/mounts")


def findings(name: str, folder: Path) -> Iterator[Finding]:
    """What a folder can do; nothing remains in it.

    Args:
        name: of the folder, as it is shown: its path may name a user.
        folder: the folder; if it does not exist, its nearest parent that does is looked at.
    """
    if folder.exists() and not folder.is_dir():
        problem = "It is a file, so nothing can be written into it."
        yield Finding(name, "a file", problem, f"Name a folder: --{name}.")
        return
    place = folder.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    exists = "" if folder.is_dir() else "; not there yet, its parent was looked at"
    try:
        free = shutil.disk_usage(place).free
        with tempfile.TemporaryDirectory(prefix=".mil-bench-doctor-", dir=place) as made:
            seen = f"{free / 1e9:.1f} GB free{_file_system(place)}{exists}"
            yield Finding(name, seen, *_space(free))
            yield _renaming(name, Path(made))
            yield _linking(name, Path(made))
            yield _locking(name, Path(made))
            yield _clock(name, Path(made))
    except OSError as error:
        problem = f"Nothing can be written there: {error.strerror}."
        yield Finding(name, f"cannot be used{exists}", problem, f"Name another one: --{name}.")


def _space(free: float) -> tuple[str, str]:
    """Problem and remedy."""
    if free >= _LEAST_SPACE:
        return "", ""
    return "A run may fill the disk.", "Free space, or name a folder on another disk."


def _file_system(place: Path) -> str:
    """Its kind, where the system says it: ", nfs4"."""
    try:
        lines = [line.split() for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    mounts = {words[1]: words[2] for words in lines if len(words) > 2}
    above = (str(path) for path in (place, *place.parents))
    return next((f", {mounts[path]}" for path in above if path in mounts), "")


def _renaming(name: str, folder: Path) -> Finding:
    """Whether a file replaces another in one step."""
    try:
        durable.replace(folder / "renamed", "one")
        durable.replace(folder / "renamed", "two")
        if (folder / "renamed").read_text() == "two":
            return Finding(f"{name}, renaming", "works")
    except (OSError, StorageError):
        pass
    problem = "A file cannot be replaced by another there, so no result could be stored."
    return Finding(f"{name}, renaming", "fails", problem, f"Name another folder: --{name}.")


def _linking(name: str, folder: Path) -> Finding:
    """Whether two writers of one file are kept apart by a hard link."""
    (folder / "first").write_text("")
    try:
        os.link(folder / "first", folder / "second")
    except OSError:
        return Finding(f"{name}, hard links", "none: lock files keep two writers of a file apart")
    return Finding(f"{name}, hard links", "work")


def _locking(name: str, folder: Path) -> Finding:
    """Whether a lock keeps a second process out."""
    subject = f"{name}, locks"
    try:
        lock = durable.acquired(folder / "lock", patience=0)
    except (Timeout, StorageError):
        problem = "No file can be locked there, so no run could start."
        return Finding(subject, "fail", problem, f"Name another folder: --{name}.")
    try:
        durable.acquired(folder / "lock", patience=0).release()
    except Timeout:
        return Finding(subject, "work")
    finally:
        lock.release()
    return Finding(
        subject,
        "keep nobody out",
        "Two processes at the same time would do the same work, and MLflow's file might break.",
        "Use one process per folder, or a file system with locks.",
    )


def _clock(name: str, folder: Path) -> Finding:
    """Whether the file system has the time of this machine."""
    (folder / "now").write_text("")
    difference = abs((folder / "now").stat().st_mtime - time.time())
    seen = f"differs from that of this machine by {difference:.0f} s"
    if difference <= _LARGEST_CLOCK_DIFFERENCE:
        return Finding(f"{name}, clock", seen)
    problem = "Claims of workers on other machines would be taken for expired."
    return Finding(f"{name}, clock", seen, problem, "Set the clocks of the machines by NTP.")
