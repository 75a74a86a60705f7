"""Figures on tuning: loss of the trials, importance of the settings, settings that were tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mil_bench.evaluation.trials import COMPLETE, PRUNED, Trial
from mil_bench.report.figures.names import set_title, texts_of
from mil_bench.report.figures.style import legend, method_id, panels, styled, styles
from mil_bench.report.tuning_tables import by_study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Proportion of the losses inside the axis of the history; one diverged trial would flatten them.
_SHOWN = 0.95
_AXIS_COLOUR = "0.75"
_PRUNED_DOTS: Mapping[str, Any] = {
    "color": "0.45",
    "marker": "x",
    "markersize": 4,
    "linestyle": "none",
}


@styled
def tuning_history(records: Sequence[Trial]) -> Figure:
    """Loss of every trial and lowest loss so far of every study, one panel per method."""
    methods = _by_method(records)
    figure, axes = panels(len(methods), 3, (3.1, 2.3))
    look, titles = styles(list(methods)), texts_of(methods)
    for panel, (label, of_method) in zip(axes, methods.items(), strict=True):
        panel.set_gid(method_id(label))
        losses = [loss for record in of_method if (loss := _lowest_loss(record)) is not None]
        for trials in by_study(of_method).values():
            lowest = np.minimum.accumulate([record.loss for record in trials])
            panel.step(
                range(len(lowest)),
                np.where(np.isinf(lowest), np.nan, lowest),
                where="post",
                **look[label].line(0.9),
            )
        _points(panel, of_method, COMPLETE, look[label].dots(3.5))
        _points(panel, of_method, PRUNED, _PRUNED_DOTS)
        if losses:
            low, high = min(losses), float(np.quantile(losses, _SHOWN))
            room = 0.06 * (high - low) or 0.1
            panel.set_ylim(low - room, high + room)
        set_title(panel, titles[label], 3.1)
        panel.set(xlabel="trial", ylabel="validation loss")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = {
        "complete": Line2D([], [], color="0.2", marker="o", markersize=3.5, linestyle="none"),
        "pruned": Line2D([], [], **_PRUNED_DOTS),
        "lowest so far": Line2D([], [], color="0.2", linewidth=0.9),
    }
    legend(figure, handles)
    return figure


@styled
def tuning_importance(importances: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """How much of the variance between trials each setting explains, one panel per method.

    Bars are means over studies, dots are single studies.

    Args:
        importances: method to setting to one proportion per study.
    """
    figure, axes = panels(len(importances), 3, (3.1, 1.9))
    look, titles = styles(list(importances)), texts_of(importances)
    for panel, (label, shares) in zip(axes, importances.items(), strict=True):
        panel.set_gid(method_id(label))
        order = sorted(shares, key=lambda name: np.mean(shares[name]))
        panel.barh(
            order, [np.mean(shares[name]) for name in order], color=look[label].colour, alpha=0.35
        )
        for name in order:
            panel.plot(shares[name], [name] * len(shares[name]), **look[label].dots(3))
        set_title(panel, titles[label], 3.1)
        panel.set(xlabel="proportion of variance", xlim=(0, 1.02))
    return figure


@styled
def tuning_parallel(
    records: Sequence[Trial], defaults: Mapping[str, Mapping[str, object]]
) -> Figure:
    """Each complete trial as a line through its settings, one panel per method.

    The darker and thicker a line, the lower the loss among the trials of its study.

    Args:
        records: trials of all studies.
        defaults: method to the values of its settings, for settings that a trial leaves alone.
    """
    methods = {
        label: of_method for label, of_method in _by_method(records).items() if defaults.get(label)
    }
    figure, axes = panels(max(1, len(methods)), 1, (7.8, 2.1))
    titles = texts_of(methods)
    for panel, (label, of_method) in zip(axes, methods.items(), strict=False):
        panel.set_gid(method_id(label))
        _parallel(panel, of_method, defaults[label])
        set_title(panel, titles[label], 7.8)
    return figure


def _parallel(panel: Axes, records: Sequence[Trial], defaults: Mapping[str, object]) -> None:
    names = list(defaults)
    lines = []
    for trials in by_study(records).values():
        complete = sorted((r for r in trials if r.is_complete), key=lambda r: r.loss)
        for i, record in enumerate(complete):
            rank = i / max(1, len(complete) - 1)
            lines.append((rank, [record.settings.get(name, defaults[name]) for name in names]))
    scales = [_Scale([values[i] for _, values in lines]) for i in range(len(names))]
    for rank, values in sorted(lines, key=lambda line: -line[0]):  # the best is drawn last, on top
        heights = [scale(value) for scale, value in zip(scales, values, strict=True)]
        colour = colormaps["cividis"](0.92 * rank)
        panel.plot(
            range(len(names)),
            heights,
            color=colour,
            linewidth=1.6 - 1.1 * rank,
            alpha=0.9 - 0.5 * rank,
        )
    for i, scale in enumerate(scales):
        panel.axvline(i, color=_AXIS_COLOUR, linewidth=0.7)
        for height, text in scale.ticks:
            panel.annotate(
                text,
                (i, height),
                fontsize=7,
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
            )
    panel.set_xticks(range(len(names)), names)
    panel.set(yticks=[], ylim=(-0.08, 1.08), xlim=(-0.15, len(names) - 0.6))
    panel.spines["left"].set_visible(False)


class _Scale:
    """From values of one setting to heights in [0, 1].

    Names are in order. Numbers are on a linear scale, or on a logarithmic one if they span more
    than a factor of 50.
    """

    def __init__(self, values: Sequence[object]) -> None:
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        self._names: list[object] | None = None
        if len(numbers) < len(values) or len(set(values)) < 3:
            self._names = sorted(
                set(values), key=lambda v: (str(type(v)), v if v is not None else 0)
            )
            count = max(1, len(self._names) - 1)
            texts = texts_of(map(str, self._names), 24)
            self.ticks = [(i / count, texts[str(name)]) for i, name in enumerate(self._names)]
            return
        low, high = min(numbers), max(numbers)
        self._log = low > 0 and high / low > 50
        self._low, self._high = self._plain(low), self._plain(high)
        self.ticks = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]

    def _plain(self, value: float) -> float:
        return float(np.log10(value)) if self._log else float(value)

    def __call__(self, value: object) -> float:
        if self._names is not None:
            return self._names.index(value) / max(1, len(self._names) - 1)
        assert isinstance(value, int | float)
        return (self._plain(value) - self._low) / (self._high - self._low)


def _by_method(records: Sequence[Trial]) -> dict[str, list[Trial]]:
    methods: dict[str, list[Trial]] = {}
    for record in records:
        methods.setdefault(record.label, []).append(record)
    return methods


def _points(panel: Axes, records: Sequence[Trial], state: str, dots: Mapping[str, Any]) -> None:
    """One point per trial of a state that has a loss."""
    losses = [(r.number, _lowest_loss(r)) for r in records if r.state == state]
    points = [(number, loss) for number, loss in losses if loss is not None]
    if points:
        numbers, heights = zip(*points, strict=True)
        panel.plot(numbers, heights, **dots)


def _lowest_loss(record: Trial) -> float | None:
    """The loss of a complete trial, else the lowest loss that it reached; None if it has none."""
    if record.is_complete:
        return record.value
    lowest = [min(curve) for curve in record.curves.values() if curve]
    return float(np.mean(lowest)) if lowest else None
