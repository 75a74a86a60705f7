"""Tests: two methods over the folds of one dataset, several methods over several datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNIFICANCE = 0.05
"""Significance level of every test; intervals have the complementary confidence level."""


@dataclass(frozen=True)
class PairedTest:
    """A t-test on the differences of two methods over folds.

    Args:
        mean: mean difference.
        low: lower end of its 95 % interval.
        high: upper end.
        p: two-sided p-value.
        standardised: mean difference in standard deviations over folds (Cohen's d of paired
            samples).
    """

    mean: float
    low: float
    high: float
    p: float
    standardised: float


def corrected_t_test(differences: np.ndarray, overlap: float) -> PairedTest:
    """The corrected resampled t-test of Nadeau and Bengio (Machine Learning 52, 2003).

    Folds share training slides, so their differences are correlated and the variance of their mean
    is larger: ``1/J + overlap`` times their variance, instead of ``1/J`` times.

    Args:
        differences: one per fold ``[J]``, J > 1, not all equal.
        overlap: number of test slides divided by number of training slides; 0 gives the uncorrected
            t-test.
    """
    folds = len(differences)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    error = deviation * np.sqrt(1 / folds + overlap)
    reach = error * stats.t.ppf(1 - SIGNIFICANCE / 2, folds - 1)
    p = 2 * stats.t.sf(abs(mean) / error, folds - 1)
    return PairedTest(mean, float(mean - reach), float(mean + reach), float(p), mean / deviation)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return adjusted.tolist()


@dataclass(frozen=True)
class Ranking:
    """Methods ranked over datasets, as in a critical-difference diagram (Demsar, JMLR 7, 2006).

    Args:
        methods: names, best average rank first.
        ranks: average rank of each, 1 is best.
        p: p-value of Friedman's test of the hypothesis that all methods are equal.
        critical_difference: Nemenyi's; average ranks that differ by less do not differ
            significantly.
        cliques: runs of methods without a significant difference, as (first, last) positions; none
            inside another.
        datasets: number of datasets.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    p: float
    critical_difference: float
    cliques: tuple[tuple[int, int], ...]
    datasets: int

    @property
    def worse(self) -> tuple[str, ...]:
        """Methods whose average rank is significantly worse than that of the first."""
        return tuple(
            method
            for method, rank in zip(self.methods, self.ranks, strict=True)
            if rank - self.ranks[0] >= self.critical_difference
        )


def rank_methods(
    methods: Sequence[str], values: np.ndarray, higher_is_better: bool = True
) -> Ranking | str:
    """Friedman's and Nemenyi's tests.

    Args:
        methods: names.
        values: one per dataset and method ``[datasets, methods]``.
        higher_is_better: whether the highest value gets rank 1.

    Returns:
        The ranking, or the reason why there is none.
    """
    datasets, count = values.shape
    if datasets < 2:
        return f"{plural(datasets, 'dataset')}, at least 2 are needed"
    if count < 3:
        return f"{plural(count, 'method')}, at least 3 are needed"
    if np.isnan(values).any():
        missing = [m for m, column in zip(methods, values.T, strict=True) if np.isnan(column).any()]
        return f"the value of {', '.join(missing)} is undefined on some of them"
    ranks = stats.rankdata(-values if higher_is_better else values, axis=1)
    # Friedman's statistic is undefined if all methods tie on every dataset.
    p = float(stats.friedmanchisquare(*ranks.T).pvalue) if np.ptp(ranks, axis=1).any() else 1.0
    average = ranks.mean(0)
    order = np.argsort(average, kind="stable")
    names, means = tuple(methods[i] for i in order), tuple(average[order].tolist())
    difference = critical_difference(count, datasets)
    cliques = _cliques(means, difference)
    return Ranking(names, means, p, difference, cliques, datasets)


def critical_difference(methods: int, datasets: int) -> float:
    """Nemenyi's critical difference of average ranks at the 5 % level."""
    quantile = stats.studentized_range.ppf(1 - SIGNIFICANCE, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * datasets)))


def _cliques(ranks: Sequence[float], difference: float) -> tuple[tuple[int, int], ...]:
    """The longest runs of sorted ranks whose ends are less than the critical difference apart."""
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(i for i, other in enumerate(ranks) if other - rank < difference)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return tuple(runs)
