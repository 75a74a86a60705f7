"""A table as rows of text cells that know their location."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_BYTES = 256 * 2**20  # a line for each of a million slides takes less than half of it


@dataclass(frozen=True)
class TableRow:
    """One row.

    Args:
        location: where it is, as messages name it ("line 3", "sheet 'Labels', row 3").
        cells: text of every column without surrounding blanks, "" if empty.
        faults: position of a column to what is wrong with its cell, whose text is then not
            meaningful.
    """

    location: str
    cells: tuple[str, ...]
    faults: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TextTable:
    """A header and the rows that are not blank."""

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def refusal(path: Path, *problems: str) -> InputError:
    """What is raised if a file is not a table that can be read."""
    remedy = "Give a CSV or TSV file in UTF-8, or an .xlsx workbook, with one header line."
    return InputError(f"table {path}", problems, remedy)
