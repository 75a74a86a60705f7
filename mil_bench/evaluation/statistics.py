"""Tests on figures: two methods over the folds of one dataset, many methods over several datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNIFICANCE = 0.05
"""Level of every test and, turned round, of every interval."""


@dataclass(frozen=True)
class PairedTest:
    """A t-test on the differences of two methods over folds.

    Args:
        mean: mean difference.
        low: lower end of its 95 % interval.
        high: upper end.
        p: two-sided p value.
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

    Folds share training slides, so their differences are alike and their mean varies more than
    independent ones would: by ``1/J + overlap`` times their variance instead of ``1/J``.

    Args:
        differences: one a fold ``[J]``, J > 1, not all equal.
        overlap: number of test slides by number of training slides; 0 gives the naive t-test.
    """
    folds = len(differences)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    error = deviation * np.sqrt(1 / folds + overlap)
    reach = error * stats.t.ppf(1 - SIGNIFICANCE / 2, folds - 1)
    p = 2 * stats.t.sf(abs(mean) / error, folds - 1)
    return PairedTest(mean, float(mean - reach), float(mean + reach), float(p), mean / deviation)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for being one of several (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return adjusted.tolist()


@dataclass(frozen=True)
class Ranking:
    """Methods ranked over datasets, as a critical-difference diagram shows them (Demsar, JMLR 7, 2006).

    Args:
        methods: names, best average rank first.
        ranks: average rank of each, 1 is best.
        p: of Friedman's test that all methods are equal.
        critical_difference: Nemenyi's; average ranks closer than it are not told apart.
        cliques: runs of methods that are not told apart, as (first, last) positions; none inside
            another.
        datasets: number of datasets.
        sentence: what it says, in words.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    p: float
    critical_difference: float
    cliques: tuple[tuple[int, int], ...]
    datasets: int
    sentence: str


def rank_methods(
    methods: Sequence[str], figures: np.ndarray, higher_is_better: bool = True
) -> Ranking | str:
    """Friedman's and Nemenyi's tests.

    Args:
        methods: names.
        figures: one a dataset and method ``[datasets, methods]``, all defined.
        higher_is_better: direction of the figure.

    Returns:
        The ranking, or the sentence why there is none.
    """
    datasets, count = figures.shape
    if datasets < 2:
        return f"Methods cannot be ranked over datasets: {datasets} dataset, at least 2 are needed."
    if count < 3:
        return f"Methods cannot be ranked over datasets: {count} methods, at least 3 are needed."
    if np.isnan(figures).any():
        missing = ", ".join(
            m for m, column in zip(methods, figures.T, strict=True) if np.isnan(column).any()
        )
        return f"Methods cannot be ranked over datasets: {missing} lack a figure on some of them."
    ranks = stats.rankdata(-figures if higher_is_better else figures, axis=1)
    # If all methods tie on every dataset, nothing speaks against their being equal.
    p = float(stats.friedmanchisquare(*ranks.T).pvalue) if np.ptp(ranks, axis=1).any() else 1.0
    average = ranks.mean(0)
    order = np.argsort(average, kind="stable")
    names, means = tuple(methods[i] for i in order), tuple(average[order].tolist())
    difference = critical_difference(count, datasets)
    cliques = _cliques(means, difference)
    return Ranking(
        names,
        means,
        p,
        difference,
        cliques,
        datasets,
        _sentence(names, means, p, difference, datasets),
    )


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


def _sentence(
    names: Sequence[str], ranks: Sequence[float], p: float, difference: float, datasets: int
) -> str:
    few = (
        ""
        if datasets >= 5
        else f" {datasets} datasets are few: only very large differences can show."
    )
    test = f"Friedman's test over {datasets} datasets: {p_text(p)}."
    if p >= SIGNIFICANCE:
        return f"No difference between the {len(names)} methods can be shown. {test}{few}"
    worse = [name for name, rank in zip(names, ranks, strict=True) if rank - ranks[0] >= difference]
    than = (
        f"better than {', '.join(worse)}"
        if worse
        else "not told apart from any other by Nemenyi's test"
    )
    return f"{names[0]} has the best average rank ({ranks[0]:.2f}) and is {than}. {test}{few}"


def p_text(p: float) -> str:
    """As sentences print it: ``p = .03``, ``p < .001``."""
    if p < 0.001:
        return "p < .001"
    # Two digits hide on which side of the level a p value lies.
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {text.removeprefix('0')}"
