"""Bootstrap over patients: how far the figures of these models would move with other test patients.

Slides of a patient are alike, so patients are drawn, with replacement, and bring all their slides
with them. All methods, folds and metrics see the same draws, which makes differences between
methods paired. The models stay as they
are: an interval says what other test patients would change, not what other training slides would.
For averages over the folds of a cross-validation that is enough if training is stable (Bayle et
al., NeurIPS 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from mil_bench import seeds
from mil_bench.evaluation.metrics import Measure, ModelScorer, Sums, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.evaluation.weighted_sums import Ratio
    from mil_bench.hierarchy import LabelHierarchy

CONFIDENCE = 0.95
"""Of every interval."""
FEWEST_UNITS = 20
"""Patients (or slides) below which no interval is given: percentiles over so few are too narrow.

It holds for those with a class, too, where a figure is of that class alone:
``mil_bench.benchmarks.statistics`` shows how seldom the intervals of rare classes hold the truth.
"""
MOST_UNDEFINED = 0.05
"""Share of replicates in which a figure may be undefined (a rare class was not drawn) before its interval is, too."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval of 95 %.

    Args:
        low: lower end, not a number where no interval can be given.
        high: upper end.
        undefined: replicates in which the figure is undefined; they are left out.
        reason: why there is no interval, "" where there is one.
    """

    low: float
    high: float
    undefined: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Replicates:
    """Every figure of every method under the same draws: method to figure to values ``[1 + R]``, undrawn first."""

    values: Mapping[str, Mapping[Measure, np.ndarray]]

    def difference(self, first: str, second: str, figure: Measure) -> np.ndarray:
        """``first`` minus ``second`` ``[1 + R]``."""
        return self.values[first][figure] - self.values[second][figure]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Figures of every method on drawn patients.

    Args:
        unit: what was drawn ("patient"; "slide" where groups are unknown).
        units: how many there are.
        pooled: figures of all folds together.
        fold_mean: means of the folds' figures, over the folds in which they are defined.
        bearers: figure of a class to how many units have a slide of that class.
    """

    unit: str
    units: int
    pooled: Replicates
    fold_mean: Replicates
    bearers: Mapping[Measure, int]

    @property
    def few(self) -> str:
        """Why no interval can be given at all, "" where it can."""
        enough = self.units >= FEWEST_UNITS
        return (
            ""
            if enough
            else f"{self.units} {self.unit}s are too few to draw from, {FEWEST_UNITS} are needed"
        )

    def interval(self, values: np.ndarray, figure: Measure | None = None) -> Interval:
        """The interval of a figure or difference from its values ``[1 + R]``.

        Args:
            values: undrawn first.
            figure: what it is; a figure of one class needs enough units that have the class.
        """
        drawn = values[1:]
        undefined = int(np.isnan(drawn).sum())
        reason = ""
        if np.isnan(values[0]):
            reason = "the figure itself is undefined"
        elif self.few:
            reason = self.few
        elif figure in self.bearers and self.bearers[figure] < FEWEST_UNITS:
            reason = f"{self.bearers[figure]} {self.unit}s with {figure.of} are too few, {FEWEST_UNITS} are needed"
        elif undefined > MOST_UNDEFINED * len(drawn):
            reason = f"undefined in {undefined} of {len(drawn)} draws of {self.unit}s"
        if reason:
            return Interval(float("nan"), float("nan"), undefined, reason)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(drawn, [tail, 1 - tail])
        return Interval(float(low), float(high), undefined)


def p_value(values: np.ndarray) -> float:
    """Two-sided p value of no difference, from a difference's values ``[1 + R]``: the interval turned round."""
    drawn = values[1:][~np.isnan(values[1:])]
    sides = [(1 + np.count_nonzero(side)) / (1 + len(drawn)) for side in (drawn <= 0, drawn >= 0)]
    return min(1.0, 2 * min(sides))


