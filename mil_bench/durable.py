"""Files that are either whole or absent, whenever a process is killed.

A file is written under a hidden temporary name in its own folder, flushed to the disk, and then
given its final name in one step. ``write_once`` uses a hard link for that step, which fails if the
name exists: the first writer wins and nothing is overwritten. On file systems without hard links
(exFAT, some network shares), a lock file keeps other writers out while the file is renamed.
``replace`` is for what can be made again (tables, reports).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import platform
import shutil
import uuid
from typing import TYPE_CHECKING, BinaryIO

from filelock import FileLock, SoftFileLock, Timeout

from mil_bench.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from filelock import BaseFileLock

_NO_LINKS = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.EMLINK}
_SECONDS_FOR_A_CLAIM = 60
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path next to ``path``, whose file becomes ``path`` unless that exists.

    Nothing is left of it if the block fails.

    Raises:
        StorageError: the folder or the disk refuses; nothing that was stored is touched.
    """
    with _temporary(path) as temporary:
        yield temporary
        with contextlib.suppress(FileExistsError):  # another writer was first, same content
            publish(temporary, path)


def write_once(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write ``path`` through ``fill`` unless it exists already."""
    if path.exists():
        return
    with new_file(path) as temporary, temporary.open("wb") as file:
        fill(file)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its final name, in one step; the temporary name may remain.

    Raises:
        FileExistsError: the name is taken; nothing is overwritten.
    """
    _flush(temporary)
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_once(temporary, path)


def _rename_once(temporary: Path, path: Path) -> None:
    """Rename a file unless the new name is taken; for file systems without hard links."""
    # Its lock file names its process, so that one that was killed does not keep others out.
    with SoftFileLock(path.with_name(f".{path.name}.claim"), timeout=_SECONDS_FOR_A_CLAIM):
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        temporary.rename(path)


def replace(path: Path, content: str | bytes) -> None:
    """Write ``path`` again, in one step; text is encoded as UTF-8."""
    with _temporary(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        _flush(temporary)
        temporary.replace(path)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes out of a block that is about the same folder.

    Raises:
        StorageError: the folder cannot be made or written to.
    """
    lock = acquired(folder / ".lock")
    try:
        yield
    finally:
        lock.release()


def acquired(path: Path, patience: float = -1) -> BaseFileLock:
    """A lock that this process holds until it is released or the process ends.

    The system's locks are used if the file system has them; otherwise (NFS without its lock
    service), a file that names its process, which is removed when it is released.

    Args:
        path: the lock file; its folder is made if it does not exist.
        patience: seconds to wait for another process; negative to wait for ever.

    Raises:
        filelock.Timeout: another process holds the lock.
        StorageError: the folder cannot be made or written to.
    """
    lock: BaseFileLock = FileLock(path, timeout=patience)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            lock = SoftFileLock(path.with_name(f"{path.name}.soft"), timeout=patience)
            lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    return lock


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    # Host and process identify what a kill has left behind; the random part distinguishes equal
    # process ids of two containers.
    temporary = path.with_name(
        f".{path.name}.{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        yield temporary
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> StorageError:
    """The error if the disk or the folder refuses."""
    return StorageError(
        f"Cannot write {path}: {error.strerror or error}. Free space or choose a folder you may "
        "write to; what was stored before is unchanged, and the same command continues from there."
    )


def reserve(temporary: Path, size: int) -> None:
    """Allocate disk space for a file of at least this size, keeping its content.

    For libraries that do not survive a full disk while they write.

    Raises:
        OSError: the disk has not enough space.
    """
    with temporary.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(temporary.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sweep(path: Path) -> None:
    """Remove what a killed process of this machine has left of ``path``."""
    for left in path.parent.glob(
        f".{glob.escape(path.name)}.{glob.escape(platform.node())}-*.partial"
    ):
        pid = left.name.rsplit("-", 2)[-2]
        if pid.isdigit() and not _alive(int(pid)):
            left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush(path: Path) -> None:
    """Write a file's bytes to the disk before its name appears."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
