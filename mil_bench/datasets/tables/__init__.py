"""Tables that people keep, as text: CSV, TSV and Excel workbooks, recognised by their content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.datasets.tables.delimited import read_delimited
from mil_bench.datasets.tables.table import MOST_BYTES, TableRow, TextTable, refusal
from mil_bench.datasets.tables.workbook import read_workbook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["TableRow", "TextTable", "read_table"]

_OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # also the envelope of a workbook with a password


def read_table(path: Path, fits: Callable[[tuple[str, ...]], bool], sheet: str = "") -> TextTable:
    """Read a table.

    Args:
        path: a text file separated by commas, semicolons or tabs, or an .xlsx workbook.
        fits: whether a header has the columns that are needed; chooses among separators and among
            sheets.
        sheet: the workbook's sheet to take if it has one of that name.

    Returns:
        The table. If there is no choice, its header may not fit, so that the caller can say what
        it lacks.

    Raises:
        InputError: it is not such a table, or several sheets of a workbook may be meant.
    """
    raw = _content(path)
    if raw.startswith(_OLD_EXCEL):
        raise refusal(
            path,
            "it is an old .xls workbook, or one with a password; "
            "save it as .xlsx without a password",
        )
    return (
        read_workbook(path, raw, fits, sheet)
        if raw.startswith(b"PK")
        else read_delimited(path, raw, fits)
    )


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise refusal(path, "it is not a regular file")  # a pipe would be waited for
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise refusal(path, f"it cannot be read: {error.strerror or error}") from error
    if not raw.strip():
        raise refusal(path, "it is empty")
    if len(raw) > MOST_BYTES:
        raise refusal(
            path, f"it has more than {MOST_BYTES // 2**20} MB; no label table is that large"
        )
    return raw
