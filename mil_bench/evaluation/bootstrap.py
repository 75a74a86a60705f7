"""Bootstrap over patients: how much the metrics of trained models vary with the test patients.

Slides of one patient are correlated, so patients are drawn with replacement, each with all its
slides. All methods, folds and metrics share the same draws, so differences between methods are
paired. The trained models are fixed: an interval covers test-set variability, not training-set
variability. For means over the folds of a cross-validation that is enough if training is stable
(Bayle et al., NeurIPS 2020).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from mil_bench import seeds
from mil_bench.evaluation.metrics import Measure, ModelScorer, Sums, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.evaluation.weighted_sums import Ratio
    from mil_bench.hierarchy import LabelHierarchy

CONFIDENCE = 0.95
"""Confidence level of every interval."""
FEWEST_UNITS = 20
"""Fewest patients (or slides) for an interval: percentile intervals over fewer are too narrow.

For a metric of one class, that many must have a slide of the class. How often the intervals of rare
classes cover the true value is measured by ``mil_bench.benchmarks.statistics``.
"""
FEWEST_IN_MEAN = 10
"""Fewest patients (or slides) of every class for an interval of a mean over classes.

With seven classes, intervals cover the true value from 7 patients on as often as with 40
(``mil_bench.benchmarks.statistics``, "Means over classes with a rare class"); a rare class counts
for more where there are fewer classes.
"""
MOST_UNDEFINED = 0.05
"""Largest share of replicates in which a metric may be undefined because a rare class was not
drawn; above it there is no interval."""


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval.

    Args:
        low: lower end, not a number if there is no interval.
        high: upper end.
        undefined: number of replicates in which the metric is undefined; they are left out.
        reason: why there is no interval, "" if there is one.
    """

    low: float
    high: float
    undefined: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Replicates:
    """All metrics of all methods under the same R draws.

    Args:
        values: method to measure to values ``[1 + R]``; the first is the value on the test set
            itself.
    """

    values: Mapping[str, Mapping[Measure, np.ndarray]]

    def difference(self, first: str, second: str, measure: Measure) -> np.ndarray:
        """``first`` minus ``second`` ``[1 + R]``."""
        return self.values[first][measure] - self.values[second][measure]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """All metrics of all methods on resampled patients.

    Args:
        unit: what was drawn ("patient"; "slide" if groups are unknown).
        units: number of units.
        pooled: metrics of all folds together.
        fold_mean: means over the folds in which a metric is defined; of a mean over classes, the
            mean of each class's mean over the folds that have the class.
        class_units: label level to class to the number of units that have a slide of that class.
        class_means: the measures that are means over classes.
    """

    unit: str
    units: int
    pooled: Replicates
    fold_mean: Replicates
    class_units: Mapping[str, Mapping[str, int]]
    class_means: frozenset[Measure] = frozenset()

    @property
    def few(self) -> str:
        """Why there can be no interval at all, "" if there can."""
        if self.units >= FEWEST_UNITS:
            return ""
        return f"{self.units} {self.unit}s are too few to draw from, {FEWEST_UNITS} are needed"

    def interval(self, values: np.ndarray, measure: Measure | None = None) -> Interval:
        """The interval of a metric or of a difference.

        Args:
            values: ``[1 + R]``, the first without resampling.
            measure: what the values are of. A metric of one class needs enough units that have a
                slide of the class, a mean over classes needs some of every class.
        """
        undefined = int(np.isnan(values[1:]).sum())
        # A rare class also leaves draws undefined; its name says more.
        rare = ""
        if measure is not None and not self.few and not np.isnan(values[0]):
            rare = self._rare_classes(measure)
        if reason := rare or self.fault(values, measure):
            return Interval(float("nan"), float("nan"), undefined, reason)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(values[1:], [tail, 1 - tail])
        return Interval(float(low), float(high), undefined)

    def fault(self, values: np.ndarray, measure: Measure | None = None) -> str:
        """Why the draws of a metric or of a difference cannot be used, "" if they can.

        Args:
            values: as of ``interval``.
            measure: as of ``interval``.
        """
        drawn = values[1:]
        undefined = int(np.isnan(drawn).sum())
        with_class = None
        if measure is not None and measure.of:
            with_class = self.class_units[measure.level][measure.of]
        if np.isnan(values[0]):
            return "the value itself is undefined"
        if self.few:
            return self.few
        if measure is not None and with_class is not None and with_class < FEWEST_UNITS:
            return (
                f"{with_class} {self.unit}s with {measure.of} are too few, {FEWEST_UNITS} are "
                "needed"
            )
        if undefined > MOST_UNDEFINED * len(drawn):
            return f"undefined in {undefined} of {len(drawn)} draws of {self.unit}s"
        return ""

    def _rare_classes(self, measure: Measure) -> str:
        """Why there is no interval of a mean over classes, "" if there is or it is no such mean."""
        if measure not in self.class_means:
            return ""
        rare = [
            f"{number} {self.unit}{'s' * (number != 1)} with {name}"
            for name, number in self.class_units[measure.level].items()
            if number < FEWEST_IN_MEAN
        ]
        if not rare:
            return ""
        return (
            f"it is a mean over classes, and {', '.join(rare)} "
            f"are too few, {FEWEST_IN_MEAN} of every class are needed"
        )


