"""The folds of a run as tables: sizes, leaks, classes; and what was predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.report.tables import Cell, ResultTable
from mil_bench.splits.plan import kind_of_test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import RunPlan


def fold_table(plan: RunPlan, trials: Mapping[str, Sequence[TrainedFold]]) -> ResultTable:
    """One row per fold: slides by role, test slides of each class, test slides whose group trains.

    If labels belong to patients, patients are counted.

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
            "Training": _count(len(plan.items(fold.train))),
            "Validation": _count(len(plan.items(fold.val))),
            "Test": _count(len(plan.items(fold.test))),
        }
        if splits.group_name and not plan.patients:
            row[f"Test, shared {splits.group_name}"] = _count(splits.leaks[k])
        counts = np.bincount(labels[k], minlength=len(names)) if k in labels else None
        row |= {
            f"Test {name}": Cell.absent() if counts is None else _count(int(counts[c]))
            for c, name in enumerate(names)
        }
        cells[f"fold {k}"] = row
    return ResultTable(
        "folds", "Folds", plan.caption, cells, note=f"Number of {plan.unit}s.", row_heading="fold"
    )


def prediction_frames(plan: RunPlan, fold: TrainedFold) -> dict[str, pd.DataFrame]:
    """The test predictions of a fold by the name of their file.

    ``predictions`` has one row per slide or, if labels belong to patients, per patient;
    ``slide_predictions`` is there if those of a patient's slides were averaged.
    """
    name = plan.splits.group_name
    frames = {"predictions": fold.predictions.frame(plan.hierarchy, name, plan.slides_of)}
    if fold.by_slide is not None:
        frames["slide_predictions"] = fold.by_slide.frame(plan.hierarchy, name)
    return frames


def all_predictions(
    plan: RunPlan, trained: Mapping[str, Sequence[TrainedFold]], name: str
) -> pd.DataFrame:
    """The frames of this name of all folds, with columns of method, seed and fold before theirs."""
    import pandas as pd  # a third of a second, and lists of runs do without it

    frames = [
        frame.assign(method=method, seed=fold.seed, fold=fold.fold)
        for method, folds in trained.items()
        for fold in folds
        if (frame := prediction_frames(plan, fold).get(name)) is not None
    ]
    if not frames:
        return pd.DataFrame(columns=["method", "seed", "fold", "slide", "label", "predicted"])
    frame = pd.concat(frames, ignore_index=True)
    return frame[["method", "seed", "fold", *frames[0].columns[:-3]]]


def audit_lines(plan: RunPlan) -> list[str]:
    """What is known of the splits: leaks first, then who is tested."""
    splits = plan.splits
    tested = [item for fold in splits.folds for item in plan.items(fold.test)]
    listed = {
        item
        for fold in splits.folds
        for part in (fold.train, fold.val, fold.test)
        for item in plan.items(part)
    }
    leak = splits.leak_sentence
    return [
        f"{leak[0].upper()}{leak[1:]}.",
        f"The test parts are {kind_of_test(splits.folds, splits.repeats)}: {len(set(tested))} of "
        f"{len(listed)} {plan.unit}s are tested, {len(tested)} tests in total.",
        *(f"{fact[0].upper()}{fact[1:]}." for fact in splits.facts),
    ]


def _count(number: int) -> Cell:
    return Cell(number, digits=0)
