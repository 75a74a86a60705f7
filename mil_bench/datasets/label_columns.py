"""Which column of a label table means what, and its cells as text that no spreadsheet has spoiled."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.datasets.tables import TableRow, TextTable, read_table
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mil_bench.datasets.card import LabelColumns

ROLES = ("slide", "label", "group", "split", "centre")
_NEEDED = ("slide", "label")
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_SPOILED = {
    "a number with a decimal point": re.compile(r"\d+[.,]0+"),
    "a number in powers of ten": re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE),
    "a date": re.compile(
        rf"\d{{4}}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?|\d{{1,2}}-{_MONTH}(-\d\d(\d\d)?)?|{_MONTH}-\d\d",
        re.IGNORECASE,
    ),
}


@dataclass(frozen=True)
class LabelEntry:
    """One row of a label table.

    Args:
        place: where it stands.
        text: role to text; "" where the table has no such column.
        sound: whether every cell holds what was once entered.
    """

    place: str
    text: Mapping[str, str]
    sound: bool


@dataclass(frozen=True)
class LabelEntries:
    """The rows of a label table.

    Args:
        headings: role to the heading of its column, for the roles that have one.
        entries: the rows.
        problems: what is wrong with columns and cells, one line each with its place.
    """

    headings: Mapping[str, str]
    entries: tuple[LabelEntry, ...]
    problems: tuple[str, ...]


def read_entries(path: Path, columns: LabelColumns) -> LabelEntries:
    """Read a label table.

    Args:
        path: CSV, TSV or .xlsx.
        columns: which headings are accepted.

    Raises:
        InputError: the file is not a table, or has no slide or label column.
    """

    def fits(header: tuple[str, ...]) -> bool:
        return all(_matching(header, getattr(columns, role)) for role in _NEEDED)

    table = read_table(path, fits, columns.sheet)
    matches = {role: _matching(table.columns, getattr(columns, role)) for role in ROLES}
    missing = [
        f"no {role} column; looked for {', '.join(getattr(columns, role))}; "
        f"found {', '.join(filter(None, table.columns))}"
        for role in _NEEDED
        if not matches[role]
    ]
    if missing:
        remedy = "Rename the column in a copy of the table, or write a card that names it (mil-bench data new)."
        raise InputError(f"table {path}", missing, remedy)
    problems = [line for role in ROLES for line in _ambiguous(role, matches[role], table, columns)]
    chosen = {role: positions[0] for role, positions in matches.items() if positions}
    entries = []
    for row in table.rows:
        faults = [
            fault
            for role, at in chosen.items()
            if (fault := _fault(role, at, row, table.columns[at]))
        ]
        faults = list(dict.fromkeys(faults))  # one column may have two roles
        problems += faults
        entries.append(
            LabelEntry(
                row.place, {role: _text(role, chosen.get(role), row) for role in ROLES}, not faults
            )
        )
    headings = {role: table.columns[at] for role, at in chosen.items()}
    return LabelEntries(headings, tuple(entries), tuple(problems))


def spoiled(text: str) -> str:
    """What a spreadsheet or pandas has made of an id or label ("a date"), "" if it may be as it was entered."""
    return next((what for what, form in _SPOILED.items() if form.fullmatch(text)), "")


def _matching(header: tuple[str, ...], accepted: tuple[str, ...]) -> list[int]:
    """Positions of the columns with an accepted heading, the one named first on the card first."""
    lower = [name.lower() for name in header]
    return [at for name in accepted for at, heading in enumerate(lower) if heading == name.lower()]


def _ambiguous(
    role: str, positions: list[int], table: TextTable, columns: LabelColumns
) -> list[str]:
    """Two columns that could both be meant and do not say the same."""
    if len(positions) < 2:
        return []
    first, second = positions[:2]
    one, two = table.columns[first], table.columns[second]
    # A table may name patients and cases, cases and centres: the card's own word says which of them
    # is the group.
    own = getattr(columns, role)[0].lower()
    if role in ("group", "centre") and one.lower() == own != two.lower():
        return []
    for row in table.rows:
        if _text(role, first, row) != _text(role, second, row):
            said = f"'{row.cells[first]}' and '{row.cells[second]}'"
            where = f"the columns '{one}' and '{two}' could both be the {role} column; {row.place}: {said}"
            return [f"{where}; rename one of them in a copy"]
    return []


def _text(role: str, at: int | None, row: TableRow) -> str:
    text = "" if at is None else row.cells[at]
    return without_ending(text) if role == "slide" else unicodedata.normalize("NFC", text)


def _fault(role: str, at: int, row: TableRow, heading: str) -> str:
    """What is wrong with a cell, "" if nothing."""
    text = row.cells[at]
    if at in row.faults:
        return f"{row.place}: {row.faults[at]}"
    if "\n" in text or "\r" in text:
        return f"{row.place}: column '{heading}' holds a line break; is a quotation mark open?"
    what = "" if role == "split" else spoiled(text)
    if what:
        cure = "write it as it was, in a column formatted as text"
        return f"{row.place}: column '{heading}' holds '{text}', which a spreadsheet or pandas made {what}; {cure}"
    return ""
