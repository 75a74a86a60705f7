"""Which method is better: every pair of methods compared, as numbers.

Two methods are compared by their differences over folds, averaged over seeds within each fold. A
difference counts only if it is significant in two tests:

- the corrected resampled t-test across folds (Nadeau and Bengio, 2003), with the numbers of test
  and training slides of the protocol: training-set variability;
- the paired bootstrap over patients of the same difference: test-set variability.

Either alone finds too many differences if patients are in several folds (``python -m
mil_bench.benchmarks.statistics`` shows by how much), so the larger of the two p-values is used, and
an interval that covers both. With a single split there are no folds, and if the difference is the
same in every fold they have no variance: then the bootstrap alone decides.
Every method is compared with every other, yardsticks included, and p-values are Holm-adjusted for
all these pairs: comparing only with the best method would choose the pairs by their outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import registry
from mil_bench.evaluation.bootstrap import Bootstrap, Interval, bootstrap, p_value
from mil_bench.evaluation.metrics import Measure, MetricValues
from mil_bench.evaluation.metrics import measure as measure_fold
from mil_bench.evaluation.statistics import SIGNIFICANCE, corrected_t_test, holm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.hierarchy import LabelHierarchy

FEWEST_FOLDS = 3
"""Fewer folds have no usable variance; a single one is judged by the bootstrap alone."""

_NO_SPREAD = (
    "the difference is the same in every fold, so a t-test across folds has no variance to work "
    "with"
)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run measured.

    Args:
        trained: method to its trained folds, yardsticks included.
        hierarchy: the classes.
        sizes: number of training and of test slides of each fold.
        seeds: number of training seeds.
        group_name: what a group is ("patient"), "" if groups are unknown.
        ordered: whether the order of the classes means something.
        replicates: bootstrap draws.
    """

    trained: Mapping[str, Sequence[TrainedFold]]
    hierarchy: LabelHierarchy
    sizes: tuple[tuple[int, int], ...]
    seeds: int
    group_name: str
    ordered: bool = False
    replicates: int = 10_000

    @property
    def complete(self) -> list[str]:
        """Methods with all their trainings; others are not compared."""
        return [
            name
            for name, folds in self.trained.items()
            if len(folds) == len(self.sizes) * self.seeds
        ]

    @property
    def contestants(self) -> list[str]:
        """Complete methods without yardsticks, which are compared with but never called best."""
        return [name for name in self.complete if name not in registry.yardsticks.names()]

    @cached_property
    def measured(self) -> Mapping[str, Mapping[tuple[int, int], MetricValues]]:
        """Values of every training: method to (seed, fold) to values."""
        return {
            name: {
                (fold.seed, fold.fold): measure_fold(fold.predictions, self.hierarchy, self.ordered)
                for fold in folds
            }
            for name, folds in self.trained.items()
        }

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Complete methods on resampled patients."""
        predictions = {name: [t.predictions for t in self.trained[name]] for name in self.complete}
        return bootstrap(
            predictions, self.hierarchy, self.group_name, self.ordered, self.replicates
        )

    @property
    def overlap(self) -> float:
        """Number of test slides by number of training slides, mean over folds."""
        return float(np.mean([test / train for train, test in self.sizes]))

    def by_fold(self, method: str, measure: Measure) -> np.ndarray:
        """Mean over seeds in each fold ``[J]``, not a number if undefined."""
        values: list[list[float]] = [[] for _ in self.sizes]
        for (_, fold), of_training in self.measured[method].items():
            values[fold].append(of_training.values[measure])
        return np.array([np.mean(of_fold) for of_fold in values])

    def undefined(self, method: str, measure: Measure) -> list[str]:
        """Why a measure is undefined, one entry per fold."""
        reasons = {
            fold: values.reasons[measure]
            for (_, fold), values in self.measured[method].items()
            if measure in values.reasons
        }
        return [f"fold {fold}: {reason}" for fold, reason in sorted(reasons.items())]


@dataclass(frozen=True)
class Verdict:
    """Two methods compared on one measure; ``report.sentences`` puts it into words.

    Args:
        measure: what was compared.
        first: the method with the better mean.
        second: the other.
        difference: first minus second, a mean over folds.
        low: lower end of the 95 % interval of the difference.
        high: upper end.
        standardised: difference in standard deviations over folds; not a number for a single fold.
        p: two-sided p value, not adjusted.
        adjusted: p-value after Holm's adjustment for all pairs.
        pairs: number of pairs that were compared.
        folds: number of folds.
        unit: what the bootstrap draws ("patient").
        is_grouped: whether patients are known.
        reason: why there is no test, "" if there is one; then the numbers are not numbers, but the
            difference is one if it is the same in every fold.
        no_bootstrap: why only the folds decide, "" if the bootstrap decides, too.
        no_t_test: why only the bootstrap decides in spite of several folds, "" if the folds decide,
            too.
    """

    measure: Measure
    first: str
    second: str
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    standardised: float = float("nan")
    p: float = float("nan")
    adjusted: float = float("nan")
    pairs: int = 0
    folds: int = 0
    unit: str = "patient"
    is_grouped: bool = True
    reason: str = ""
    no_bootstrap: str = ""
    no_t_test: str = ""

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant at the 5 % level."""
        return self.adjusted < SIGNIFICANCE

    def other(self, method: str) -> str:
        """The method that ``method`` is compared with."""
        return self.second if self.first == method else self.first


