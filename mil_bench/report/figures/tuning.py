"""Tuning as pictures: how it went, which settings mattered, which were tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mil_bench.evaluation.trials import COMPLETE, PRUNED, Trial
from mil_bench.report.figures.style import legend, panels, styled, styles
from mil_bench.report.tuning_tables import by_study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 0.95  # share of the losses that the scale of the history shows; a diverged trial would flatten all others
_MISSING = "0.75"


@styled
def tuning_history(records: Sequence[Trial]) -> Figure:
    """A panel a method: the loss of every trial, and the lowest so far of every study."""
    methods = _by_method(records)
    figure, axes = panels(len(methods), 3, (3.1, 2.3))
    look = styles(list(methods))
    for panel, (label, own) in zip(axes, methods.items(), strict=True):
        seen = [value for record in own if (value := _reached(record)) is not None]
        for trials in by_study(own).values():
            values = [record.value if record.is_complete else np.inf for record in trials]
            lowest = np.minimum.accumulate(np.asarray(values, dtype=float))
            panel.step(
                range(len(lowest)),
                np.where(np.isinf(lowest), np.nan, lowest),
                where="post",
                **look[label].line(0.9),
            )
        for state, dots in (
            (COMPLETE, look[label].dots(3.5)),
            (PRUNED, {"color": "0.45", "marker": "x", "markersize": 4, "linestyle": "none"}),
        ):
            chosen = [(record.number, _reached(record)) for record in own if record.state == state]
            chosen = [(number, value) for number, value in chosen if value is not None]
            if chosen:
                panel.plot(*zip(*chosen, strict=True), **dots)
        if seen:
            low, high = min(seen), float(np.quantile(seen, _SHOWN))
            room = 0.06 * (high - low) or 0.1
            panel.set_ylim(low - room, high + room)
        panel.set(title=label, xlabel="trial", ylabel="validation loss")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = {
        "complete": Line2D([], [], color="0.2", marker="o", markersize=3.5, linestyle="none"),
        "given up": Line2D([], [], color="0.45", marker="x", markersize=4, linestyle="none"),
        "lowest so far": Line2D([], [], color="0.2", linewidth=0.9),
    }
    legend(figure, handles)
    return figure


@styled
def tuning_importance(importances: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel a method: how much of the trials' differences each setting explains, mean bar and one dot a study.

    Args:
        importances: method to setting to one share a study.
    """
    figure, axes = panels(len(importances), 3, (3.1, 1.9))
    look = styles(list(importances))
    for panel, (label, shares) in zip(axes, importances.items(), strict=True):
        order = sorted(shares, key=lambda name: np.mean(shares[name]))
        panel.barh(
            order, [np.mean(shares[name]) for name in order], color=look[label].colour, alpha=0.35
        )
        for name in order:
            panel.plot(shares[name], [name] * len(shares[name]), **look[label].dots(3))
        panel.set(title=label, xlabel="share explained", xlim=(0, 1.02))
    return figure


@styled
def tuning_parallel(
    records: Sequence[Trial], defaults: Mapping[str, Mapping[str, object]]
) -> Figure:
    """A panel a method: each complete trial is a line through its settings, dark where it did well in its study.

    Args:
        records: trials of all studies.
        defaults: method to the values of its settings where a trial does not say.
    """
    methods = {label: own for label, own in _by_method(records).items() if defaults.get(label)}
    figure, axes = panels(max(1, len(methods)), 1, (7.8, 2.1))
    for panel, (label, own) in zip(axes, methods.items(), strict=False):
        _parallel(panel, label, own, defaults[label])
    return figure


def _parallel(
    panel: Axes, label: str, records: Sequence[Trial], defaults: Mapping[str, object]
) -> None:
    names = list(defaults)
    lines = []
    for trials in by_study(records).values():
        complete = sorted((r for r in trials if r.is_complete), key=lambda r: r.value)
        for place, record in enumerate(complete):
            rank = place / max(1, len(complete) - 1)
            lines.append((rank, [record.settings.get(name, defaults[name]) for name in names]))
    scales = [_Scale([values[i] for _, values in lines]) for i in range(len(names))]
    for rank, values in sorted(lines, key=lambda line: -line[0]):  # the best on top
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
        panel.axvline(i, color=_MISSING, linewidth=0.7)
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
    panel.set(title=label, yticks=[], ylim=(-0.08, 1.08), xlim=(-0.15, len(names) - 0.6))
    panel.spines["left"].set_visible(False)


class _Scale:
    """Values of one setting to heights in [0, 1]: in order for names, logarithmic where numbers span decades."""

    def __init__(self, values: Sequence[object]) -> None:
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        self._names: list[object] | None = None
        if len(numbers) < len(values) or len(set(values)) < 3:
            self._names = sorted(
                set(values), key=lambda v: (str(type(v)), v if v is not None else 0)
            )
            count = max(1, len(self._names) - 1)
            self.ticks = [(i / count, str(name)) for i, name in enumerate(self._names)]
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
    found: dict[str, list[Trial]] = {}
    for record in records:
        found.setdefault(record.label, []).append(record)
    return found


def _reached(record: Trial) -> float | None:
    """The loss of a complete trial, or how far one came that was given up."""
    if record.is_complete:
        return record.value
    lowest = [min(curve) for curve in record.curves.values() if curve]
    return float(np.mean(lowest)) if lowest else None
