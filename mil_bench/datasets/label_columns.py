"""Which column of a label table means what, and its cells as text.

Cells that a spreadsheet or pandas has changed are found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.bags.bag import SLIDE_COLUMNS
from mil_bench.datasets.slide_ids import without_ending
from mil_bench.datasets.spelling import visible
from mil_bench.datasets.tables import TableRow, TextTable, read_table
from mil_bench.errors import InputError
from mil_bench.wording import first_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mil_bench.datasets.card import LabelColumns

ROLES = SLIDE_COLUMNS
"""What a column can mean."""
_NEEDED = ("slide", "label")
ROLE_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "valid": "val",
    "test": "test",
    "testing": "test",
}
"""Spellings of a slide's official role, in lower case."""
_BETWEEN = re.compile(r"[;,|\n\r]")  # what separates the slides of a list
_AROUND = " \t[]()'\""  # what pandas writes around and in a list
_POINT = "a number with a decimal point"
_FOLD = re.compile(r"(?:(?:fold|split|cv|k)[ _-]?)?\d+(?:[.,]0+)?", re.IGNORECASE)
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_SPOILED = {
    _POINT: re.compile(r"\d+[.,]0+"),
    "a number in powers of ten": re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE),
    "a date": re.compile(
        rf"\d{{4}}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?|\d{{1,2}}-{_MONTH}(-\d\d(\d\d)?)?|{_MONTH}-\d\d",
        re.IGNORECASE,
    ),
}


@dataclass(frozen=True)
class LabelCells:
    """The rows of a label table with one cell per role.

    Args:
        headings: role to the heading of its column, for the roles that have one; "slides" in place
            of "slide" if the column lists several slides per row.
        rows: cells in the order of ``ROLES``, "" if there is no such column; a cell with a fault
            does not hold what was once entered.
        problems: what is wrong with columns and cells, one line each with its location.
        notes: what was noticed and is not wrong, one sentence each.
    """

    headings: Mapping[str, str]
    rows: tuple[TableRow, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def column(self, role: str) -> list[str]:
        """The cells of one role."""
        position = ROLES.index(role)
        return [row.cells[position] for row in self.rows]


def read_label_cells(path: Path, columns: LabelColumns) -> LabelCells:
    """Read a label table.

    Args:
        path: CSV, TSV or .xlsx.
        columns: which headings are accepted.

    Raises:
        InputError: the file is not a table, or has no slide or label column.
    """

    def fits(header: tuple[str, ...]) -> bool:
        slide = _matching(header, (*columns.slide, *columns.slides))
        return bool(slide and _matching(header, columns.label))

    table = read_table(path, fits, columns.sheet)
    matches = {role: _matching(table.columns, getattr(columns, role)) for role in ROLES}
    has_lists = not matches["slide"] and bool(_matching(table.columns, columns.slides))
    if has_lists:
        matches["slide"] = _matching(table.columns, columns.slides)
    missing = [
        f"no {role} column; looked for {', '.join(getattr(columns, role))}; "
        f"found {', '.join(filter(None, table.columns))}"
        for role in _NEEDED
        if not matches[role]
    ]
    if missing:
        raise InputError(
            f"table {path}",
            missing,
            "Rename the column in a copy of the table, or name it on a card, as mil-bench data new "
            "NAME --labels TABLE --label-column HEADING does. "
            "mil-bench classifies slides by one label: if a table has several columns of labels, "
            "each gets a card of its own, with columns.label.",
        )
    notes = _without_folds(matches, table)
    problems = [line for role in ROLES for line in _ambiguous(role, matches[role], table, columns)]
    position_of = {role: positions[0] for role, positions in matches.items() if positions}
    rows = []
    table_rows = _one_slide_per_row(table.rows, position_of["slide"]) if has_lists else table.rows
    for row in table_rows:
        faults = {
            ROLES.index(role): fault
            for role, at in position_of.items()
            if (fault := _fault(role, at, row, table.columns[at]))
        }
        problems += dict.fromkeys(faults.values())  # one column may have two roles
        cells = tuple(_text(role, position_of.get(role), row) for role in ROLES)
        rows.append(TableRow(row.location, cells, faults))
    headings = {role: table.columns[at] for role, at in position_of.items()}
    if has_lists:
        headings["slides"] = headings.pop("slide")
    return LabelCells(headings, tuple(rows), tuple(problems), notes)


def _one_slide_per_row(rows: Iterable[TableRow], at: int) -> Iterator[TableRow]:
    """The rows of a table that lists the slides of a patient in one cell, one row per slide."""
    for row in rows:
        listed = [text.strip(_AROUND) for text in _BETWEEN.split(row.cells[at])]
        for slide in [text for text in listed if text] or [""]:
            cells = (*row.cells[:at], slide, *row.cells[at + 1 :])
            yield TableRow(row.location, cells, row.faults)


def _without_folds(matches: dict[str, list[int]], table: TextTable) -> tuple[str, ...]:
    """Drop columns that could hold official roles and hold numbers of folds; says which."""
    notes = []
    for at in [*matches["split"]]:
        filled = {row.cells[at] for row in table.rows} - {""}
        if filled and all(map(_FOLD.fullmatch, filled)):
            matches["split"].remove(at)
            shown = first_names(sorted(filled))
            notes.append(
                f"The column '{table.columns[at]}' holds numbers ({shown}) and no train, val or "
                "test, so it is not taken for official roles."
            )
    return tuple(notes)


def spoiled(text: str) -> str:
    """What a spreadsheet or pandas has made of an id or label ("a date"), "" if nothing."""
    return next((what for what, form in _SPOILED.items() if form.fullmatch(text)), "")


def _matching(header: tuple[str, ...], accepted: tuple[str, ...]) -> list[int]:
    """Positions of the columns with an accepted heading, in the order of the card."""
    lower = [name.lower() for name in header]
    return [at for name in accepted for at, heading in enumerate(lower) if heading == name.lower()]


def _ambiguous(
    role: str, positions: list[int], table: TextTable, columns: LabelColumns
) -> list[str]:
    """Two columns that could both be meant and differ in a row, as one line."""
    if len(positions) < 2:
        return []
    first, second = positions[:2]
    one, two = table.columns[first], table.columns[second]
    # A table may have columns for patients and cases, or cases and centres: the heading named first
    # on the card says which of them is the group.
    usual = getattr(columns, role)[0].lower()
    if role in ("group", "centre") and one.lower() == usual != two.lower():
        return []
    for row in table.rows:
        if _text(role, first, row) != _text(role, second, row):
            return [
                f"the columns '{one}' and '{two}' could both be the {role} column; {row.location}: "
                f"'{row.cells[first]}' and '{row.cells[second]}'; rename one of them in a copy"
            ]
    return []


def _text(role: str, at: int | None, row: TableRow) -> str:
    text = "" if at is None else row.cells[at]
    return without_ending(text) if role == "slide" else visible(text)


def _fault(role: str, at: int, row: TableRow, heading: str) -> str:
    """What is wrong with a cell, "" if nothing."""
    text = visible(row.cells[at])
    if at in row.faults:
        return f"{row.location}: {row.faults[at]}"
    if "\n" in text or "\r" in text:
        return f"{row.location}: column '{heading}' holds a line break; is a quotation mark open?"
    what = "" if role == "split" else spoiled(text)
    if what and not (role == "label" and what == _POINT):
        return (
            f"{row.location}: column '{heading}' holds '{text}', which a spreadsheet or pandas "
            f"made {what}; write it as it was, in a column formatted as text"
        )
    return ""
