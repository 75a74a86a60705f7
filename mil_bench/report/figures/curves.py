"""One-vs-rest ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from mil_bench.report.figures.names import set_title, texts_of
from mil_bench.report.figures.style import legend, panels, styled, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.evaluation.verdicts import Evidence

_WIDTH = 9.2  # of a figure, in inches
_MANY = 12  # with more methods, panels are larger, so that their curves can be told apart
_GRID = np.linspace(0, 1, 101)

Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From labels ``[B]`` bool and scores ``[B]`` to heights at the grid's points ``[101]``."""


@styled
def roc(evidence: Evidence) -> Figure:
    """Sensitivity against 1 - specificity.

    One panel per class, one line per method: the mean of the curves of its trainings.
    """
    figure = _panels(evidence, _sensitivity)
    for axes in figure.axes[: evidence.hierarchy.n_fine]:
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    figure.supxlabel("1 - specificity", fontsize=9)
    figure.supylabel("sensitivity", fontsize=9)
    return figure


@styled
def precision_recall(evidence: Evidence) -> Figure:
    """Precision against recall.

    One panel per class, one line per method: the mean of the curves of its trainings.
    """
    figure = _panels(evidence, _precision)
    for axes, share in zip(figure.axes, _shares(evidence), strict=False):
        axes.axhline(share, color="0.6", linewidth=0.8, linestyle=":")
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return figure


def _sensitivity(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    false, true, _ = roc_curve(positive, score)
    heights = np.interp(_GRID, false, true)
    heights[0] = 0
    return heights


def _precision(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    # As in average precision: between two thresholds, precision is that of the one with the higher
    # recall.
    precision, recall, _ = precision_recall_curve(positive, score)
    return precision[::-1][np.searchsorted(recall[::-1], _GRID, side="left")]


def _panels(evidence: Evidence, curve: Curve) -> Figure:
    hierarchy = evidence.hierarchy
    columns = 4 if len(evidence.trained) <= _MANY else 3
    width = _WIDTH / columns
    figure, axes = panels(hierarchy.n_fine, columns, (width, width + 0.2), shared=True)
    look = styles(list(evidence.trained))
    handles = {}
    coarse = list(texts_of(hierarchy.coarse).values())
    for c, (panel, name) in enumerate(zip(axes, texts_of(hierarchy.fine).values(), strict=True)):
        parent = "" if hierarchy.is_flat else f" ({coarse[hierarchy.parent[c]]})"
        set_title(panel, f"{name}{parent}", width)
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        panel.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        for method, folds in evidence.trained.items():
            heights = _mean(curve, [fold.predictions for fold in folds], c)
            if heights is not None:
                handles[method] = panel.plot(_GRID, heights, **look[method].line())[0]
    if handles:
        legend(figure, handles)
    return figure


def _mean(curve: Curve, predictions: Sequence[Predictions], c: int) -> np.ndarray | None:
    """Mean over the trainings whose test slides include the class and others; None if none does."""
    curves = [
        curve(p.labels == c, p.fine[:, c])
        for p in predictions
        if 0 < np.count_nonzero(p.labels == c) < len(p.labels)
    ]
    return np.mean(curves, axis=0) if curves else None


def _shares(evidence: Evidence) -> np.ndarray:
    """Share of each class among all test slides ``[C]``."""
    labels = [fold.predictions.labels for folds in evidence.trained.values() for fold in folds]
    counts = np.bincount(
        np.concatenate(labels or [np.zeros(0, int)]), minlength=evidence.hierarchy.n_fine
    )
    return counts / max(1, counts.sum())
