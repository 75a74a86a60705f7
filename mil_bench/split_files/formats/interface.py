"""What a split format offers, and what all of them need to read their files."""

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
    """The first bytes of a file, by which formats know their own.

    Args:
        path: the file.
        content: at most the first 64 KiB.
    """

    path: Path
    content: bytes

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of the first line, by tabs if it has any, else by commas; empty if it is not text."""
        line = self.content.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").strip("\r")
        if "\0" in line or "�" in line:
            return ()
        fields = next(csv.reader([line], delimiter="\t" if "\t" in line else ","), [])
        return tuple(field.strip() for field in fields)


@dataclass(frozen=True)
class SplitFormat:
    """A tool's way to write splits.

    Args:
        title: whose files they are, in words.
        name: regular expression that the tool's own file names match; content decides, but a file
            that has the name without the content is broken.
        matches: whether a file is one of them, by its content.
        read: all files of one split to lists; raises ``InputError`` with everything that is wrong
            with them.
    """

    title: str
    name: str
    matches: Callable[[FileStart], bool]
    read: Callable[[Sequence[Path]], SplitLists]


def numbered(files: Sequence[Path], pattern: str) -> tuple[dict[int, Path], list[str]]:
    """Files by the number in their names, in numeric order, and what is wrong with the names.

    Args:
        files: the files of one split.
        pattern: regular expression whose only group is the number; a single file needs none and is
            fold 0.
    """
    found: dict[int, Path] = {}
    problems = []
    for path in files:
        match = re.search(pattern, path.name)
        if match is None and len(files) > 1:
            problems.append(f"{path.name}: no fold number in the name")
            continue
        number = int(match[1]) if match else 0
        if number in found:
            problems.append(f"{path.name}: fold {number} stands in {found[number].name} already")
        found.setdefault(number, path)
    return dict(sorted(found.items())), problems


def read_frame(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """A text table as a frame of text cells; its index says where a row stands ("line 3").

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
        raise ValueError(f"several columns are called {', '.join(twice)}")
    cells, places = [row.cells for row in table.rows], [row.location for row in table.rows]
    return pd.DataFrame(cells, columns=list(table.columns), index=places, dtype=object)


def read_pairs(
    files: Sequence[Path],
    columns: Mapping[str, tuple[str, str]],
    slide_id: Callable[[str], str],
    pattern: str,
) -> SplitLists:
    """Tables, one a fold, with a slide and a label column for every role side by side; the title is left blank.

    Args:
        files: the tables.
        columns: role to its slide column and its label column.
        slide_id: from a cell of a slide column to the slide's id.
        pattern: as in ``numbered``.

    Raises:
        InputError: a column is missing, or a slide stands without a label or a label without a
            slide: tools that drop blanks column by column would give all slides below it the label
                of their neighbour.
    """
    by_number, problems = numbered(files, pattern)
    folds, labels = [], {}
    for path in by_number.values():
        parts: dict[str, list[str]] = {role: [] for role in ROLES}
        try:
            table = read_frame(path, [name for pair in columns.values() for name in pair])
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
            continue
        for role, pair in columns.items():
            for place, slide, label in table[list(pair)].itertuples():
                if bool(slide) != bool(label):
                    lone = (
                        f"'{slide}' has no label" if slide else f"the label '{label}' has no slide"
                    )
                    problems.append(f"{path.name}, {place}, {role}: {lone}")
                elif slide:
                    parts[role].append(slide_id(slide))
                    # Columns with blanks are written as floats: 3 becomes 3.0.
                    labels.setdefault(parts[role][-1], set()).add(
                        re.sub(r"^(\d+)\.0$", r"\1", label)
                    )
        folds.append(fold_of(parts))
    if problems:
        raise InputError(
            f"splits {files[0].parent}", problems, "Correct these files, or ask who made them."
        )
    return SplitLists(
        "", tuple(folds), tuple(by_number), {s: frozenset(texts) for s, texts in labels.items()}
    )


def fold_of(parts: Mapping[str, Sequence[str]]) -> Fold:
    """A fold from lists by role; a role without a list is empty."""
    return Fold(*(tuple(parts.get(role, ())) for role in ROLES))
