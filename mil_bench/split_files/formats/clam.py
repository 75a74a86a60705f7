"""CLAM's splits: ``splits_{k}.csv`` with columns train, val, test, and ``splits_{k}_bool.csv``.

Source: datasets/dataset_generic.py in CLAM's repository (53e2409). One of its two writers adds an
index column; the columns differ in length. The table of truth values has the same slides again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.errors import InputError
from mil_bench.split_files.formats.interface import (
    FileStart,
    SplitFormat,
    fold_of,
    numbered,
    read_frame,
)
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, SplitPlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec

_TRUTH = {"True", "False"}


def _matches(start: FileStart) -> bool:
    # The descriptor has the number of slides per class; CLAM itself does not read it.
    columns = start.columns
    return (
        columns[-3:] == ROLES and len(columns) <= 4 and not start.path.stem.endswith("_descriptor")
    )


def _is_truth_table(table: pd.DataFrame) -> bool:
    return (
        len(table.columns) == 4
        and set(table["train"]) | set(table["val"]) | set(table["test"]) <= _TRUTH
    )


def _slides(table: pd.DataFrame) -> dict[str, list[str]]:
    if _is_truth_table(table):
        listed = {role: table.loc[table[role] == "True"].iloc[:, 0] for role in ROLES}
    else:
        listed = {role: table[role] for role in ROLES}
    return {
        role: [without_ending(slide) for slide in slides if slide]
        for role, slides in listed.items()
    }


def _read(files: Sequence[Path]) -> SplitLists:
    plain = [path for path in files if not path.stem.endswith("_bool")]
    by_number, problems = numbered(plain or files, r"(\d+)(?:_bool)?\.\w+$")
    folds = []
    for path in by_number.values():
        try:
            folds.append(fold_of(_slides(read_frame(path, ROLES))))
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
    if problems:
        raise InputError(
            f"splits {files[0].parent}",
            problems,
            "Write these files again with CLAM's create_splits_seq.py.",
        )
    return SplitLists(
        f"CLAM's split tables in {files[0].resolve().parent.name}", tuple(folds), tuple(by_number)
    )


CLAM = SplitFormat(
    "CLAM's splits_{k}.csv or splits_{k}_bool.csv", r"^splits_\d+(_bool)?\.csv$", _matches, _read
)


def clam_files(plan: SplitPlan, spec: DatasetSpec, slides: pd.DataFrame) -> dict[str, str]:
    """The three tables per fold that CLAM's create_splits_seq.py writes.

    They are the lists, the lists as truth values, and the number of slides per class.
    """
    label_of = slides.set_index("slide")["label"]
    texts = {}
    for k, fold in enumerate(plan.folds):
        parts = {role: list(getattr(fold, role)) for role in ROLES}
        lists = pd.DataFrame({role: pd.Series(ids, dtype=object) for role, ids in parts.items()})
        truth = pd.DataFrame(
            [[listed == role for role in ROLES] for listed in ROLES for _ in parts[listed]],
            index=[slide for role in ROLES for slide in parts[role]],
            columns=list(ROLES),
        )
        counts = {
            role: np.bincount(label_of[ids], minlength=spec.hierarchy.n_fine)
            for role, ids in parts.items()
        }
        descriptor = pd.DataFrame(counts, index=list(spec.hierarchy.fine))
        for name, table in (("", lists), ("_bool", truth), ("_descriptor", descriptor)):
            texts[f"splits_{k}{name}.csv"] = table.to_csv(lineterminator="\n")
    return texts
