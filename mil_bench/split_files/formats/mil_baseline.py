"""MIL_BASELINE's splits: ``Total_{K}-fold_{name}_{k}fold.csv``.

They have a path and a label column per role.
Source: split_scripts in MIL_BASELINE's repository (69bab20), which numbers folds from 1. It sorts
the files as text, 10 before 2; here they are in numeric order.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.split_files.formats.interface import FileStart, SplitFormat, read_pairs
from mil_bench.splits.plan import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.splits.lists import SplitLists

_NAME = r"_(\d+)fold\.\w+$"


def _matches(start: FileStart) -> bool:
    return "train_slide_path" in start.columns


def _slide_id(path: str) -> str:
    """The last part of a path of Linux or Windows, without its ending."""
    return without_ending(re.split(r"[\\/]", path)[-1])


def _read(files: Sequence[Path]) -> SplitLists:
    columns = {role: (f"{role}_slide_path", f"{role}_label") for role in ROLES}
    lists = read_pairs(files, columns, _slide_id, _NAME)
    return replace(
        lists, title=f"MIL_BASELINE's fold tables in {files[0].resolve().parent.name}", first=1
    )


MIL_BASELINE = SplitFormat(
    "MIL_BASELINE's Total_{K}-fold_{name}_{k}fold.csv", _NAME, _matches, _read
)
