"""Confusion matrices."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle

from mil_bench.report.figures.names import set_title, texts_of
from mil_bench.report.figures.style import method_id, panels, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mil_bench.evaluation.verdicts import Evidence
    from mil_bench.hierarchy import LabelHierarchy


@styled
def confusion(evidence: Evidence, level: str) -> Figure:
    """Predicted classes in percent of each true class, over all folds; one panel per method.

    Args:
        evidence: what a run measured.
        level: "fine", in the order of the hierarchy with the coarse classes outlined; or "coarse",
            from fine probabilities summed over the children.
    """
    hierarchy = evidence.hierarchy
    methods = [name for name, folds in evidence.trained.items() if folds]
    classes = hierarchy.n_fine if level == "fine" else hierarchy.n_coarse
    side = max(2.0, 0.33 * classes + 0.7)
    figure, axes = panels(max(1, len(methods)), max(2, int(11 / side)), (side, side), shared=True)
    order = np.argsort(hierarchy.parent, kind="stable")
    shown = [hierarchy.fine[c] for c in order] if level == "fine" else hierarchy.coarse
    names = list(texts_of(shown, 40).values())
    # The panels keep their size beside long names of classes.
    room = max(0.0, 0.055 * max(map(len, names)) - 0.6)
    figure.set_size_inches(figure.get_figwidth() + room, figure.get_figheight() + room)
    titles = texts_of(methods)
    for method, panel in zip(methods, axes, strict=False):
        counts = np.zeros((classes, classes))
        for fold in evidence.trained[method]:
            predictions = fold.predictions
            cells = _labels(predictions.labels, predictions.fine, hierarchy, level)
            np.add.at(counts, cells, 1)
        panel.set_gid(method_id(method))
        _matrix(panel, counts, names)
        if level == "fine" and not hierarchy.is_flat:
            _outline(panel, hierarchy)
        set_title(panel, titles[method], side, 8)
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("true", fontsize=9)
    return figure


def _labels(
    labels: np.ndarray, fine: np.ndarray, hierarchy: LabelHierarchy, level: str
) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes ``[B]``, as rows and columns of the matrix."""
    if level == "coarse":
        return hierarchy.coarse_of(labels), hierarchy.lift(fine).argmax(1)
    position = np.argsort(np.argsort(hierarchy.parent, kind="stable"))
    return position[labels], position[fine.argmax(1)]


def _matrix(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    total = counts.sum(1, keepdims=True)
    share = 100 * counts / np.maximum(total, 1)
    axes.imshow(share, cmap="Greys", vmin=0, vmax=100)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            shade = "white" if share[row, column] > 55 else "black"
            text = axes.text(
                column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=shade
            )
            # Inside the panel anyway, and layout with hundreds of texts is slow.
            text.set(fontsize=7, in_layout=False)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90, fontsize=7)
    axes.set_yticks(ticks, names, fontsize=7)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)


def _outline(axes: Axes, hierarchy: LabelHierarchy) -> None:
    """Frame the fine classes of each coarse class."""
    parents = sorted(hierarchy.parent)
    edges = [0, *(i for i, (a, b) in enumerate(pairwise(parents), 1) if a != b), len(parents)]
    for start, end in pairwise(edges):
        corner, side = (start - 0.5, start - 0.5), end - start
        block = Rectangle(corner, side, side, fill=False, edgecolor="#D55E00")
        axes.add_patch(block).set_linewidth(1.6)
