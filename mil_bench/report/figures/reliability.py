"""Whether a method is as often right as it is sure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.report.figures.style import panels, styled, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mil_bench.evaluation.verdicts import Evidence

_BINS = 10


@styled
def reliability(evidence: Evidence) -> Figure:
    """Share of right predictions over the probability of the predicted fine class, all folds together.

    One panel a method, ten bins of equal width; a dot's area is its share of the tests. Below the
    diagonal a method is surer than right.
    """
    methods = [name for name, trials in evidence.trained.items() if trials]
    figure, axes = panels(max(1, len(methods)), 4, (2.3, 2.4), shared=True)
    look = styles(list(evidence.trained))
    for method, panel in zip(methods, axes, strict=False):
        done = [trial.predictions for trial in evidence.trained[method]]
        sure = np.concatenate([p.fine.max(1) for p in done])
        right = np.concatenate([p.fine.argmax(1) == p.labels for p in done])
        bins = np.clip((sure * _BINS).astype(int), 0, _BINS - 1)
        held = np.flatnonzero(np.bincount(bins, minlength=_BINS))
        points = np.array(
            [(sure[bins == b].mean(), right[bins == b].mean(), (bins == b).mean()) for b in held]
        )
        style = look[method]
        panel.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
        panel.plot(points[:, 0], points[:, 1], color=style.colour, linewidth=1)
        area = 12 + 300 * points[:, 2]
        panel.scatter(
            points[:, 0], points[:, 1], area, color=style.colour, alpha=0.55, clip_on=False
        )
        panel.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        panel.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        panel.set_title(method, fontsize=9 if len(method) < 24 else 7)
    figure.supxlabel("probability of the predicted class", fontsize=9)
    figure.supylabel("share that is right", fontsize=9)
    return figure
