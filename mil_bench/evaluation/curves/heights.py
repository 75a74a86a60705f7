"""Heights of ROC and precision-recall curves at the points of a grid, for many weightings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

POINTS = 100
"""Steps of the horizontal axis."""
GRID = np.linspace(0, 1, POINTS + 1)
"""Points of the horizontal axis."""

Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the summed weights of the slides of the class, and of others, that have at least the score
of each threshold, from the highest on ``[R, T]``, to heights at the grid's points ``[R, 101]``.
Weights are whole numbers, and both sums at the last threshold are above 0."""


def sensitivity(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Heights of a ROC curve over 1 - specificity; between two thresholds it is a straight line."""
    # Steps are counted in whole numbers, so that no rounding moves a threshold past a grid point.
    before = _filled(-(-POINTS * wrong // wrong[:, -1:]), right.shape[1])
    after = np.minimum(before + 1, right.shape[1])
    none = np.zeros((len(right), 1), right.dtype)
    (x0, x1), (y0, y1) = (
        [np.take_along_axis(np.hstack([none, of]), at, 1) / of[:, -1:] for at in (before, after)]
        for of in (wrong, right)
    )
    run = x1 - x0
    share = np.divide(GRID - x0, run, out=np.zeros_like(run), where=run > 0)
    heights = y0 + share * (y1 - y0)
    heights[:, 0] = 0
    return heights


def precision(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Heights of a precision-recall curve.

    As in average precision, the precision between two thresholds is that of the one with the
    higher recall.
    """
    first = _filled(POINTS * right // right[:, -1:] + 1, right.shape[1])
    first = np.minimum(first, right.shape[1] - 1)
    true, false = (np.take_along_axis(of, first, 1) for of in (right, wrong))
    heights = true / np.maximum(true + false, 1)
    heights[:, 0] = 1
    return heights


def _filled(points: np.ndarray, thresholds: int) -> np.ndarray:
    """How many thresholds begin at or before every grid point ``[R, 101]``.

    Args:
        points: grid point at which each threshold begins, rising ``[R, T]``; 101 for none.
        thresholds: T.
    """
    at = np.zeros((len(points), POINTS + 2), dtype=int)
    # Of thresholds that begin at the same point, the last one is written last.
    np.put_along_axis(at, points, np.arange(1, thresholds + 1)[None], 1)
    return np.maximum.accumulate(at[:, : POINTS + 1], axis=1)
