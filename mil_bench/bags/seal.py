"""The seal of a bag store: a digest of all its bytes that are not rows, at the end of the file.

HDF5 can loop for ever on damaged bytes, in a way that neither Ctrl-C nor a thread ends. So these
bytes are compared with a digest before HDF5 is asked. HDF5 does not read what follows the end that
its own header states. Rows have digests of their own, in the index.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, BinaryIO

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MAGIC = b"MILSEAL1"
_END = struct.Struct("<Q8s")  # length of the seal's text, and the magic
_MOST_TEXT = 2**12
_PIECE = 2**20


def seal(path: Path, rows: Iterable[tuple[int, int]]) -> None:
    """Append the seal to a finished file.

    Args:
        path: the file.
        rows: first byte and end of each row-wise column.
    """
    spans, size = sorted((int(start), int(stop)) for start, stop in rows), path.stat().st_size
    with path.open("r+b") as file:
        text = json.dumps({"size": size, "rows": spans, "digest": _digest(file, spans, size)})
        file.seek(size)
        file.write(text.encode() + _END.pack(len(text), _MAGIC))


def seal_problem(path: Path) -> str | None:
    """Compare a file with its seal.

    Returns:
        "" if it is as it was sealed, None if it has no seal (older stores have none), otherwise
        what is wrong, as the rest of a sentence.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _END.size))
        end = file.read(_END.size)
        if len(end) < _END.size or not end.endswith(_MAGIC):
            return None
        count, _ = _END.unpack(end)
        if count > min(_MOST_TEXT, length - _END.size):
            return "is damaged: its seal cannot be read"
        file.seek(length - _END.size - count)
        try:
            stated = json.loads(file.read(count))
            size, digest = int(stated["size"]), str(stated["digest"])
            spans = [(int(start), int(stop)) for start, stop in stated["rows"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return "is damaged: its seal cannot be read"
        if size != length - _END.size - count:
            return f"is cut short or was written to: {length} bytes, not {size} and their seal"
        if digest != _digest(file, spans, size):
            return "is damaged: bytes outside its rows are not those that were written"
    return ""


def _digest(file: BinaryIO, spans: list[tuple[int, int]], size: int) -> str:
    """The digest of the spans, and of all bytes before ``size`` that are in none of them."""
    digest, position = xxhash.xxh3_128(repr((spans, size)).encode()), 0
    for start, stop in [*spans, (size, size)]:
        file.seek(position)
        while position < start and (piece := file.read(min(_PIECE, start - position))):
            digest.update(piece)
            position += len(piece)
        position = max(position, stop)
    return digest.hexdigest()
