"""A new card for a dataset of the user's own, from a template and, if given, its label table."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.datasets.card import LabelColumns
from mil_bench.datasets.card_file import name_problems
from mil_bench.datasets.label_columns import LabelCells, read_label_cells
from mil_bench.datasets.spelling import look, means_nothing, without_point
from mil_bench.errors import InputError
from mil_bench.splits.centres import LEAVE_ONE_CENTRE_OUT
from mil_bench.splits.protocols import PROTOCOLS
from mil_bench.wording import plural

if TYPE_CHECKING:
    from pathlib import Path

_EXAMPLES = ("benign", "malignant")
_USUAL = LabelColumns()
_NEEDS = {"official": "split", LEAVE_ONE_CENTRE_OUT: "centre"}
"""Protocols to the column without which they make no folds."""
_MOST_CLASSES = 100
_MOST_NUMBERS = 10  # different ones that are taken for grades
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?", re.IGNORECASE)
_NOT_DONE = (
    "mil-bench classifies slides: it has neither regression nor survival analysis, so make classes "
    "of such a column in a copy"
)


@dataclass(frozen=True)
class NewCard:
    """A card that was written.

    Args:
        path: the file.
        notes: what was noticed in the label table, one sentence each.
    """

    path: Path
    notes: tuple[str, ...] = ()


def new_card(
    name: str,
    labels: Path | None,
    folder: Path,
    allow_missing: bool = False,
    columns: LabelColumns = _USUAL,
) -> NewCard:
    """Write ``NAME.toml`` with every key explained.

    Args:
        name: of the dataset, lower case with hyphens.
        labels: its label table, whose classes, numbers of slides and headings are filled in; None
            fills in examples.
        folder: where to write it.
        allow_missing: leave rows out whose label is blank or a word for a missing one.
        columns: headings of the table.

    Raises:
        InputError: the name is taken or not of that form, the file exists, or the table has
            something wrong.
    """
    path = folder / f"{name}.toml"
    problems = name_problems(name)
    if path.exists():
        problems.append(f"{path} exists and is not replaced")
    if problems:
        raise InputError(f"new card {name}", problems, "Choose another name or another folder.")
    cells = read_label_cells(labels, columns) if labels else None
    words = _words(labels, cells, allow_missing) if labels and cells else _words_without_table()
    notes = (*cells.notes, *_without_group(cells, columns)) if cells else ()
    template = (
        resources.files("mil_bench")
        .joinpath("templates", "card.toml.in")
        .read_text(encoding="utf-8")
    )
    fitting = [
        protocol
        for protocol in PROTOCOLS
        if cells is None or protocol not in _NEEDS or _NEEDS[protocol] in cells.headings
    ]
    protocols = ", ".join(map(_quoted, fitting))
    text = Template(template).substitute(words, name=name, protocols=protocols)
    durable.write_once(path, lambda file: file.write(text.encode()))
    return NewCard(path, notes)


def _without_group(cells: LabelCells, columns: LabelColumns) -> list[str]:
    """What a table without patients means.

    Raises:
        InputError: the column of patients is named, and there is none.
    """
    if "group" in cells.headings:
        return []
    if columns.group != _USUAL.group:
        problem = f"no column {columns.group[0]}"
        raise InputError("the label table", [problem], "Correct --patient-column.")
    return [
        f"! There is no column of patients (looked for {', '.join(columns.group)}), so slides of "
        "one patient can be in both training and test. If there is one, name it: "
        "--patient-column HEADING"
    ]


def _words_without_table() -> dict[str, str]:
    return {
        "found": "",
        "labels": f"[{', '.join(map(_quoted, _EXAMPLES))}]",
        "group": "patient",
        "columns": "".join(
            f'# columns.{role} = "{heading}"\n'
            for role, heading in (("slide", "slide"), ("label", "label"), ("group", "patient"))
        ),
        "counts": "".join(f"# slides_per_class.{label} = 120\n" for label in _EXAMPLES),
    }


def _words(path: Path, table: LabelCells, allow_missing: bool) -> dict[str, str]:
    """What a label table fills in."""
    counts = Counter(table.column("label"))
    missing = {label: counts.pop(label) for label in list(counts) if means_nothing(label)}
    counts = _one_spelling_per_number(counts)
    problems = _no_classes(table.headings["label"], counts) or [
        *table.problems,
        *([] if allow_missing else _missing(missing)),
        *_look_alikes(counts),
    ]
    if problems:
        raise InputError(
            f"table {path}", problems, "Correct the table, or write the card without --labels."
        )
    classes = sorted(counts, key=lambda label: (int(label) if label.isdecimal() else -1, label))
    columns = "".join(
        f"columns.{role} = {_quoted(heading)}\n" for role, heading in table.headings.items()
    )
    group = table.headings.get("group", "patient").lower()
    return {
        "found": f"# Classes, their numbers of slides and the headings are from {path.name}.\n",
        "labels": f"[{', '.join(map(_quoted, classes))}]",
        "group": group.removesuffix("_id").removesuffix(" id"),
        "columns": columns,
        "counts": "".join(
            f"slides_per_class.{_quoted(label)} = {counts[label]}\n" for label in classes
        ),
    }


def _one_spelling_per_number(counts: Counter[str]) -> Counter[str]:
    """Labels like "1" and "1.0" as one label, if all are whole numbers."""
    if not all(re.fullmatch(r"-?\d+([.,]0+)?", label) for label in counts):
        return counts
    merged: Counter[str] = Counter()
    for label, number in counts.items():
        merged[without_point(label)] += number
    return merged


def _missing(missing: dict[str, int]) -> list[str]:
    """Rows without a label, and words that may say that there is none."""
    rest = "--allow-missing leaves such rows out"
    return [
        f"{plural(number, 'row has', 'rows have')} the label '{word}', which says in many tables "
        f"that the label is missing; {rest}; if it is a class, write it into the card yourself"
        if word
        else f"{plural(number, 'row has', 'rows have')} no label; {rest}"
        for word, number in missing.items()
    ]


def _look_alikes(counts: Counter[str]) -> list[str]:
    """Labels that a reader cannot distinguish."""
    alike: dict[str, list[str]] = {}
    for label, number in counts.items():
        alike.setdefault(look(label), []).append(f"'{label}' ({plural(number, 'row')})")
    return [
        f"the labels {' and '.join(labels)} look alike; write one class in one way in a copy"
        for labels in alike.values()
        if len(labels) > 1
    ]


def _no_classes(heading: str, counts: Counter[str]) -> list[str]:
    """Why the labels of a column are no classes."""
    number = len(counts)
    column = f"the column '{heading}' holds {number} different"
    measured = sum(bool(_NUMBER.fullmatch(label)) for label in counts)
    if number > _MOST_NUMBERS and measured > 0.9 * number:
        return [f"{column} numbers, as a measurement does; {_NOT_DONE}"]
    if number > _MOST_NUMBERS and number > counts.total() / 2:
        return [f"{column} labels in {counts.total()} rows, as names do; {_NOT_DONE}"]
    if 2 <= number <= _MOST_CLASSES:
        return []
    return [f"{column} labels, expected 2 to {_MOST_CLASSES}; {_NOT_DONE}"]


def _quoted(text: str) -> str:
    """A TOML text."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
