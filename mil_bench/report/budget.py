"""What each training cost, and how well a repetition of it agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.evaluation.predictions import REPEATS, UP_TO_ROUNDING
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold

_NOTE = (
    "Epochs run are fewer than the maximum if training stopped early. The weights of the selected "
    "epoch (counted from 1) are tested. ± is the standard deviation over trainings. Seconds are "
    "wall time of one training while other trainings run on other cores. "
)
_NOT_TUNED = "Settings were not tuned."
_TUNED = (
    "These are the trainings with the chosen settings; the cost of the search is in the table on "
    "tuning."
)


def environments_of(trained: Mapping[str, Sequence[TrainedFold]]) -> dict[str, str]:
    """Versions and devices of the trainings by name; several if trainings differ."""
    versions: dict[str, dict[str, None]] = {}
    for folds in trained.values():
        for fold in folds:
            for name, value in fold.environment.items():
                versions.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in versions.items()}


def agreement_sentence(trained: Mapping[str, Sequence[TrainedFold]]) -> str:
    """How well a repetition agrees with trainings of which it is not known bit for bit, or ""."""
    models = {
        fold.environment.get("device", "")
        for folds in trained.values()
        for fold in folds
        if fold.environment.get(REPEATS) == UP_TO_ROUNDING
    }
    if not models:
        return ""
    return f"Trained on a GPU ({', '.join(sorted(models))}): repetitions agree up to rounding."


def budget_table(
    trained: Mapping[str, Sequence[TrainedFold]], expected: int, caption: str, tuned: bool
) -> ResultTable:
    """Epochs and seconds of every trained method.

    Args:
        trained: method to its trained folds.
        expected: number of trainings of a complete method.
        caption: of the run.
        tuned: whether settings were chosen by trials.
    """
    cells = {
        method: _row(folds, expected)
        for method, folds in trained.items()
        if any(fold.curves for fold in folds)
    }
    return ResultTable(
        "budget", "Budget", caption, cells, note=_NOTE + (_TUNED if tuned else _NOT_TUNED)
    )


def _row(folds: Sequence[TrainedFold], expected: int) -> dict[str, Cell | str]:
    epochs = [len(next(iter(fold.curves.values()))) for fold in folds]
    return {
        "Max epochs": Cell.count(folds[0].epochs),
        "Epochs run": Cell.of(epochs),
        "Selected epoch": Cell.of([fold.best_epoch + 1 for fold in folds]),
        "Trainings": Cell(len(folds), words=f"{len(folds)} of {expected}"),
        "Seconds per training": Cell.of([fold.seconds for fold in folds]),
        "Total seconds": Cell.count(sum(fold.seconds for fold in folds)),
    }
