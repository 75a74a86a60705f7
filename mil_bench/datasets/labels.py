"""Label sheets: which slide has which label, patient, centre and official role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from mil_bench.datasets.label_columns import LabelEntry, read_entries
from mil_bench.datasets.slide_ids import SlideNames, own_group
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec

_ROLE_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "valid": "val",
}
_ROLE_NAMES |= {"test": "test", "testing": "test"}


@dataclass(frozen=True)
class SlideLabel:
    """One row of a label sheet.

    Args:
        label: fine class index.
        group: what must not stand on two sides; where unknown, the slide is its own group.
        split: official role, "" where it has none.
        centre: where the slide comes from, "" where unknown.
    """

    label: int
    group: str
    split: str
    centre: str = ""


@dataclass(frozen=True)
class LabelTable:
    """A label sheet.

    Args:
        rows: all faultless rows by slide id.
        named: all slide ids, also those of faulty rows.
        group_name: what a group is, "" where no slide has one.
    """

    rows: dict[str, SlideLabel]
    named: frozenset[str]
    group_name: str

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a slide with the columns slide, label, group, split, centre, as ``BagStore.slides`` has them."""
        rows = [
            (slide, row.label, row.group, row.split, row.centre) for slide, row in self.rows.items()
        ]
        return pd.DataFrame(rows, columns=["slide", "label", "group", "split", "centre"])

    def near_miss(self, slide: str) -> str:
        """Why a slide that is not in the sheet may be meant by one that is, as a hint; "" where nothing is near."""
        return self._names.near_miss(slide, "the sheet")

    @cached_property
    def _names(self) -> SlideNames:
        return SlideNames(self.named)


def read_label_sheet(path: Path, spec: DatasetSpec) -> LabelTable:
    """Read a CSV, TSV or .xlsx with the columns that the dataset's card names; every value is text.

    Raises:
        InputError: every problem of the sheet at once, with its place.
    """
    sheet, problems = parse_label_table(path, spec)
    if problems:
        raise InputError(f"label sheet {path}", problems, "Correct these places and read it again.")
    return sheet


def parse_label_table(path: Path, spec: DatasetSpec) -> tuple[LabelTable, list[str]]:
    """The faultless rows of a label sheet, and what is wrong with the others.

    Raises:
        InputError: the file is not a table, or lacks a column.
    """
    table = read_entries(path, spec.columns)
    problems = list(table.problems)
    index_of = {name: c for c, name in enumerate(spec.hierarchy.fine)}
    rows: dict[str, SlideLabel] = {}
    place_of: dict[str, tuple[str, str]] = {}
    for entry in table.entries:
        slide, label, role = entry.text["slide"], entry.text["label"], entry.text["split"]
        if not any(entry.text.values()):
            continue  # only columns without a meaning here are filled
        if entry.sound:
            problems += _row_problems(entry, index_of, place_of)
        if not slide:
            continue
        place_of.setdefault(slide.lower(), (slide, entry.place))
        if entry.sound and label in index_of:
            group = entry.text["group"] or own_group(slide)
            rows[slide] = SlideLabel(
                index_of[label], group, _ROLE_NAMES.get(role.lower(), ""), entry.text["centre"]
            )
    name = _group_name(spec, table.headings.get("group"))
    if not spec.groups.may_be_blank(name) and not any(
        entry.text["group"] for entry in table.entries
    ):
        name = ""
    named = frozenset(entry.text["slide"] for entry in table.entries) - {""}
    return LabelTable(rows, named, name), problems


def _row_problems(
    entry: LabelEntry, index_of: dict[str, int], place_of: dict[str, tuple[str, str]]
) -> list[str]:
    """What a row says that cannot be."""
    slide, label, role = entry.text["slide"], entry.text["label"], entry.text["split"]
    where = f"{entry.place}, slide '{slide}'"
    problems = []
    if not slide:
        problems.append(f"{entry.place}: empty slide id")
    if not label:
        problems.append(f"{where}: no label")
    elif label not in index_of:
        meant = next(
            (f", written '{name}' there" for name in index_of if name.lower() == label.lower()), ""
        )
        problems.append(f"{where}: label '{label}' is not one of {', '.join(index_of)}{meant}")
    if role and role.lower() not in _ROLE_NAMES:
        problems.append(f"{where}: role '{role}' is not train, val or test")
    if slide and slide.lower() in place_of:
        other, place = place_of[slide.lower()]
        spelled = "" if other == slide else f", as '{other}'"
        problems.append(f"{where}: stands in {place} already{spelled}")
    return problems


def _group_name(spec: DatasetSpec, heading: str | None) -> str:
    """What the sheet's groups are: the card's word for its own column, else the column's name."""
    if heading is None:
        return ""
    own = heading.lower()
    if own == spec.columns.group[0].lower():
        return spec.groups.name
    return own.removesuffix("_id").removesuffix(" id")
