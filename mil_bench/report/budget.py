"""What each training cost: epochs, seconds, and the curves behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOTE = (
    "Epochs run are fewer than asked where training stopped early; kept is the one that is tested, counted from 1; "
    "± over trainings. Seconds are wall time of one training on one device, other trainings beside it. "
)
_NOT_TUNED = "Parameters were not tuned: no trial was spent on any method."
_TUNED = "What was spent on choosing settings stands in the table on tuning; these are the trainings that were chosen."


@dataclass(frozen=True)
class History:
    """How one fold was trained.

    Args:
        seed: training seed.
        fold: its number.
        epochs: that were asked for; 0 where nothing is trained.
        best_epoch: the one that was kept, from 0.
        curves: name ("train_loss", "val_loss") to one value an epoch; empty where nothing is
            trained.
        seconds: wall time of training and prediction.
        environment: versions and device.
    """

    seed: int
    fold: int
    epochs: int
    best_epoch: int
    curves: Mapping[str, Sequence[float]]
    seconds: float
    environment: Mapping[str, str]


def budget_table(
    histories: Mapping[str, Sequence[History]], expected: int, caption: str, tuned: bool
) -> ResultTable:
    """Epochs and seconds of every trained method.

    Args:
        histories: method to how its folds were trained.
        expected: trainings a method has when it is complete.
        caption: of the run.
        tuned: whether settings were chosen by trials.
    """
    cells = {
        method: _row(done, expected)
        for method, done in histories.items()
        if any(h.curves for h in done)
    }
    return ResultTable(
        "budget", "Budget", caption, cells, note=_NOTE + (_TUNED if tuned else _NOT_TUNED)
    )


def _row(done: Sequence[History], expected: int) -> dict[str, Cell | str]:
    run = [len(next(iter(history.curves.values()))) for history in done]
    return {
        "Epochs asked": Cell(done[0].epochs, digits=0),
        "Epochs run": _mean(run),
        "Epoch kept": _mean([history.best_epoch + 1 for history in done]),
        "Trainings": f"{len(done)} of {expected}",
        "Seconds a training": _mean([history.seconds for history in done]),
        "Seconds together": Cell(sum(history.seconds for history in done), digits=0),
    }


def _mean(values: Sequence[float]) -> Cell:
    return Cell(
        float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    )
