"""Text tables separated by commas, semicolons (as European spreadsheets write) or tabs."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from mil_bench.datasets.tables.table import TableRow, TextTable, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SEPARATORS = (",", ";", "\t")


def read_delimited(path: Path, raw: bytes, fits: Callable[[tuple[str, ...]], bool]) -> TextTable:
    """The table in the bytes of a text file; see ``read_table``.

    Raises:
        InputError: not UTF-8 text, no rows, an open quotation mark, or rows with more fields than
            the header.
    """
    text = _decoded(path, raw)
    headers = {separator: _header(text, separator) for separator in _SEPARATORS}
    fitting = [separator for separator, header in headers.items() if fits(header)]
    separator = fitting[0] if fitting else max(_SEPARATORS, key=lambda s: len(headers[s]))
    columns: tuple[str, ...] = ()
    rows, too_long = [], []
    for line, cells in _records(path, text, separator):
        if not columns:
            columns = cells
            continue
        while len(cells) > len(columns) and not cells[-1]:
            cells = cells[:-1]  # separators at the end of a line, as spreadsheets leave them
        if len(cells) > len(columns):
            too_long.append(
                f"line {line} has {len(cells)} fields, the header line has {len(columns)}"
            )
        rows.append(TableRow(f"line {line}", cells + ("",) * (len(columns) - len(cells))))
    if too_long:  # which fields are shifted is unknown
        raise refusal(path, *too_long)
    if not rows:
        raise refusal(path, "it has no rows under its header line")
    return TextTable(columns, tuple(rows))


def _decoded(path: Path, raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refusal(path, "it is UTF-16 text; save it as CSV UTF-8")
    at = raw.find(b"\0")
    if at >= 0:
        raise refusal(path, f"line {_line(raw, at)} holds a NUL byte, so it is not a text table")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"line {_line(raw, error.start)}: byte 0x{raw[error.start]:02x}"
        raise refusal(path, f"{byte} is not UTF-8 text; save it as CSV UTF-8") from error


def _line(raw: bytes, at: int) -> int:
    return raw.count(b"\n", 0, at) + 1


def _header(text: str, separator: str) -> tuple[str, ...]:
    """The first line that is not blank, () if it cannot be split at this separator."""
    try:
        return next((cells for _, cells in _cut(text, separator)), ())
    except csv.Error:
        return ()


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    line = 0
    try:
        for line, cells in _cut(text, separator):
            yield line, cells
    except csv.Error as error:
        problem = f"after line {line}: {error}" if line else f"line 1: {error}"
        raise refusal(
            path, f"{problem}; is a quotation mark open or in the middle of a cell?"
        ) from error


def _cut(text: str, separator: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number and stripped cells of every line that is not blank."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    end = 0
    for record in reader:
        start, end = end + 1, reader.line_num
        cells = tuple(cell.strip() for cell in record)
        if any(cells):
            yield start, cells
