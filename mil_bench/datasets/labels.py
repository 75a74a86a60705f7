"""Label tables: which slide has which label, patient, centre and official role."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mil_bench.bags.bag import Slide, slide_frame
from mil_bench.datasets.card import PATIENT
from mil_bench.datasets.label_columns import ROLE_WORDS, LabelCells, read_label_cells
from mil_bench.datasets.patients import patient_problems
from mil_bench.datasets.slide_ids import SlideNames, own_group
from mil_bench.datasets.spelling import look, means_nothing, visible, without_point
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from mil_bench.datasets.card import DatasetSpec


@dataclass(frozen=True)
class LabelTable:
    """A label table.

    Args:
        slides: the slides of all faultless rows by id.
        named: all slide ids, also those of faulty rows.
        group_name: what a group is, "" if no slide has one.
        unlabelled: slides that are left out because their label is missing, if that is allowed.
        notes: what was noticed and is not wrong, one sentence each.
    """

    slides: dict[str, Slide]
    named: frozenset[str]
    group_name: str
    unlabelled: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per slide with the columns slide, label, group, split, centre."""
        return slide_frame(self.slides.values())

    def near_miss(self, slide: str) -> str:
        """A hint at a slide of the table that an id not in it may mean; "" if none is similar."""
        return self._names.near_miss(slide, "the label table")

    @cached_property
    def _names(self) -> SlideNames:
        return SlideNames(self.named)


def read_label_table(path: Path, spec: DatasetSpec, allow_missing: bool = False) -> LabelTable:
    """Read a CSV, TSV or .xlsx with the columns that the dataset's card names.

    Args:
        path: CSV, TSV or .xlsx.
        spec: the dataset's card.
        allow_missing: leave rows out whose label is blank or a word for a missing one.

    Raises:
        InputError: every problem of the table at once, with its location.
    """
    table, problems = parse_label_table(path, spec, allow_missing)
    if problems:
        raise InputError(f"label table {path}", problems, "Correct these places and read it again.")
    return table


def parse_label_table(
    path: Path, spec: DatasetSpec, allow_missing: bool = False
) -> tuple[LabelTable, list[str]]:
    """The faultless rows of a label table, and what is wrong with the others.

    Args:
        path: CSV, TSV or .xlsx.
        spec: the dataset's card.
        allow_missing: leave rows out whose label is blank or a word for a missing one.

    Raises:
        InputError: the file is not a table, or lacks a column.
    """
    cells = read_label_cells(path, spec.columns)
    has_roles, problems = _has_roles(cells), [*cells.problems, *_without_roles(cells)]
    index_of = {name: c for c, name in enumerate(spec.hierarchy.fine)}
    slides: dict[str, Slide] = {}
    unlabelled: set[str] = set()
    location_of: dict[str, tuple[str, str]] = {}
    for row in cells.rows:
        slide, label, group, split, centre = row.cells
        label = _class_name(label, index_of)
        if not any(row.cells):
            continue  # only columns without a meaning here are filled
        is_missing = allow_missing and label not in index_of and means_nothing(label)
        if not row.faults:
            where = f"{row.location}, slide '{slide}'" if slide else row.location
            problems += [
                f"{where}: {problem}"
                for problem in (
                    _slide_problem(slide, location_of),
                    "" if is_missing else _label_problem(label, index_of),
                    _split_problem(split) if has_roles else "",
                )
                if problem
            ]
        if not slide:
            continue
        location_of.setdefault(slide.lower(), (slide, row.location))
        if is_missing:
            unlabelled.add(slide)
        if not row.faults and label in index_of:
            role = ROLE_WORDS.get(split.lower(), "")
            slides[slide] = Slide(slide, index_of[label], group or own_group(slide), role, centre)
    named, group_name = frozenset(cells.column("slide")) - {""}, _group_name(spec, cells)
    table = LabelTable(
        slides, named, group_name, frozenset(unlabelled - slides.keys()), cells.notes
    )
    if spec.unit == PATIENT and not group_name:
        column = f"column of patients ({', '.join(spec.columns.group)}; the card names its heading)"
        problems.append(f"labels of {spec.name} belong to patients, and there is no {column}")
    elif spec.unit == PATIENT:
        problems += patient_problems(table.frame, spec.hierarchy.fine, group_name)
    return table, problems


def _class_name(label: str, index_of: dict[str, int]) -> str:
    """The card's spelling of a label: "1", "1.0" and 1 are one class if only one is on the card."""
    if label in index_of:
        return label
    meant = [
        name
        for name in index_of
        if label in (visible(name), without_point(name)) or without_point(label) == name
    ]
    return meant[0] if len(meant) == 1 else label


def _slide_problem(slide: str, location_of: dict[str, tuple[str, str]]) -> str:
    if not slide:
        return "empty slide id"
    if slide.lower() not in location_of:
        return ""
    other, location = location_of[slide.lower()]
    return f"already in {location}" + ("" if other == slide else f", as '{other}'")


def _label_problem(label: str, index_of: dict[str, int]) -> str:
    if not label:
        return "no label (--allow-missing leaves such rows out)"
    if label in index_of:
        return ""
    hints = [f", written '{name}' there" for name in index_of if look(name) == look(label)]
    if means_nothing(label):
        hints.append("; if it means that the label is missing, --allow-missing leaves the row out")
    return f"label '{label}' is not one of {', '.join(index_of)}{''.join(hints[:1])}"


def _has_roles(cells: LabelCells) -> bool:
    """Whether the split column may hold roles; numbers are those of folds, and say nothing."""
    texts = {text for text in cells.column("split") if text}
    return not all(re.fullmatch(r"\d+([.,]0+)?", text) for text in texts)


def _without_roles(cells: LabelCells) -> list[str]:
    """What to do about a split column that holds other words than roles only, one line or none."""
    texts = {text.lower() for text in cells.column("split") if text}
    if not texts or not _has_roles(cells) or texts & ROLE_WORDS.keys():
        return []
    return [
        f"column '{cells.headings['split']}' holds no roles; to leave it out, rename it in a copy, "
        'or write columns.split = "none" on the card'
    ]


def _split_problem(split: str) -> str:
    known = not split or split.lower() in ROLE_WORDS
    return "" if known else f"role '{split}' is not train, val or test"


def _group_name(spec: DatasetSpec, cells: LabelCells) -> str:
    """What the groups are: the card's word for its own column, else the column's heading."""
    heading = cells.headings.get("group", "").lower()
    if not heading:
        return ""
    usual = heading == spec.columns.group[0].lower()
    name = spec.groups.name if usual else heading.removesuffix("_id").removesuffix(" id")
    return name if spec.groups.may_be_blank(name) or any(cells.column("group")) else ""
