"""What a split format is, and what several of them need to read their files."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from mil_bench.datasets.tables import read_table
from mil_bench.errors import InputError
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, Fold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class FileStart:
    """The first bytes of a file, from which formats are told apart.

    Args:
        path: the file.
        content: at most the first 64 KiB.
    """

    path: Path
    content: bytes

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of the first line, by tabs if it has any, else by commas; () if not text."""
        line = self.content.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").strip("\r")
        if "\0" in line or "�" in line:
            return ()
        fields = next(csv.reader([line], delimiter="\t" if "\t" in line else ","), [])
        return tuple(field.strip() for field in fields)


@dataclass(frozen=True)
class SplitFormat:
    """A tool's format of split files.

    Args:
        title: whose files they are, in words.
        name: regular expression that the tool's own file names match. The content decides, but a
            file that has the name without the content is broken.
        matches: whether a file has this format, by its content.
        read: all files of one split to lists; raises ``InputError`` with every problem.
    """

    title: str
    name: str
    matches: Callable[[FileStart], bool]
    read: Callable[[Sequence[Path]], SplitLists]


def numbered(files: Sequence[Path], pattern: str) -> tuple[dict[int, Path], list[str]]:
    """Files by the number in their names, in numeric order, and what is wrong with the names.

    Args:
        files: the files of one split.
        pattern: regular expression whose only group is the number; a single file needs no number
            and is fold 0.
    """
    by_number: dict[int, Path] = {}
    problems = []
    for path in files:
        match = re.search(pattern, path.name)
        if match is None and len(files) > 1:
            problems.append(f"{path.name}: no fold number in the name")
            continue
        number = int(match[1]) if match else 0
        if number in by_number:
            problems.append(f"{path.name}: {by_number[number].name} is fold {number} already")
        by_number.setdefault(number, path)
    return dict(sorted(by_number.items())), problems


def read_frame(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """A text table as a frame of text cells; its index is the location of a row ("line 3").

    Raises:
        ValueError: it is no such table, or lacks a needed column; the text says why.
    """
    try:
        table = read_table(path, lambda columns: set(needed) <= set(columns))
    except InputError as error:
        raise ValueError("; ".join(error.problems)) from error
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise ValueError(
            f"no column {', '.join(missing)}; found {', '.join(filter(None, table.columns))}"
        )
    twice = sorted({name for name in table.columns if name and table.columns.count(name) > 1})
    if twice:
        raise ValueError(f"several columns have the name {', '.join(twice)}")
    cells = [row.cells for row in table.rows]
    locations = [row.location for row in table.rows]
    return pd.DataFrame(cells, columns=list(table.columns), index=locations, dtype=object)


def read_pairs(
    files: Sequence[Path],
    columns: Mapping[str, tuple[str, str]],
    slide_id: Callable[[str], str],
    pattern: str,
) -> SplitLists:
    """Tables, one per fold, with a slide and a label column per role; the title is left blank.

    Args:
        files: the tables.
        columns: role to its slide column and its label column.
        slide_id: from a cell of a slide column to the slide's id.
        pattern: as in ``numbered``.

    Raises:
        InputError: a column is missing, or a slide has no label or a label no slide. Tools that
            drop blanks column by column would give all slides below it their neighbour's label.
    """
    by_number, problems = numbered(files, pattern)
    folds: list[Fold] = []
    labels: dict[str, set[str]] = {}
    for path in by_number.values():
        parts: dict[str, list[str]] = {role: [] for role in ROLES}
        try:
            table = read_frame(path, [name for pair in columns.values() for name in pair])
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
            continue
        for role, pair in columns.items():
            for location, cell, label in table[list(pair)].itertuples():
                if cell and label:
                    slide = slide_id(cell)
                    parts[role].append(slide)
                    # Columns with blanks are written as floats: 3 becomes 3.0.
                    labels.setdefault(slide, set()).add(re.sub(r"^(\d+)\.0$", r"\1", label))
                elif cell or label:
                    lone = f"'{cell}' has no label" if cell else f"the label '{label}' has no slide"
                    problems.append(f"{path.name}, {location}, {role}: {lone}")
        folds.append(fold_of(parts))
    if problems:
        raise InputError(
            f"splits {files[0].parent}", problems, "Correct these files, or ask whoever made them."
        )
    return SplitLists(
        "", tuple(folds), tuple(by_number), {s: frozenset(texts) for s, texts in labels.items()}
    )


def fold_of(parts: Mapping[str, Sequence[str]]) -> Fold:
    """A fold from lists by role; a role without a list is empty."""
    return Fold(*(tuple(parts.get(role, ())) for role in ROLES))