def verdicts(evidence: Evidence, measure: Measure) -> list[Verdict]:
    """Every pair of complete methods that have the measure, in the order of the methods."""
    methods = [
        method
        for method in evidence.complete
        if all(measure in values.values for values in evidence.measured[method].values())
    ]
    pairs = [_compared(evidence, measure, *pair) for pair in combinations(methods, 2)]
    comparable = [i for i, verdict in enumerate(pairs) if not verdict.reason]
    for i, adjusted in zip(comparable, holm([pairs[i].p for i in comparable]), strict=True):
        pairs[i] = replace(pairs[i], adjusted=adjusted, pairs=len(comparable))
    return pairs


def _compared(evidence: Evidence, measure: Measure, first: str, second: str) -> Verdict:
    folds = len(evidence.sizes)
    verdict = Verdict(
        measure,
        first,
        second,
        folds=folds,
        unit=evidence.bootstrap.unit,
        is_grouped=bool(evidence.group_name),
    )
    undefined = evidence.undefined(first, measure) or evidence.undefined(second, measure)
    if undefined:
        return replace(verdict, reason=f"undefined in {'; '.join(undefined)}")
    if not measure.metric.resampled:
        return replace(verdict, reason=f"{measure.metric.words} cannot be resampled without bias")
    if 1 < folds < FEWEST_FOLDS:
        return replace(verdict, reason=f"only {folds} folds, {FEWEST_FOLDS} are needed")
    differences = evidence.by_fold(first, measure) - evidence.by_fold(second, measure)
    if differences.mean() * measure.metric.sign < 0:
        first, second, differences = second, first, -differences
    draws = evidence.bootstrap.fold_mean.difference(first, second, measure)
    interval = evidence.bootstrap.interval(draws, measure)
    verdict = replace(verdict, first=first, second=second, difference=float(differences.mean()))
    if folds == 1:
        return _by_patients(verdict, draws, interval)
    return _by_folds(verdict, differences, evidence.overlap, draws, interval)


def _by_patients(verdict: Verdict, draws: np.ndarray, interval: Interval) -> Verdict:
    if interval.reason:
        reason = f"one split, and {interval.reason}"
        return replace(verdict, difference=float("nan"), reason=reason)
    return replace(verdict, low=interval.low, high=interval.high, p=p_value(draws))


def _by_folds(
    verdict: Verdict,
    differences: np.ndarray,
    overlap: float,
    draws: np.ndarray,
    interval: Interval,
) -> Verdict:
    if np.ptp(differences) < 1e-12:  # equal but for rounding
        if abs(verdict.difference) < 1e-12:
            return replace(verdict, difference=0.0, low=0.0, high=0.0, standardised=0.0, p=1.0)
        # As the spread goes to 0, so does the p-value of the t-test: the larger one is the other's.
        if interval.reason:
            return replace(verdict, reason=f"{_NO_SPREAD}, and {interval.reason}")
        return replace(_by_patients(verdict, draws, interval), no_t_test=_NO_SPREAD)
    test = corrected_t_test(differences, overlap)
    low, high, p = test.low, test.high, test.p
    if not interval.reason:
        low, high, p = min(low, interval.low), max(high, interval.high), max(p, p_value(draws))
    return replace(
        verdict,
        low=low,
        high=high,
        p=p,
        standardised=test.standardised,
        no_bootstrap=interval.reason,
    )
