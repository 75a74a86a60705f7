"""One-vs-rest ROC and precision-recall curves, with bands over patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.bootstrap import FEWEST_UNITS
from mil_bench.evaluation.curves.bands import DRAWS, MOST_BANDS, CurveBands
from mil_bench.evaluation.curves.heights import GRID, Curve, precision, sensitivity
from mil_bench.report.figures.names import set_title, texts_of
from mil_bench.report.figures.style import legend, of_method, panels, styled, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mil_bench.evaluation.verdicts import Evidence

_WIDTH = 9.2  # of a figure, in inches
_MANY = 12  # with more methods, panels are larger, so that their curves can be told apart
_FAINT = 0.1  # opacity of a band
_STEP = 2  # grid points between two corners of a band, which keeps files small


@styled
def roc(evidence: Evidence) -> Figure:
    """Sensitivity against 1 - specificity.

    One panel per class, one line per method: the mean of the curves of its trainings.
    """
    figure = _panels(evidence, sensitivity)
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
    figure = _panels(evidence, precision)
    for axes, share in zip(figure.axes, _shares(evidence), strict=False):
        axes.axhline(share, color="0.6", linewidth=0.8, linestyle=":")
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return figure


def band_sentences(evidence: Evidence) -> str:
    """What the bands are, and which classes have none."""
    curves = CurveBands(evidence)
    without = [
        f"{name} ({number} {curves.unit}{'s' * (number != 1)})"
        for name, number in curves.without.items()
    ]
    if not curves.banded:
        return ""
    none = f"No band for {', '.join(without)}: {FEWEST_UNITS} {curves.unit}s are needed."
    if len(without) == evidence.hierarchy.n_fine:
        return none
    whose = "Bands"
    if len(evidence.trained) > MOST_BANDS:
        whose = f"Bands (of the highest mean macro AUCs: {' and '.join(curves.banded)})"
    return (
        f"{whose}: 95 % bootstrap intervals over {curves.unit}s ({DRAWS} draws), pointwise: each "
        "holds at one point of the horizontal axis, not for the whole curve, and covers the "
        f"sampling of test {curves.unit}s, not training." + (f" {none}" if without else "")
    )


def _panels(evidence: Evidence, curve: Curve) -> Figure:
    hierarchy = evidence.hierarchy
    columns = 4 if len(evidence.trained) <= _MANY else 3
    width = _WIDTH / columns
    figure, axes = panels(hierarchy.n_fine, columns, (width, width + 0.2), shared=True)
    look, curves = styles(list(evidence.trained)), CurveBands(evidence).of(curve)
    handles = {}
    coarse = list(texts_of(hierarchy.coarse).values())
    for c, (panel, name) in enumerate(zip(axes, texts_of(hierarchy.fine).values(), strict=True)):
        parent = "" if hierarchy.is_flat else f" ({coarse[hierarchy.parent[c]]})"
        set_title(panel, f"{name}{parent}", width)
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        panel.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        for method, of_class in curves.items():
            drawn = of_class[c]
            if drawn is None:
                continue
            with of_method(panel, method):
                if drawn.band is not None:
                    _draw_band(panel, drawn.band, look[method].colour)
                handles[method] = panel.plot(GRID, drawn.heights, **look[method].line())[0]
    if handles:
        legend(figure, handles)
    return figure


def _draw_band(panel: Axes, band: np.ndarray, colour: str) -> None:
    low, high = band[:, ::_STEP]
    panel.fill_between(GRID[::_STEP], low, high, color=colour, alpha=_FAINT, linewidth=0)


def _shares(evidence: Evidence) -> np.ndarray:
    """Share of each class among all test slides ``[C]``."""
    labels = [fold.predictions.labels for folds in evidence.trained.values() for fold in folds]
    counts = np.bincount(
        np.concatenate(labels or [np.zeros(0, int)]), minlength=evidence.hierarchy.n_fine
    )
    return counts / max(1, counts.sum())
