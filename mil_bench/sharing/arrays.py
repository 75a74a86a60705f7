"""Plain arrays from npz files that others made: their headers are checked before they are read.

An npz file is a zip file of arrays. Its header can promise more numbers than the file holds, for
which NumPy would allocate memory, and its members can be compressed a thousand times.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from typing import IO

import numpy as np

_KINDS = "biufU"
"""Kinds of numbers and texts; no objects, records or dates."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_LONGEST_NAME = 300


def plain_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file that ``numpy.savez`` wrote, by name.

    Raises:
        ValueError: it is none, or holds something else; the text says what.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(io.BytesIO(content)) as archive:
            warnings.simplefilter("error")  # NumPy warns of headers that it reads with more effort
            names = archive.namelist()
            if len(set(names)) != len(names):
                raise ValueError("two of its arrays have the same name")
            for info in archive.infolist():
                _check(archive, info)
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return dict(arrays)
    except Exception as error:  # a damaged file makes NumPy raise almost anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"it is no file of plain arrays ({reason:.120})") from error


def _check(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Refuse an array whose bytes are not those that its header promises."""
    if not info.filename.endswith(".npy") or len(info.filename) > _LONGEST_NAME:
        raise ValueError(f"{info.filename!r:.60} is not the name of an array")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename!r:.60} is compressed")
    with archive.open(info) as file:
        shape, dtype = _header(file)
        if dtype.hasobject or dtype.kind not in _KINDS:
            raise ValueError(f"{info.filename!r:.60} holds {dtype}, not numbers or texts")
        promised, held = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
        if min(shape, default=0) < 0 or promised != held:
            raise ValueError(
                f"{info.filename!r:.60} promises {promised} bytes and holds {held} of them"
            )


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"its header has version {version}")
    shape, _, dtype = _HEADERS[version](file)
    return shape, dtype
