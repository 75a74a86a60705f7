"""False alarms, power and false equivalence of the rules in simulated benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from mil_bench.benchmarks.statistics.benchmark import MEASURES, Benchmark, Scenario
from mil_bench.benchmarks.statistics.rules import RULES, Evidence
from mil_bench.benchmarks.statistics.scenarios import METHODS, POINTS, drawn, family
from scipy import stats

from mil_bench.evaluation.comparison import PatientSpread, variances
from mil_bench.evaluation.max_t import critical_value
from mil_bench.evaluation.statistics import SIGNIFICANCE, holm

FORMER = next(iter(RULES))
CHOSEN = next(name for name in RULES if name.endswith("(chosen)"))
SIMULATED_POINTS = {2: POINTS, 10: (0, 5, 10), 20: (0, 5)}
"""Number of methods to the true differences that are simulated."""
_DIRECTIONS = 1024  # of max-t
MOST_EQUIVALENT = 10
"""False equivalence is simulated for at most this many methods."""
LEVELS = (SIGNIFICANCE, 2 * SIGNIFICANCE)
"""One minus the confidence of the joint intervals that could decide on equivalence."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """What the rules decided in one benchmark; not a number if it was not simulated or no test.

    Args:
        found: share of the true differences that are significant ``[MEASURES, METHODS, POINTS,
            RULES]``.
        alarmed: share of sets of equal pairs with a significant difference, same shape. For two
            equal methods these are ten pairs without a method in common, else one set.
        equivalent: whether any difference of exactly the margin is called equivalent ``[MEASURES,
            METHODS, POINTS, LEVELS]``.
        incomplete: whether a fold lacks a class.
    """

    found: np.ndarray
    alarmed: np.ndarray
    equivalent: np.ndarray
    incomplete: bool


def decisions(scenario: Scenario, signals: np.ndarray, namespace: str, number: int) -> Decisions:
    """All decisions in one simulated benchmark; arguments as for ``scenarios.drawn``."""
    benchmark = drawn(scenario, signals, namespace, number)
    shape = (len(MEASURES), len(METHODS), len(POINTS))
    found, alarmed = np.full((2, *shape, len(RULES)), np.nan)
    equivalent = np.full((*shape, len(LEVELS)), np.nan)
    for m, size in np.ndindex(shape[:2]):
        if np.isnan(benchmark.contributions[m]).any():
            continue
        critical = _critical(benchmark, m, METHODS[size])
        for p, points in enumerate(POINTS):
            if points in SIMULATED_POINTS[METHODS[size]]:
                _decide(benchmark, (m, size, p), critical, found, alarmed, equivalent)
    if benchmark.incomplete:  # the former rule refuses to compare macro AUCs then
        found[0, ..., 0] = np.where(np.isnan(found[0, ..., 0]), np.nan, 0)
        alarmed[0, ..., 0] = np.nan
    return Decisions(found, alarmed, equivalent, benchmark.incomplete)


def _critical(benchmark: Benchmark, measure: int, methods: int) -> list[float]:
    """Critical values of normal scores at ``LEVELS`` for all pairs of equal methods.

    They are used for all true differences, because one method changes correlations little.
    """
    if methods == 2:
        return [float(stats.norm.isf(level / 2)) for level in LEVELS]
    pairs = np.array(list(combinations(family(measure, 0, methods), 2)))
    correlation = evidence(benchmark, measure, pairs).patients.correlation
    levels = LEVELS if methods <= MOST_EQUIVALENT else LEVELS[:1]
    return [critical_value(correlation, level, _DIRECTIONS) for level in levels]


def _decide(
    benchmark: Benchmark,
    at: tuple[int, int, int],
    critical: list[float],
    found: np.ndarray,
    alarmed: np.ndarray,
    equivalent: np.ndarray,
) -> None:
    """Fill in one measure, number of methods and true difference."""
    m, size, p = at
    methods = METHODS[size]
    if methods == 2 and p == 0:
        pairs = np.arange(max(METHODS)).reshape(-1, 2)
    else:
        pairs = np.array(list(combinations(family(m, p, methods), 2)))
    given = evidence(benchmark, m, pairs)
    true = np.zeros(len(pairs), dtype=bool)
    true[: methods - 1] = p > 0
    single = methods == 2
    for r, (name, rule) in enumerate(RULES.items()):
        p_values = rule(given)
        if np.isnan(p_values).all():
            continue
        if name == FORMER and not single:
            significant = np.array(holm(p_values.tolist())) < SIGNIFICANCE
        else:
            significant = p_values < 2 * stats.norm.sf(critical[0])
        if p > 0:
            found[(*at, r)] = significant[true].mean()
        if not true.all():
            false = significant[~true]
            alarmed[(*at, r)] = false.mean() if single else false.any()
    if p > 0 and methods <= MOST_EQUIVALENT:
        variance, degrees = variances(given.differences, given.overlap, given.patients)
        margin = POINTS[p] / 100
        for k, of_level in enumerate(critical):
            reach = stats.t.isf(stats.norm.sf(of_level), degrees) * np.sqrt(variance)
            inside = np.abs(given.mean) + reach < margin
            equivalent[(*at, k)] = inside[true].any()


def evidence(benchmark: Benchmark, measure: int, pairs: np.ndarray) -> Evidence:
    """The differences of pairs of methods ``[P, 2]``."""
    values = benchmark.contributions[measure]
    contrasts = np.zeros((len(pairs), len(values)))
    rows = np.arange(len(pairs))
    contrasts[rows, pairs[:, 0]], contrasts[rows, pairs[:, 1]] = 1, -1
    covariance = contrasts @ benchmark.covariance[measure] @ contrasts.T
    deviation = np.sqrt(np.diag(covariance))
    return Evidence(
        values[pairs[:, 0]] - values[pairs[:, 1]],
        PatientSpread(
            deviation**2, covariance / np.outer(deviation, deviation), benchmark.patients
        ),
        benchmark.overlap,
    )
