"""What must be known of methods beside their values: what is missing, and who was not finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import RunPlan

_TRIED = 4  # epochs with which one sees that a method runs; then all still improve
_END = 0.05  # the last epochs, as a share of all
# Slides of a validation part: with 20, the standard error of the mean loss is 22 % of the standard
# deviation of the slides' losses.
_FEW = 20


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
    return [
        *missing,
        *left_out,
        *remarks,
        *_still_improving(trained),
        *_small_validation(plan, trained),
    ]


def _still_improving(trained: Mapping[str, Sequence[TrainedFold]]) -> list[str]:
    """The methods that were stopped by the number of epochs while they still improved, one line.

    In a single training one of the last epochs may be the best by chance, so most must agree.
    """
    named, longest = [], {}
    for method, folds in trained.items():
        last = sum(t.epochs > _TRIED and t.epochs - t.best_epoch <= _END * t.epochs for t in folds)
        if 2 * last > len(folds):
            named.append(f"{method} ({last} of {len(folds)})")
            longest[method] = max(t.epochs for t in folds)
    if not named:
        return []
    method, epochs = next(iter(longest.items()))
    joint = "," if ":" in method else ":"
    return [
        f"One of the last epochs was the best in most trainings of {', '.join(named)}: with more "
        f"epochs they may be better, for instance --methods {method}{joint}epochs={2 * epochs}"
    ]


def _small_validation(plan: RunPlan, trained: Mapping[str, Sequence[TrainedFold]]) -> list[str]:
    """That epochs are selected on few slides, one line; nothing if there are enough."""
    sizes = [len(fold.val) for fold in plan.splits.folds]
    selects = any(t.epochs > 1 for folds in trained.values() for t in folds)
    if not selects or min(sizes, default=_FEW) >= _FEW:
        return []
    low, high = min(sizes), max(sizes)
    number = f"{low} to {high}" if low < high else str(low)
    return [
        f"Epochs and settings are selected on validation parts of only {number} {plan.unit}s, so "
        "chance has a large part in the choice"
    ]