def bootstrap(
    methods: Mapping[str, Sequence[Predictions]],
    hierarchy: LabelHierarchy,
    group_name: str,
    ordered: bool = False,
    replicates: int = 10_000,
) -> Bootstrap:
    """Draw patients and measure every method on them.

    Args:
        methods: method to its test predictions, one entry a trained fold; at least one entry each.
        hierarchy: the classes.
        group_name: what a group is ("patient"), "" where groups are unknown; then slides are drawn.
        ordered: whether the order of the classes means something.
        replicates: number of draws, R.
    """
    unit_of = _units(methods, bool(group_name))
    units = len(set(unit_of.values()))
    drawn = draws(units, replicates if units >= FEWEST_UNITS else 0)
    pooled, means = {}, {}
    with threadpool_limits(
        1, "blas"
    ):  # the products are small: handing them to several threads costs more
        for name, done in methods.items():
            folds = [
                _Model(ModelScorer(p, hierarchy, ordered), [unit_of[s] for s in p.slides])
                for p in done
            ]
            parts = [
                [values_of(sums, hierarchy) for sums in _added(folds, weight)] for weight in drawn
            ]
            pooled[name], means[name] = (
                {m: np.concatenate([part[which][m] for part in parts]) for m in parts[0][which]}
                for which in (0, 1)
            )
    bearers = _bearers(
        {figure: 0 for found in pooled.values() for figure in found}, methods, hierarchy, unit_of
    )
    return Bootstrap(group_name or "slide", units, Replicates(pooled), Replicates(means), bearers)


def draws(units: int, replicates: int) -> list[np.ndarray]:
    """How often each unit is drawn, some draws at a time ``[r, units]`` uint8; the same on every call.

    The first array is one row of ones: nothing drawn.
    """
    rng = seeds.generator("bootstrap", units)
    step = max(
        1, min(1000, 4_000_000 // units)
    )  # so many rows at a time: 100 MB of sums and weights
    sizes = [min(step, replicates - start) for start in range(0, replicates, step)]
    even = np.full(units, 1 / units)
    return [
        np.ones((1, units), np.uint8),
        *(rng.multinomial(units, even, n).astype(np.uint8) for n in sizes),
    ]


class _Model:
    """One trained fold: how to sum its slides, where their weights stand, and what makes it count as one fold."""

    def __init__(self, scorer: ModelScorer, places: Sequence[int]) -> None:
        self._scorer, self._places = scorer, np.array(places)
        plain = scorer.sums(np.ones((1, len(places))))
        self.scales = {name: self._scale(name[1], ratio) for name, ratio in plain.items()}

    @staticmethod
    def _scale(key: str, ratio: Ratio) -> np.ndarray:
        """Factors ``[columns]`` that make the undrawn fold's ``whole`` 1, or 0 where the fold says nothing.

        The sum over folds of scaled parts by the sum of scaled wholes is the mean over folds. Under
        draws it stays defined when a fold loses all of the one or two patients it has of a class,
        and the spread is that around the mean of all folds, not of so few patients around their own
        mean.
        """
        defined = ~np.isnan(ratio.value[0])
        if not Measure("", key).metric.is_classwise:
            defined &= defined.all()
        return defined / np.where(defined, ratio.whole[0], 1)

    def sums(self, weight: np.ndarray) -> Sums:
        return self._scorer.sums(weight[:, self._places].astype(float))


def _added(folds: Sequence[_Model], weight: np.ndarray) -> tuple[Sums, Sums]:
    """Sums over folds, plain and scaled."""
    plain: dict[tuple[str, str], Ratio] = {}
    scaled: dict[tuple[str, str], Ratio] = {}
    for fold in folds:
        for name, ratio in fold.sums(weight).items():
            share = ratio * fold.scales[name]
            plain[name] = plain[name] + ratio if name in plain else ratio
            scaled[name] = scaled[name] + share if name in scaled else share
    return plain, scaled


def _bearers(
    figures: Iterable[Measure],
    methods: Mapping[str, Sequence[Predictions]],
    hierarchy: LabelHierarchy,
    unit_of: Mapping[str, int],
) -> dict[Measure, int]:
    """How many units have a slide of the class that a figure is of, for the figures of one class."""
    label_of = {
        slide: label
        for done in methods.values()
        for p in done
        for slide, label in zip(p.slides, p.labels, strict=True)
    }
    counts = {}
    for figure in figures:
        if figure.of:
            fine = figure.level == "fine"
            of = [
                hierarchy.fine[c] if fine else hierarchy.coarse[p]
                for c, p in enumerate(hierarchy.parent)
            ]
            counts[figure] = len(
                {unit_of[slide] for slide, label in label_of.items() if of[label] == figure.of}
            )
    return counts


def _units(methods: Mapping[str, Sequence[Predictions]], grouped: bool) -> dict[str, int]:
    """Number of the unit each tested slide belongs to."""
    group_of = {
        slide: (group or slide) if grouped else slide  # without a group of its own it stands alone
        for done in methods.values()
        for p in done
        for slide, group in zip(p.slides.tolist(), p.groups.tolist(), strict=True)
    }
    number = {group: i for i, group in enumerate(sorted(set(group_of.values())))}
    return {slide: number[group] for slide, group in group_of.items()}
