"""Label sheets: which slide has which label, patient and official role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mil_bench.data.spec import DatasetSpec
from mil_bench.errors import InputError

_ROLE_NAMES = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val"}
_ROLE_NAMES |= {"test": "test", "testing": "test"}


@dataclass(frozen=True)
class SlideLabel:
    """One row of a label sheet: fine class index, group ("" where unknown), official role ("" where it has none)."""

    label: int
    group: str
    split: str


@dataclass(frozen=True)
class LabelSheet:
    """A label sheet.

    Args:
        rows: all faultless rows by slide id.
        named: all slide ids, also those of faulty rows.
        group_name: what a group is, "" where groups are unknown.
        without_group: slides that have none, although the others have.
    """

    rows: dict[str, SlideLabel]
    named: frozenset[str]
    group_name: str
    without_group: tuple[str, ...]


def read_label_sheet(path: Path, spec: DatasetSpec) -> LabelSheet:
    """Read a CSV with the columns that the dataset's card names; every value is text.

    Raises:
        InputError: every problem of the sheet at once, with line numbers.
    """
    sheet, problems = parse_label_sheet(path, spec)
    if problems:
        raise InputError(f"label sheet {path}", problems, "Correct these lines; nothing was packed.")
    return sheet


def parse_label_sheet(path: Path, spec: DatasetSpec) -> tuple[LabelSheet, list[str]]:
    """The faultless rows of a label sheet, and what is wrong with the others.

    Raises:
        InputError: the file is not a table, or lacks a column.
    """
    table = _read_csv(path)
    columns = {
        role: _column(table.columns, getattr(spec.columns, role)) for role in ("slide", "label", "group", "split")
    }
    missing = [
        f"no {role} column; looked for {', '.join(getattr(spec.columns, role))}; found {', '.join(table.columns)}"
        for role in ("slide", "label")
        if columns[role] is None
    ]
    if missing:
        raise InputError(f"label sheet {path}", missing, "Rename the column, or name it so in a copy of the sheet.")
    values = {role: (table[name] if name else pd.Series("", table.index)).str.strip() for role, name in columns.items()}
    index_of = {name: c for c, name in enumerate(spec.hierarchy.fine)}
    problems: list[str] = []
    rows: dict[str, SlideLabel] = {}
    line_of: dict[str, int] = {}
    for line, (slide, label, group, split) in enumerate(
        zip(*(values[role] for role in ("slide", "label", "group", "split")), strict=True), start=2
    ):
        where = f"line {line}, slide '{slide}'"
        if not (slide or label or group or split):
            continue  # a blank line
        role = _ROLE_NAMES.get(split.lower())
        if not slide:
            problems.append(f"line {line}: empty slide id")
        if label not in index_of:
            problems.append(f"{where}: label '{label}' is not one of {', '.join(spec.hierarchy.fine)}")
        if split and role is None:
            problems.append(f"{where}: role '{split}' is not train, val or test")
        if slide in line_of:
            problems.append(f"{where}: stands in line {line_of[slide]} already")
        line_of.setdefault(slide, line)
        if label in index_of and slide:
            # A slide without a group of its own is its own group.
            rows[slide] = SlideLabel(index_of[label], group or f"slide {slide}", role or "")
    without = tuple(slide for slide in rows if rows[slide].group == f"slide {slide}")
    return LabelSheet(rows, frozenset(line_of), _group_name(spec, columns["group"], without), without), problems


def _group_name(spec: DatasetSpec, column: str | None, without: tuple[str, ...]) -> str:
    """What the sheet's groups are: the card's word for its own column, else the column's name."""
    if column is None or (without and not spec.groups.optional):
        return ""
    own = str(column).strip().lower()
    return spec.groups.name if own == spec.columns.group[0] else own.removesuffix("_id").removesuffix(" id")


def _read_csv(path: Path) -> pd.DataFrame:
    remedy = "Give a comma-separated text file with a header line."
    try:
        # Blank lines are kept, so that line numbers are those of the file.
        options = {"keep_default_na": False, "skip_blank_lines": False, "skipinitialspace": True}
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", **options).fillna("")
    except (OSError, ValueError) as error:  # pandas' parser errors and wrong encodings are ValueErrors
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"label sheet {path}", [f"cannot be read as CSV: {reason}"], remedy) from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas has taken the first column for row names
        raise InputError(f"label sheet {path}", ["its rows have more fields than the header line"], remedy)
    if table.empty:
        raise InputError(f"label sheet {path}", ["has no rows"], remedy)
    return table


def _column(names: Sequence[str], accepted: Sequence[str]) -> str | None:
    by_lower = {str(name).strip().lower(): name for name in names}
    return next((by_lower[a.lower()] for a in accepted if a.lower() in by_lower), None)
