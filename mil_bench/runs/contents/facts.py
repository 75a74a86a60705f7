"""What must be known of methods beside their values: what is missing, and who was not finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import RunPlan

_TRIED = 4  # epochs with which one sees that a method runs; then all still improve


def facts_of(plan: RunPlan, trained: Mapping[str, Sequence[TrainedFold]]) -> list[str]:
    """One line each.

    Args:
        plan: of the run.
        trained: methods to their stored trainings.
    """
    expected = len(plan.splits.folds) * len(plan.seeds)
    missing = [
        f"{method}: {len(folds)} of {expected} trainings are stored; not ranked"
        for method, folds in trained.items()
        if len(folds) < expected and method not in plan.skipped
    ]
    left_out = [f"{name} was left out: {why}" for name, why in plan.skipped.items()]
    remarks = [f"{name}: {what}" for name, what in plan.remarks.items()]
    return [*missing, *left_out, *remarks, *_still_improving(trained)]


def _still_improving(trained: Mapping[str, Sequence[TrainedFold]]) -> list[str]:
    """The methods that were stopped by the number of epochs while they still improved, one line.

    In a single training the last epoch may be the best by chance, so most of them must agree.
    """
    named = []
    for method, folds in trained.items():
        last = sum(_TRIED < t.epochs == t.best_epoch + 1 for t in folds)
        if 2 * last > len(folds):
            named.append(f"{method} ({last} of {len(folds)})")
    if not named:
        return []
    return [
        f"The last epoch was the best in most trainings of {', '.join(named)}: with more epochs "
        "they may be better"
    ]
