"""A store that is still being packed: a hidden file next to the final one, and its journal.

The journal names the slides whose rows are written. Whenever packing is killed, the same command
continues from there. A line of the journal is a claim, not a proof: after a power cut the rows may
be missing, so they count only if their digest, computed again, is the one in the journal. Labels,
groups and centres are not part of the journal: the index is written last, from the label table as
it is then.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from mil_bench import durable
from mil_bench.bags.index import VERSION
from mil_bench.bags.layout import BagEntry, StoreHeader, lay_out, write_index
from mil_bench.bags.rows import Column
from mil_bench.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Stamp = tuple[int, ...]
"""Sizes and times of a slide's files; if the content changes, so does the stamp."""


@dataclass(frozen=True)
class PackedRows:
    """What is known of a slide's rows once they are written.

    Args:
        digests: digest of its rows in each row-wise column.
        patch_size: side of a patch in the unit of the coordinates, None if unknown.
    """

    digests: Mapping[str, str]
    patch_size: float | None


@dataclass(frozen=True)
class RowTarget:
    """Where rows are written and recorded; small, because it is sent to worker processes.

    Args:
        path: the hidden file.
        journal: its journal.
        columns: its row-wise columns.
    """

    path: Path
    journal: Path
    columns: Mapping[str, Column]

    def record(self, slide: str, stamp: Stamp, rows: PackedRows) -> None:
        """Note that a slide's rows are written, in one write so that processes do not mix lines."""
        append_line(self.journal, {"slide": slide, "stamp": stamp, **asdict(rows)})


@dataclass(frozen=True)
class PartialStore:
    """An unfinished store, locked for this process.

    Args:
        path: its final name.
        header: what it will hold.
        target: where its rows are written.
        claimed: stamp and rows of the slides that an earlier call has written, according to the
            journal.
    """

    path: Path
    header: StoreHeader
    target: RowTarget
    claimed: Mapping[str, tuple[Stamp, PackedRows]]

    def complete(self, entries: Sequence[BagEntry]) -> None:
        """Write the index and give the file its final name.

        Raises:
            StorageError: the disk refuses, or another process has made a store of that name.
        """
        try:
            write_index(self.target.path, self.header, entries)
            durable.publish(self.target.path, self.path)
        except FileExistsError as error:
            raise taken_name(self.path) from error
        except OSError as error:
            raise durable.cannot_write(self.path, error) from error
        self.discard()

    def discard(self) -> None:
        """Remove the hidden file and its journal."""
        for path in (self.target.path, self.target.journal):
            path.unlink(missing_ok=True)


def taken_name(path: Path) -> StorageError:
    """The error if a store of that name has appeared."""
    return StorageError(
        f"{path} was made by another process in the meantime; it was not replaced. "
        "Move it away first."
    )


def hidden_path(path: Path) -> Path:
    """The unfinished file of a store."""
    return path.with_name(f".{path.name}.packing")


@contextlib.contextmanager
def open_partial(
    path: Path, header: StoreHeader, sizes: Mapping[str, int]
) -> Iterator[PartialStore]:
    """Start a store, or continue the one that an interrupted call has left.

    Args:
        path: its final name.
        header: what it will hold.
        sizes: rows of each slide, in the order of the store. If slides, rows or types differ from
            those of the unfinished store, everything is packed again.

    Folders that are made for it and stay empty are removed again.

    Raises:
        StorageError: another process is packing it or has just done so, or the disk refuses.
    """
    layout = hashlib.sha256(
        json.dumps([VERSION, _shape(header), list(sizes.items())]).encode()
    ).hexdigest()
    folders = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with packing_lock(path):
            if path.exists():  # made by the process that held the lock until now
                raise taken_name(path)
            yield _resume(path, header, layout) or _start(path, header, layout)
    except OSError as error:
        raise durable.cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # folders that are not empty stay
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
def packing_lock(path: Path) -> Iterator[None]:
    """Hold the lock of an unfinished store; the system releases it if the process dies."""
    hidden = hidden_path(path)
    lock_path = hidden.with_name(f"{hidden.name}.lock")
    try:
        lock = durable.acquired(lock_path, patience=0)
    except Timeout as error:
        raise StorageError(
            f"Another process is packing {path} at this moment. "
            "Wait for it, or stop it, and call again."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock_path.unlink()  # while it is held, so that nobody else can hold it
        lock.release()


def journal_path(path: Path) -> Path:
    """The journal of a store's unfinished file."""
    hidden = hidden_path(path)
    return hidden.with_name(f"{hidden.name}.journal")


def _start(path: Path, header: StoreHeader, layout: str) -> PartialStore:
    hidden, journal = hidden_path(path), journal_path(path)
    hidden.unlink(missing_ok=True)
    journal.write_bytes(b"")
    try:
        columns = lay_out(hidden, header)
        size = hidden.stat().st_size
        start = {
            "columns": {name: vars(column) for name, column in columns.items()},
            "layout": layout,
            "size": size,
        }
        append_line(journal, start | {"outside": bytes_outside(hidden, columns, size)})
    except OSError:
        hidden.unlink(missing_ok=True)
        journal.unlink()
        raise
    return PartialStore(path, header, RowTarget(hidden, journal, columns), {})


def _resume(path: Path, header: StoreHeader, layout: str) -> PartialStore | None:
    """The unfinished store, if there is one of this layout."""
    hidden, journal = hidden_path(path), journal_path(path)
    lines = list(journal_lines(journal)) if journal.is_file() else []
    if not lines or lines[0].get("layout") != layout or not hidden.is_file():
        return None
    if hidden.stat().st_nlink > 1:
        # It was finished and has its final name too: writing to it would change a stored file.
        return None
    start = lines[0]
    columns = {
        name: Column(c["start"], c["dtype"], tuple(c["shape"]))
        for name, c in start["columns"].items()
    }
    # If the process died while the index was written, HDF5's own bytes are inconsistent: restore
    # those of the empty file.
    with hidden.open("r+b") as file:
        file.truncate(start["size"])
        for position, content in start["outside"]:
            file.seek(position)
            file.write(base64.b64decode(content))
    claimed = {
        line["slide"]: (tuple(line["stamp"]), PackedRows(line["digests"], line["patch_size"]))
        for line in lines[1:]
    }
    return PartialStore(path, header, RowTarget(hidden, journal, columns), claimed)


def bytes_outside(path: Path, columns: Mapping[str, Column], size: int) -> list[tuple[int, str]]:
    """Everything in the empty file except the columns: a few kilobytes."""
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
    content = []
    with path.open("rb") as file:
        for a, b in gaps:
            file.seek(a)
            content.append((a, base64.b64encode(file.read(b - a)).decode()))
    return content


def append_line(journal: Path, line: Mapping[str, object]) -> None:
    """Add a line to a journal, in one write so that processes do not mix lines."""
    # The line break comes first, so that a line that a crash cut short does not spoil the next.
    content = f"\n{json.dumps(line)}".encode()
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND)
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def journal_lines(journal: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal; one that a crash cut short is left out."""
    for text in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            if isinstance(line, dict):
                yield line