def p_value(values: np.ndarray) -> float:
    """Two-sided p-value of a difference, by inversion of its percentile interval.

    Args:
        values: of the difference ``[1 + R]``, the first without resampling.
    """
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
    """Draw patients with replacement and compute all metrics of all methods on them.

    Args:
        methods: method to its test predictions, one entry per trained fold, at least one. Without
            methods there are no values.
        hierarchy: the classes.
        group_name: what a group is ("patient"), "" if groups are unknown; then slides are drawn.
        ordered: whether the order of the classes means something.
        replicates: number of draws, R.
    """
    unit_of = units_of(methods, bool(group_name))
    units = len(set(unit_of.values()))
    weights = draws(units, replicates if units >= FEWEST_UNITS else 0) if units else []
    pooled, means, class_means = {}, {}, set[Measure]()
    # The matrix products are small: one thread is faster than handing them to several.
    with threadpool_limits(1, "blas"):
        for name, predictions in methods.items():
            folds = [
                _Model(ModelScorer(p, hierarchy, ordered), [unit_of[s] for s in p.slides])
                for p in predictions
            ]
            class_means |= {m for fold in folds for m in fold.class_means}
            chunks = [
                [values_of(sums, hierarchy) for sums in _added(folds, weight)] for weight in weights
            ]
            pooled[name], means[name] = (
                {m: np.concatenate([chunk[kind][m] for chunk in chunks]) for m in chunks[0][kind]}
                for kind in (0, 1)
            )
    of_classes = class_units(methods, hierarchy, unit_of)
    return Bootstrap(
        group_name or "slide",
        units,
        Replicates(pooled),
        Replicates(means),
        of_classes,
        frozenset(class_means),
    )


def draws(units: int, replicates: int) -> list[np.ndarray]:
    """How often each unit is drawn, in chunks ``[r, units]`` uint8; the same on every call.

    The first chunk is one row of ones: the test set without resampling.
    """
    rng = seeds.generator("bootstrap", units)
    # Draws per chunk; sums and weights then take about 100 MB.
    step = max(1, min(1000, 4_000_000 // units))
    sizes = [min(step, replicates - start) for start in range(0, replicates, step)]
    even = np.full(units, 1 / units)
    return [
        np.ones((1, units), np.uint8),
        *(rng.multinomial(units, even, n).astype(np.uint8) for n in sizes),
    ]


class _Model:
    """One trained fold, the units of its slides, and the scales that make it count as one fold."""

    def __init__(self, scorer: ModelScorer, units: Sequence[int]) -> None:
        self._scorer, self._units = scorer, np.array(units)
        plain = scorer.sums(np.ones((1, len(units))))
        self.scales = {name: self._scale(name[1], ratio) for name, ratio in plain.items()}
        measures = {Measure(*name): ratio.whole.shape[1] for name, ratio in plain.items()}
        self.class_means = [m for m, columns in measures.items() if m.is_macro and columns > 1]

    @staticmethod
    def _scale(key: str, ratio: Ratio) -> np.ndarray:
        """Factors ``[columns]`` that make the fold's ``whole`` 1; 0 if the metric is undefined.

        The ratio of the scaled sums over folds is then the mean over folds. Under resampling it
        stays defined if a fold loses all of its few patients with a class, and it varies around the
        mean of all folds, not around the mean of so few patients.
        """
        defined = ~np.isnan(ratio.value[0])
        metric = Measure("", key).metric
        if not (metric.is_classwise or metric.is_mean):
            defined &= defined.all()
        return defined / np.where(defined, ratio.whole[0], 1)

    def sums(self, weight: np.ndarray) -> Sums:
        return self._scorer.sums(weight[:, self._units].astype(float))


def _added(folds: Sequence[_Model], weight: np.ndarray) -> tuple[Sums, Sums]:
    """Sums over folds: plain for all folds pooled, scaled for the mean over folds."""
    plain: dict[tuple[str, str], Ratio] = {}
    scaled: dict[tuple[str, str], Ratio] = {}
    for fold in folds:
        for name, ratio in fold.sums(weight).items():
            share = ratio * fold.scales[name]
            plain[name] = plain[name] + ratio if name in plain else ratio
            scaled[name] = scaled[name] + share if name in scaled else share
    return plain, scaled


def class_units(
    methods: Mapping[str, Sequence[Predictions]],
    hierarchy: LabelHierarchy,
    unit_of: Mapping[str, int],
) -> dict[str, dict[str, int]]:
    """Label level to class to the number of units that have a test slide of the class.

    Args:
        methods: method to its test predictions.
        hierarchy: the classes.
        unit_of: tested slide to the number of its unit.
    """
    pairs = {
        (unit_of[slide], int(label))
        for predictions in methods.values()
        for p in predictions
        for slide, label in zip(p.slides.tolist(), p.labels, strict=True)
    }
    fine = Counter(hierarchy.fine[label] for _, label in pairs)
    above = {(unit, hierarchy.parent[label]) for unit, label in pairs}
    coarse = Counter(hierarchy.coarse[parent] for _, parent in above)
    of_coarse = {name: coarse[name] for name in hierarchy.coarse}
    of_fine = {name: fine[name] for name in hierarchy.fine}
    return {"fine": of_fine, "coarse": of_coarse, "coarse_head": of_coarse}


def units_of(methods: Mapping[str, Sequence[Predictions]], grouped: bool) -> dict[str, int]:
    """Tested slide to the number of its unit. A slide without a group is a unit of its own."""
    group_of = {
        slide: (group or slide) if grouped else slide
        for predictions in methods.values()
        for p in predictions
        for slide, group in zip(p.slides.tolist(), p.groups.tolist(), strict=True)
    }
    number = {group: i for i, group in enumerate(sorted(set(group_of.values())))}
    return {slide: number[group] for slide, group in group_of.items()}
