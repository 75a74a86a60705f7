"""Files that are either whole or absent, whatever moment a process is killed at.

A file is written under a hidden temporary name in its own folder, flushed to the disk, and then given its final
name in one step. ``write_once`` uses a hard link for that step, which fails if the name exists: the first writer
wins and nothing is ever overwritten. ``replace`` is for what can be made again (tables, reports).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mil_bench.errors import StorageError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; when the block ends well, its file becomes ``path`` unless that exists.

    Raises:
        StorageError: the folder or the disk refuses; nothing that was stored is touched.
    """
    with _temporary(path) as temporary:
        yield temporary
        _flush(temporary)
        with contextlib.suppress(FileExistsError):  # the first writer has won, with the same content
            os.link(temporary, path)


def write_once(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write ``path`` through ``fill`` unless it exists already."""
    with new_file(path) as temporary, temporary.open("wb") as file:
        fill(file)


def replace(path: Path, text: str) -> None:
    """Write ``path`` anew, in one step."""
    with _temporary(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        _flush(temporary)
        os.replace(temporary, path)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"Cannot write {path}: {reason}. Free space or choose a folder you may write to; "
            f"what was stored before is untouched, and the same command goes on from there."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Force a file's bytes to the disk before its name appears."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
