"""The folds of a run as a table: sizes, leaks, classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.report.tables import Cell, ResultTable
from mil_bench.splits.plan import SplitPlan, kind_of_test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import RunPlan


def fold_table(plan: RunPlan, trials: Mapping[str, Sequence[TrainedFold]]) -> ResultTable:
    """One row per fold: slides by role, test slides of each class, test slides whose group trains.

    Args:
        plan: its splits.
        trials: whose labels tell the classes of test slides; a fold nothing is stored of has no
            such columns' values.
    """
    labels = {trial.fold: trial.predictions.labels for done in trials.values() for trial in done}
    splits, names = plan.splits, plan.hierarchy.fine
    cells: dict[str, dict[str, Cell | str]] = {}
    for k, fold in enumerate(splits.folds):
        row: dict[str, Cell | str] = {"Repeat": _count(splits.repeat_of(k))}
        row = {} if splits.repeats == 1 else row
        row |= {
            "Training": _count(len(fold.train)),
            "Validation": _count(len(fold.val)),
            "Test": _count(len(fold.test)),
        }
        if splits.group_name:
            row[f"Test, shared {splits.group_name}"] = _count(splits.leaks[k])
        counts = np.bincount(labels[k], minlength=len(names)) if k in labels else None
        row |= {
            f"Test {name}": Cell.absent() if counts is None else _count(int(counts[c]))
            for c, name in enumerate(names)
        }
        cells[f"fold {k}"] = row
    return ResultTable(
        "folds", "Folds", plan.caption, cells, note="Number of slides.", row_heading="fold"
    )


def audit_lines(splits: SplitPlan) -> list[str]:
    """What is known of the splits: leaks first, then who is tested."""
    tested = [slide for fold in splits.folds for slide in fold.test]
    listed = {
        slide
        for fold in splits.folds
        for part in (fold.train, fold.val, fold.test)
        for slide in part
    }
    leak = splits.leak_sentence
    return [
        f"{leak[0].upper()}{leak[1:]}.",
        f"The test parts are {kind_of_test(splits.folds, splits.repeats)}: {len(set(tested))} of "
        f"{len(listed)} slides are tested, {len(tested)} tests in total.",
        *(f"{fact[0].upper()}{fact[1:]}." for fact in splits.facts),
    ]


def _count(number: int) -> Cell:
    return Cell(number, digits=0)
