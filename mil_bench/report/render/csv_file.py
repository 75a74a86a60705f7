"""Tables as CSV: numbers as numbers in full, text that no spreadsheet takes for a formula."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mil_bench.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.report.tables import ResultTable

_QUOTE = '"'
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A text that begins with one of these can be run as a formula by a spreadsheet (OWASP)."""


def csv_file(table: ResultTable) -> str:
    """A table with its title and legend as comments (``#``).

    A column of values has one column per part ("Macro AUC mean", "Macro AUC std"); a value that
    does not exist is empty. Text that a spreadsheet would run begins with an apostrophe.
    """
    columns: dict[str, Sequence[float] | Sequence[str]] = {}
    for column in table.columns:
        for part, values in table.values(column).items():
            columns[column if part in ("text", "value") else f"{column} {part}"] = values
    columns |= _undefined(table)
    if table.job_keys:
        columns["jobs"] = [" ".join(table.job_keys.get(row, ())) for row in table.cells]
    comments = [f"# {one_line(line)}" for line in (table.title, table.legend)]
    rows = [(table.row_heading, *columns), *zip(table.cells, *columns.values(), strict=True)]
    return "".join(f"{line}\n" for line in (*comments, *(",".join(map(_field, r)) for r in rows)))


def harmless(text: str) -> str:
    """A text that a spreadsheet shows and does not run; a number stays a number.

    Control characters are shown by their codes.
    """
    return (
        f"'{one_line(text)}"
        if text.startswith(_FORMULA) and not _is_number(text)
        else one_line(text)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _field(value: float | str) -> str:
    if not isinstance(value, str):
        if math.isnan(value):
            return ""
        return f"{value:.0f}" if value == round(value, 0) else repr(float(value))
    text = harmless(value)
    # Unlike the csv module, "#" is quoted, too: it would begin a comment.
    quoted = any(c in text for c in ',"#') or text != text.strip()
    return f'"{text.replace(_QUOTE, 2 * _QUOTE)}"' if quoted else text


def _undefined(table: ResultTable) -> Mapping[str, Sequence[str]]:
    """Which folds lack a value, for the columns in which any does."""
    folds = {
        f"{column} undefined folds": [
            "" if isinstance(cell := row[column], str) else " ".join(map(str, cell.undefined_folds))
            for row in table.cells.values()
        ]
        for column in table.columns
    }
    return {heading: of_rows for heading, of_rows in folds.items() if any(of_rows)}
