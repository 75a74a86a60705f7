"""TransMIL's splits: ``fold{k}.csv``.

Its columns are train, train_label, val, val_label, test, test_label.
Source: datasets and dataset_csv in TransMIL's repository (9d6aee5).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.split_files.formats.interface import FileStart, SplitFormat, read_pairs
from mil_bench.splits.plan import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.splits.lists import SplitLists

_NAME = r"fold_?(\d+)\.\w+$"


def _matches(start: FileStart) -> bool:
    return {"train", "train_label"} <= set(start.columns)


def _read(files: Sequence[Path]) -> SplitLists:
    columns = {role: (role, f"{role}_label") for role in ROLES}
    lists = read_pairs(files, columns, without_ending, _NAME)
    return replace(lists, title=f"TransMIL's fold tables in {files[0].resolve().parent.name}")


TRANSMIL = SplitFormat("TransMIL's fold{k}.csv", _NAME, _matches, _read)
