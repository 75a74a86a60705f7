"""Heights of ROC and precision-recall curves at the points of a grid, for many weightings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

POINTS = 100
"""Steps of the horizontal axis."""
_ROUNDING = 1e-9  # in steps of the grid
GRID = np.linspace(0, 1, POINTS + 1)
"""Points of the horizontal axis."""

Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the summed weights of the slides of the class, and of others, that have at least the score
of each threshold, from the highest on ``[R, T]``, to heights at the grid's points ``[R, 101]``.
Weights are whole numbers, and both sums at the last threshold are above 0."""


def sensitivity(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Heights of a ROC curve over 1 - specificity; between two thresholds it is a straight line."""
    # A count and a grid point that are equal but for rounding are equal.
    begins = np.ceil(wrong * (POINTS / wrong[:, -1:]) - _ROUNDING)
    before = _begun(begins)  # 0 is the point (0, 0), before all thresholds
    after = np.minimum(before + 1, right.shape[1])
    x, y = (np.pad(of / of[:, -1:], ((0, 0), (1, 0))) for of in (wrong, right))
    x0, y0, x1, y1 = (_at(of, places) for places in (before, after) for of in (x, y))
    run = x1 - x0
    run[run == 0] = 1  # at the last threshold, where the rise is 0, too
    heights = y0 + (GRID - x0) / run * (y1 - y0)
    heights[:, 0] = 0
    return heights


def precision(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Heights of a precision-recall curve.

    As in average precision, the precision between two thresholds is that of the one with the
    higher recall.
    """
    passed = np.floor(right * (POINTS / right[:, -1:]) + _ROUNDING) + 1
    first = np.minimum(_begun(passed), right.shape[1] - 1)
    true, false = _at(right, first), _at(wrong, first)
    heights = true / np.maximum(true + false, 1)
    heights[:, 0] = 1
    return heights


def _begun(points: np.ndarray) -> np.ndarray:
    """How many thresholds begin at or before every grid point ``[R, 101]``.

    Args:
        points: grid point at which each threshold begins, rising ``[R, T]``; 101 for none.
    """
    rows, thresholds = points.shape
    begun = np.zeros(rows * (POINTS + 2), dtype=np.intp)
    starts = np.arange(0, len(begun), POINTS + 2)[:, None]
    # Of thresholds that begin at the same point, the last one is written last.
    begun[points.astype(np.intp) + starts] = np.arange(1, thresholds + 1)
    return np.maximum.accumulate(begun.reshape(rows, -1)[:, : POINTS + 1], axis=1)


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Each row's values at its places; faster than ``np.take_along_axis``."""
    starts = np.arange(0, values.size, values.shape[1])[:, None]
    return values.ravel().take(places + starts)
