"""Forest plot: every method's mean, interval and folds, sorted by rank, as an SVG element.

Drawn without matplotlib, since it is part of the page: its text can be selected and takes the
page's colours, every dot answers to hovering, and a narrow screen gets a drawing of its own instead
of a small copy. Colours are attributes as well, for the file that a reader saves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from mil_bench.errors import one_line
from mil_bench.report.sentences import best_of_means
from mil_bench.report.tables import shown_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Evidence, Verdict

WIDE, NARROW = 900, 350
"""Widths of the two drawings in pixels; the narrow one has names above the lines."""
_COLOURS = {
    "ink": "#1c1c1c",
    "quiet": "#5c5c5c",
    "line": "#d8d8d8",
    "band": "#e4eef9",
    "alike": "#0a4ea3",
    "other": "#6b6b6b",
}
_FONT = 'system-ui, "Segoe UI", Roboto, Arial, sans-serif'
_LONGEST, _LONGEST_NARROW = 28, 17
"""Letters of a name in the two drawings; hovering shows the whole."""
_TICKS = 6


@dataclass(frozen=True)
class ForestRow:
    """A method in the plot.

    Args:
        method: as tables call it.
        rank: 1 for the best; None for a yardstick.
        mean: over folds, in the unit that is shown.
        folds: value of each fold that has one, mean over its seeds.
        interval: of the mean, over test patients; None if there is none.
        alike: whether the method is the best or not shown to be worse.
        words: all of it in words.
    """

    method: str
    rank: int | None
    mean: float
    folds: Mapping[int, float]
    interval: tuple[float, float] | None
    alike: bool
    words: str


@dataclass(frozen=True)
class Forest:
    """The plot.

    Args:
        rows: the best first.
        title: what is measured, with its unit.
        caption: what dots, lines and the band mean.
        digits: decimals of a value.
    """

    rows: Sequence[ForestRow]
    title: str
    caption: str
    digits: int

    @classmethod
    def of(cls, evidence: Evidence, pairs: Sequence[Verdict], measure: Measure) -> Forest | None:
        """The plot of a run, None if no method has a mean.

        Args:
            evidence: what the run measured.
            pairs: its verdicts on ``measure``.
            measure: what methods are compared on.
        """
        order = by_mean(evidence, measure)
        means = {m: float(evidence.contributions(m, measure).mean()) for m in order}
        contestants = {m: mean for m, mean in means.items() if m in evidence.contestants}
        if not contestants:
            return None
        best = best_of_means(contestants, measure)
        ranks = {m: 1 + i for i, m in enumerate(m for m in order if m in contestants)}
        rows = []
        for method in order:
            worse = _is_worse(method, best, pairs)
            alike = method in best or (method in contestants and worse is False)
            rows.append(_row(evidence, measure, method, ranks.get(method), alike, worse))
        title = measure.words[0].upper() + measure.words[1:]
        title += " (%)" if measure.metric.percent else ""
        direction = "" if measure.metric.higher_is_better else " Lower is better."
        band = len([row for row in rows if row.alike]) > len(best)
        caption = (
            f"Large dot: mean over folds. Small dots: folds. Line: 95 % interval over test "
            f"{evidence.bootstrap.unit}s (bootstrap); it does not include the variance of "
            "training, so the answers come from the comparisons below and not from lines that "
            f"overlap.{direction} "
        )
        caption += (
            "Shaded: methods that are not shown to be worse than the best."
            if band
            else "Shaded: the best."
        )
        return cls(rows, title, caption, shown_as(measure.metric)[1])

    def svg(self, width: int, identity: str, numbers: Mapping[str, tuple[int, ...]]) -> str:
        """The drawing, ``width`` pixels wide.

        Args:
            width: ``WIDE`` or ``NARROW``.
            identity: ``id`` of the element.
            numbers: of the methods, see ``render.html.Numbers``; rows have them as ``data-m``.
        """
        return _Drawing(self, width).text(identity, numbers)


def by_mean(evidence: Evidence, measure: Measure) -> list[str]:
    """The methods that have a mean, yardsticks included, the best first."""
    means = {
        method: measure.metric.sign * float(evidence.contributions(method, measure).mean())
        for method in evidence.having(measure)
    }
    means = {method: mean for method, mean in means.items() if not math.isnan(mean)}
    return sorted(means, key=lambda method: -means[method])


def _is_worse(method: str, best: Sequence[str], pairs: Sequence[Verdict]) -> bool | None:
    """Whether a method is shown to be worse than the best; None if that was not tested."""
    answers = [
        pair.answer == "better" and pair.second == method
        for pair in pairs
        if not pair.reason and method in (pair.first, pair.second) and pair.other(method) in best
    ]
    return any(answers) if answers else None


def _row(
    evidence: Evidence,
    measure: Measure,
    method: str,
    rank: int | None,
    alike: bool,
    worse: bool | None,
) -> ForestRow:
    scale, digits = shown_as(measure.metric)
    mean = scale * float(evidence.contributions(method, measure).mean())
    folds = evidence.by_fold(method, measure)
    drawn = evidence.bootstrap.fold_mean.values[method][measure]
    interval = evidence.bootstrap.interval(drawn, measure)
    ends = None if interval.reason else (scale * interval.low, scale * interval.high)
    answer = {True: "worse than the best", False: "not shown to be worse than the best"}
    words = [
        f"{method}: {mean:.{digits}f}",
        f"no interval: {interval.reason}"
        if ends is None
        else f"95 % interval {ends[0]:.{digits}f} to {ends[1]:.{digits}f}",
    ]
    if rank is None:
        words.append("uses no image")
    elif alike and worse is None:
        words.append("the best")
    else:
        words.append("not compared with the best" if worse is None else answer[worse])
    values = {k: scale * float(value) for k, value in enumerate(folds) if not np.isnan(value)}
    return ForestRow(method, rank, mean, values, ends, alike, "; ".join(words))


class _Drawing:
    """One drawing of a plot."""

    def __init__(self, forest: Forest, width: int) -> None:
        self._forest, self._width = forest, width
        self._is_narrow = width == NARROW
        self._row_height = 46 if self._is_narrow else 30
        self._letters = _LONGEST_NARROW if self._is_narrow else _LONGEST
        names = max(len(self._short(row.method)) for row in forest.rows)
        self._left = 12 if self._is_narrow else min(250, 60 + 7.6 * names)
        self._right = width - (12 if self._is_narrow else 160)
        self._ticks = _ticks_of(forest.rows)

    def text(self, identity: str, numbers: Mapping[str, tuple[int, ...]]) -> str:
        rows = self._forest.rows
        bottom = 8 + self._row_height * len(rows)
        root = ET.Element(
            "svg",
            {
                "id": identity,
                "class": "narrow" if self._is_narrow else "wide",
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {self._width} {bottom + 42}",
                "width": str(self._width),
                "height": str(bottom + 42),
                "role": "img",
                "aria-label": f"Forest plot of {one_line(self._forest.title)}: "
                + "; ".join(f"{one_line(r.method)} {self._number(r.mean)}" for r in rows),
                "font-family": _FONT,
                "font-size": "13",
                "data-row": str(self._row_height),
                "data-height": str(bottom + 42),
            },
        )
        axis = ET.SubElement(root, "g", {"class": "axis"})
        for tick in self._ticks:
            x = self._x(tick)
            _line(axis, "line", x, 4, x, bottom)
            mark = _text(axis, "quiet", x, bottom + 17, f"{tick:g}", "middle")
            mark.set("font-size", "12")
        middle = (self._left + self._right) / 2
        _text(axis, "quiet", middle, bottom + 36, self._forest.title, "middle")
        for i, row in enumerate(rows):
            self._draw(root, row, numbers[row.method], 8 + self._row_height * i)
        return ET.tostring(root, encoding="unicode")

    def _draw(self, root: ET.Element, row: ForestRow, numbers: tuple[int, ...], top: float) -> None:
        colour = "alike" if row.alike else "other"
        group = ET.SubElement(root, "g", {"data-m": " ".join(map(str, numbers))})
        ET.SubElement(group, "title").text = one_line(row.words)
        height = self._row_height
        back = {"x": "0", "y": f"{top:g}", "width": str(self._width), "height": f"{height:g}"}
        if row.alike:
            _shape(group, "rect", "band", **back)
        else:  # the whole row answers to hovering
            ET.SubElement(group, "rect", {**back, "fill-opacity": "0"})
        y = top + (30 if self._is_narrow else height / 2)
        text_y = top + (16 if self._is_narrow else height / 2 + 4.5)
        rank = "" if row.rank is None else f"{row.rank}"
        _text(group, "quiet", 26 if not self._is_narrow else 22, text_y, rank, "end")
        name = _text(
            group, "ink", 36 if not self._is_narrow else 30, text_y, self._short(row.method)
        )
        if row.rank == 1:
            name.set("font-weight", "700")
        value = self._number(row.mean)
        if row.interval is not None:
            value += f" [{self._number(row.interval[0])}, {self._number(row.interval[1])}]"
        _text(group, "ink", self._width - 12, text_y, value, "end")
        for fold, number in row.folds.items():
            dot = _shape(group, "circle", colour, cx=f"{self._x(number):.1f}", cy=f"{y:g}", r="3.2")
            dot.set("fill-opacity", "0.35")
            ET.SubElement(
                dot, "title"
            ).text = f"{one_line(row.method)}, fold {fold}: {self._number(number)}"
        if row.interval is not None:
            low, high = map(self._x, row.interval)
            _line(group, colour, low, y, high, y).set("stroke-width", "2")
        mark = _shape(group, "circle", colour, cx=f"{self._x(row.mean):.1f}", cy=f"{y:g}", r="5.5")
        if row.rank is None:  # a yardstick is hollow
            mark.set("class", "paper-other")
            mark.set("fill", "#ffffff")
            mark.set("stroke", _COLOURS["other"])
            mark.set("stroke-width", "1.5")

    def _x(self, value: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        return self._left + (self._right - self._left) * (value - low) / (high - low)

    def _short(self, name: str) -> str:
        name = one_line(name)
        if len(name) <= self._letters:
            return name
        end = self._letters // 3
        return f"{name[: self._letters - end - 1]}…{name[-end:]}"

    def _number(self, value: float) -> str:
        return f"{value:.{self._forest.digits}f}"


def _ticks_of(rows: Sequence[ForestRow]) -> list[float]:
    """Round numbers from below the lowest to above the highest of all that is drawn."""
    values = [v for r in rows for v in (r.mean, *r.folds.values(), *(r.interval or ()))]
    low, high = min(values), max(values)
    span = max(high - low, 1e-6 * max(1.0, abs(high)))
    raw = span / (_TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * i, 10) for i in range(first, max(last, first + 1) + 1)]


def _text(
    parent: ET.Element, colour: str, x: float, y: float, text: str, anchor: str = "start"
) -> ET.Element:
    element = _shape(parent, "text", colour, x=f"{x:.1f}", y=f"{y:.1f}")
    element.set("text-anchor", anchor)
    element.text = text
    return element


def _line(
    parent: ET.Element, colour: str, x1: float, y1: float, x2: float, y2: float
) -> ET.Element:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:g}", "x2": f"{x2:.1f}", "y2": f"{y2:g}"}
    return ET.SubElement(
        parent, "line", {"class": f"stroke-{colour}", "stroke": _COLOURS[colour], **ends}
    )


def _shape(parent: ET.Element, tag: str, colour: str, **attributes: str) -> ET.Element:
    return ET.SubElement(
        parent, tag, {"class": f"fill-{colour}", "fill": _COLOURS[colour], **attributes}
    )
