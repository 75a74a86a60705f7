"""Split files of this field's tools, one module per tool; content tells whose a file is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.datasets.regular_file import open_regular
from mil_bench.errors import InputError
from mil_bench.split_files.formats.clam import CLAM
from mil_bench.split_files.formats.hmil import HMIL
from mil_bench.split_files.formats.interface import FileStart, SplitFormat
from mil_bench.split_files.formats.mil_baseline import MIL_BASELINE
from mil_bench.split_files.formats.own import OWN
from mil_bench.split_files.formats.patho_bench import PATHO_BENCH
from mil_bench.split_files.formats.transmil import TRANSMIL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.splits.lists import SplitLists

FORMATS = (OWN, HMIL, CLAM, PATHO_BENCH, MIL_BASELINE, TRANSMIL)

_ENDINGS = (".json", ".pkl", ".pickle", ".csv", ".tsv", ".txt")
"""Other files in a folder are not opened."""
_START_BYTES = 2**16
_OF_STAMP = b'"train_patients"'
_STAMP = (
    "it is STAMP's splits.json, which lists patients instead of slides and has no validation part; "
    "list the slides in a table with the columns train, val, test for every fold (splits_0.csv, "
    "splits_1.csv, ...)"
)


def read_split_lists(path: Path) -> SplitLists:
    """What split files list, whoever made them.

    Args:
        path: a folder with all files of one split, or a single file.

    Raises:
        InputError: there is no split file, or there are files of several tools; or a file is
            broken, which includes a file that belongs to the others by its name alone.
    """
    by_format: dict[SplitFormat, list[Path]] = {}
    strangers = []
    for start in _starts(path):
        form = next((form for form in FORMATS if form.matches(start)), None)
        if form is None:
            strangers.append(start)
        else:
            by_format.setdefault(form, []).append(start.path)
    if not by_format:
        problems = [_nothing(path, strangers)]
        if path.is_dir():
            problems += _lost(strangers, FORMATS, [])
        readable = "; ".join(form.title for form in FORMATS)
        raise InputError(f"splits {path}", problems, f"mil-bench reads: {readable}.")
    if len(by_format) > 1:
        problems = [
            f"{len(files)} of {form.title}: {files[0].name}" for form, files in by_format.items()
        ]
        remedy = "Name one file, or a folder with the files of one split."
        raise InputError(f"splits {path}", problems, remedy)
    ((form, files),) = by_format.items()
    lost = _lost(strangers, [form], files)
    if lost:
        remedy = "Write these files again or remove them; otherwise their folds would be lost."
        raise InputError(f"splits {path}", lost, remedy)
    lists = form.read(files)
    alone = not path.is_dir() and len(lists.folds) == 1
    return replace(lists, first=lists.numbers[0]) if alone else lists


def _starts(path: Path) -> list[FileStart]:
    """The files that may be meant, with their first bytes.

    Raises:
        InputError: the folder or one of the files cannot be read.
    """
    file, starts = path, []
    try:
        for file in _files(path):
            with open_regular(file) as opened:
                starts.append(FileStart(file, opened.read(_START_BYTES)))
    except OSError as error:
        named = "" if file == path else f"{file.name} "
        problem = f"{named}cannot be read: {error.strerror}"
        raise InputError(f"splits {path}", [problem], "Check the path.") from error
    return starts


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = [
        file
        for file in path.iterdir()
        if file.suffix.lower() in _ENDINGS and not file.name.startswith(".")
    ]
    return sorted(file for file in inside if not file.is_dir())


def _lost(
    strangers: Sequence[FileStart], forms: Sequence[SplitFormat], files: Sequence[Path]
) -> list[str]:
    """Empty files, and files that belong to these formats or files by name but not by content."""
    alike = {_without_numbers(path) for path in files}
    problems = []
    for start in strangers:
        name = start.path.name
        titles = [form.title for form in forms if re.search(form.name, name, re.IGNORECASE)]
        if not start.content.strip():
            problems.append(f"{name} is empty")
        elif titles or _without_numbers(start.path) in alike:
            like = titles[0] if titles else forms[0].title
            columns = ", ".join(start.columns)
            content = (
                f"its first line is '{columns[:80]}'"
                if columns and columns.isprintable()
                else "it is not text"
            )
            problems.append(f"{name} has a name like {like}, but another content ({content})")
    return problems


def _without_numbers(path: Path) -> str:
    return re.sub(r"\d+", "#", path.name)


def _nothing(path: Path, strangers: Sequence[FileStart]) -> str:
    """Why no split file is there, or is not read."""
    if not path.is_dir():
        (start,) = strangers
        if _OF_STAMP in start.content:
            return _STAMP
        return "it has no known format of split files" if start.content else "it is an empty file"
    stamp = [start.path.name for start in strangers if _OF_STAMP in start.content]
    if stamp:
        return f"{stamp[0]}: {_STAMP}"
    folders = sorted(
        inner.name for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith(".")
    )
    hint = f"; it has the folders {', '.join(folders[:5])}: name one of them" if folders else ""
    return f"there is no split file in this folder{hint}"
