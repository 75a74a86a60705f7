"""Reliability diagrams: accuracy against confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.report.figures.names import set_title, texts_of
from mil_bench.report.figures.style import method_id, panels, styled, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mil_bench.evaluation.verdicts import Evidence

_BINS = 10


@styled
def reliability(evidence: Evidence) -> Figure:
    """Accuracy against the probability of the predicted fine class, over all folds.

    One panel per method, ten bins of equal width; a point's area shows its proportion of the test
    predictions. Below the diagonal a method is overconfident.
    """
    methods = [name for name, folds in evidence.trained.items() if folds]
    figure, axes = panels(max(1, len(methods)), 4, (2.3, 2.4), shared=True)
    look, titles = styles(list(evidence.trained)), texts_of(methods)
    for method, panel in zip(methods, axes, strict=False):
        panel.set_gid(method_id(method))
        predictions = [fold.predictions for fold in evidence.trained[method]]
        confidence = np.concatenate([p.fine.max(1) for p in predictions])
        correct = np.concatenate([p.fine.argmax(1) == p.labels for p in predictions])
        bin_of = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
        inside = [bin_of == b for b in range(_BINS) if (bin_of == b).any()]
        points = np.array([(confidence[i].mean(), correct[i].mean(), i.mean()) for i in inside])
        style = look[method]
        panel.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
        panel.plot(points[:, 0], points[:, 1], color=style.colour, linewidth=1)
        area = 12 + 300 * points[:, 2]
        panel.scatter(
            points[:, 0], points[:, 1], area, color=style.colour, alpha=0.55, clip_on=False
        )
        panel.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        panel.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        set_title(panel, titles[method], 2.3)
    figure.supxlabel("probability of the predicted class", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    return figure
