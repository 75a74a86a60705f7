"""A new card for a dataset of the user's own, from a template and, if given, its label table."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.datasets.card import LabelColumns
from mil_bench.datasets.card_file import name_problems
from mil_bench.datasets.label_columns import LabelCells, read_label_cells
from mil_bench.errors import InputError
from mil_bench.splits.protocols import PROTOCOLS

if TYPE_CHECKING:
    from pathlib import Path

_EXAMPLES = ("benign", "malignant")
_MOST_CLASSES = 100


def new_card(name: str, labels: Path | None, folder: Path) -> Path:
    """Write ``NAME.toml`` with every key explained.

    Args:
        name: of the dataset, lower case with hyphens.
        labels: its label table, whose classes, numbers of slides and headings are filled in; None
            fills in examples.
        folder: where to write it.

    Returns:
        The file written.

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
    words = (
        _words(labels, read_label_cells(labels, LabelColumns()))
        if labels
        else _words_without_table()
    )
    template = (
        resources.files("mil_bench")
        .joinpath("templates", "card.toml.in")
        .read_text(encoding="utf-8")
    )
    protocols = ", ".join(map(_quoted, PROTOCOLS))
    text = Template(template).substitute(words, name=name, protocols=protocols)
    durable.write_once(path, lambda file: file.write(text.encode()))
    return path


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


def _words(path: Path, table: LabelCells) -> dict[str, str]:
    """What a label table fills in."""
    counts = Counter(table.column("label"))
    blank = counts.pop("", 0)
    problems = list(table.problems)
    if blank:
        problems.append(f"{blank} rows have no label")
    if not 2 <= len(counts) <= _MOST_CLASSES:
        heading = table.headings["label"]
        problems.append(
            f"the column '{heading}' holds {len(counts)} different labels, "
            f"expected 2 to {_MOST_CLASSES}"
        )
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


def _quoted(text: str) -> str:
    """A TOML text."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
