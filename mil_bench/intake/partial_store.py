"""A store that is still being packed: a hidden file beside the final one, and a journal of the slides it holds.

Whatever moment packing is killed at, the same command goes on from here. A line of the journal is a
claim, not a proof: after a power cut its rows may be missing, so their digest is read again before
they count. Labels, groups and centres are no part of it: the index is written last, from the sheet
as it is then.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.bags.rows import Column
from mil_bench.bags.store import VERSION, BagEntry, StoreHeader, lay_out, write_index
from mil_bench.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Stamp = tuple[int, ...]
"""Sizes and times of a slide's files; another stamp, another content."""


@dataclass(frozen=True)
class PackedRows:
    """What packing has learned of one slide.

    Args:
        digests: digest of its rows in each row-wise column.
        patch_size: side of a patch in the unit of the coordinates, or None.
    """

    digests: Mapping[str, str]
    patch_size: float | None


@dataclass(frozen=True)
class Place:
    """Where rows and the word that they are written go; small, as it travels to worker processes.

    Args:
        path: the hidden file.
        journal: its journal.
        columns: its row-wise columns.
    """

    path: Path
    journal: Path
    columns: Mapping[str, Column]

    def record(self, slide: str, stamp: Stamp, rows: PackedRows) -> None:
        """Note that a slide's rows are written; one write, so that lines of several processes do not mix."""
        _append(self.journal, {"slide": slide, "stamp": stamp, **asdict(rows)})


@dataclass(frozen=True)
class PartialStore:
    """A store in the making, locked for this process.

    Args:
        target: its final name.
        header: what it will hold.
        place: where its rows go.
        claimed: stamp and rows of the slides that an earlier call has written, as its journal says.
    """

    target: Path
    header: StoreHeader
    place: Place
    claimed: Mapping[str, tuple[Stamp, PackedRows]]

    def complete(self, entries: Sequence[BagEntry]) -> None:
        """Write the index and give the file its final name.

        Raises:
            StorageError: the disk refuses, or a store of that name has come up meanwhile.
        """
        path = self.place.path
        try:
            write_index(path, self.header, entries)
            durable.publish(path, self.target)
        except FileExistsError as error:
            raise _taken(self.target) from error
        except OSError as error:
            raise durable.cannot_write(self.target, error) from error
        self.discard()

    def discard(self) -> None:
        """Remove the hidden file and its journal."""
        for path in (self.place.path, self.place.journal):
            path.unlink(missing_ok=True)


def _taken(target: Path) -> StorageError:
    return StorageError(
        f"{target} exists by now, made by another process; it was not replaced. Move it away first."
    )


def hidden_path(target: Path) -> Path:
    """Where an unfinished store lies."""
    return target.with_name(f".{target.name}.packing")


@contextlib.contextmanager
def open_partial(
    target: Path, header: StoreHeader, sizes: Mapping[str, int]
) -> Iterator[PartialStore]:
    """Start a store, or go on with the one that an interrupted call has left.

    Args:
        target: its final name.
        header: what it will hold.
        sizes: rows of each slide, in the order of the store. Other slides, rows or types than those
            of the unfinished store mean other places for the rows, and all is packed anew.

    Folders that are made for it and left empty are removed again.

    Raises:
        StorageError: another process is packing it or has just done so, or the disk refuses.
    """
    path = hidden_path(target)
    journal = path.with_name(f"{path.name}.journal")
    layout = hashlib.sha256(
        json.dumps([VERSION, _shape(header), list(sizes.items())]).encode()
    ).hexdigest()
    folders = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(journal, target):
            if target.exists():  # from the process that held the lock until now
                journal.unlink()
                raise _taken(target)
            yield _resume(target, header, path, journal, layout) or _start(
                target, header, path, journal, layout
            )
    except OSError as error:
        raise durable.cannot_write(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # what holds something stays
            for folder in folders:
                folder.rmdir()


def _shape(header: StoreHeader) -> list[object]:
    return [
        header.rows,
        header.width,
        header.dtype,
        bool(header.coords_unit),
        header.has_instance_labels,
    ]


@contextlib.contextmanager
def _locked(journal: Path, target: Path) -> Iterator[None]:
    """Hold the journal's lock; it goes with the process, whatever becomes of it."""
    while True:
        descriptor = os.open(journal, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            message = f"Another process is packing {target} at this moment. Wait for it, or stop it and call again."
            raise StorageError(message) from error
        # Who held the lock before may have finished and removed the file that was opened here.
        if _same(descriptor, journal):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _start(
    target: Path, header: StoreHeader, path: Path, journal: Path, layout: str
) -> PartialStore:
    path.unlink(missing_ok=True)
    os.truncate(journal, 0)
    try:
        columns = lay_out(path, header)
        size = path.stat().st_size
        start = {
            "columns": {name: vars(column) for name, column in columns.items()},
            "layout": layout,
            "size": size,
        }
        _append(journal, start | {"outside": _outside(path, columns, size)})
    except OSError:
        path.unlink(missing_ok=True)
        journal.unlink()
        raise
    return PartialStore(target, header, Place(path, journal, columns), {})


def _resume(
    target: Path, header: StoreHeader, path: Path, journal: Path, layout: str
) -> PartialStore | None:
    """The unfinished store, if there is one of this layout."""
    lines = list(_lines(journal))
    if not lines or lines[0].get("layout") != layout or not path.is_file():
        return None
    if path.stat().st_nlink > 1:
        return None  # it was finished and has its final name too: writing into it would change a stored file
    start = lines[0]
    columns = {
        name: Column(c["start"], c["dtype"], tuple(c["shape"]))
        for name, c in start["columns"].items()
    }
    # If the index was being written when the process died, HDF5's own bytes are in disorder: back
    # to the beginning.
    with path.open("r+b") as file:
        file.truncate(start["size"])
        for at, content in start["outside"]:
            file.seek(at)
            file.write(base64.b64decode(content))
    claimed = {
        line["slide"]: (tuple(line["stamp"]), PackedRows(line["digests"], line["patch_size"]))
        for line in lines[1:]
    }
    return PartialStore(target, header, Place(path, journal, columns), claimed)


def _outside(path: Path, columns: Mapping[str, Column], size: int) -> list[tuple[int, str]]:
    """Everything in a file that is laid out except the columns: a few kilobytes."""
    edges = [
        0,
        *(
            edge
            for c in sorted(columns.values(), key=lambda c: c.start)
            for edge in (c.start, c.stop)
        ),
        size,
    ]
    gaps = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
    with path.open("rb") as file:
        return [(a, base64.b64encode(os.pread(file.fileno(), b - a, a)).decode()) for a, b in gaps]


def _append(journal: Path, line: Mapping[str, object]) -> None:
    # The line break comes first, so that a line that was cut short by a crash spoils no other.
    content = f"\n{json.dumps(line)}".encode()
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND)
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _lines(journal: Path) -> Iterator[dict]:
    for text in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            if isinstance(line, dict):
                yield line
