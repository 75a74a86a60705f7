"""Step-down max-t: p-values and intervals of several correlated differences at once.

Differences between methods that are tested on the same slides are correlated, and so are those of
two pairs with a method in common. Holm's adjustment ignores this and holds for the worst case. Here
a difference is compared with the largest of all standardised differences under their joint
distribution if all methods were equal (Westfall and Young, 1993; Romano and Wolf, Econometrica 73,
2005). Step-down: once the largest is significant, the second is compared with the largest of the
others only, and so on.

The joint distribution is normal with the given correlation. A statistic with few degrees of freedom
is first replaced by the normal score of the same unadjusted p-value. A normal vector of rank d is a
direction, uniform on the sphere, times a length whose square is chi-squared with d degrees of
freedom. Directions come from a Sobol sequence; the tail over lengths is exact. So a p-value has no
limit from the number of draws, as a share of draws would have.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import optimize, special, stats

from mil_bench import seeds

_POWER = 13  # 2 to this power are the directions
_EDGE = 1e-12  # keeps points of the unit cube off its faces, where normal quantiles are infinite
# Below this, Bonferroni's bound is used: it is nearly exact there, and directions that lead to such
# large statistics are too rare to be drawn.
_RARE = 1e-4
_SMALLEST = 1e-9  # eigenvalues of a correlation matrix below this share of the largest are zero


def adjusted(
    statistics: np.ndarray,
    correlation: np.ndarray,
    degrees_of_freedom: float | np.ndarray = np.inf,
    step_down: bool = True,
) -> np.ndarray:
    """P-values adjusted for all tests ``[P]``, two-sided.

    They are never below the unadjusted p-values and never above Holm's (Bonferroni's if
    ``step_down`` is False). The directions are the same on every call; their
    relative error at p = .05 is about 1 %.

    Args:
        statistics: differences divided by their standard errors ``[P]``.
        correlation: of the differences ``[P, P]``, see ``correlation_of``.
        degrees_of_freedom: of the t-distribution of each statistic, one number or ``[P]``; infinite
            for a normal distribution.
        step_down: whether each is compared only with those that are not larger.
    """
    scores, p = _scores(statistics, degrees_of_freedom)
    order = np.argsort(-scores, kind="stable")
    tests = len(scores)
    lengths, rank = _projected(correlation[np.ix_(order, order)])
    if step_down:
        largest = np.maximum.accumulate(lengths[:, ::-1], axis=1)[:, ::-1]
        remaining = np.arange(tests, 0, -1)
    else:
        largest, remaining = lengths.max(1, keepdims=True), np.full(tests, tests)
    tail = special.chdtrc(rank, (scores[order] / largest) ** 2).mean(0)
    bound = np.minimum(1, remaining * p[order])
    bounded = np.where(bound < _RARE, bound, np.clip(tail, p[order], bound))
    result = np.empty(tests)
    result[order] = np.maximum.accumulate(bounded)
    return result


def critical_value(
    correlation: np.ndarray, level: float = 0.05, directions: int = 2**_POWER
) -> float:
    """What the largest of the normal scores exceeds with probability ``level``.

    Intervals of this many standard errors on both sides cover all P true differences with
    probability ``1 - level``. For statistics with few degrees of freedom see ``critical_values``.

    Args:
        correlation: of the differences ``[P, P]``.
        level: of all tests together.
        directions: how many are used, a power of 2; simulations need fewer.
    """
    lengths, rank = _projected(correlation, directions)
    largest = lengths.max(1)

    def excess(score: float) -> float:
        return float(special.chdtrc(rank, (score / largest) ** 2).mean() - level)

    # One test alone needs least, independent ones need most.
    tests = len(correlation)
    alone, independent = (float(stats.norm.isf(level / n / 2)) for n in (1, tests))
    if excess(alone) <= 0:
        return alone
    if excess(independent) >= 0:
        return independent
    return float(optimize.brentq(excess, alone, independent, xtol=1e-4))


def critical_values(
    correlation: np.ndarray, degrees_of_freedom: float | np.ndarray, level: float = 0.05
) -> np.ndarray:
    """``critical_value`` in standard errors, for each number of degrees of freedom."""
    tail = stats.norm.sf(critical_value(correlation, level))
    return np.asarray(stats.t.isf(tail, degrees_of_freedom))


def correlation_of(draws: np.ndarray) -> np.ndarray:
    """Correlation matrix ``[P, P]`` of bootstrap draws ``[P, R]``.

    Draws in which some difference is not a number are left out. A difference that never varies is
    uncorrelated with all others.
    """
    return _correlation(draws[:, ~np.isnan(draws).any(0)])


def shrunken_correlation(values: np.ndarray) -> np.ndarray:
    """Correlation matrix ``[P, P]`` of differences over few folds ``[P, n]``.

    Correlations of few values vary much, so they are multiplied by one factor that minimises the
    expected squared error (Schäfer and Strimmer, 2005). No correlation at all would be the most
    cautious.
    """
    correlation = _correlation(values)
    n, off = values.shape[1], ~np.eye(len(values), dtype=bool)
    squares = (correlation[off] ** 2).sum()
    variance = ((1 - correlation[off] ** 2) ** 2).sum() / max(n - 1, 1)
    keep = max(0.0, 1 - variance / squares) if squares > 0 else 0.0
    return np.where(off, keep * correlation, 1.0)


def _correlation(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    varies = np.ptp(values, axis=1, keepdims=True) > 0
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=varies)
    correlation = unit @ unit.T
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _scores(
    statistics: np.ndarray, degrees_of_freedom: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores and unadjusted two-sided p-values."""
    one_sided = np.asarray(stats.t.sf(np.abs(statistics), degrees_of_freedom))
    return np.asarray(stats.norm.isf(one_sided)), 2 * one_sided


def _projected(correlation: np.ndarray, directions: int = 2**_POWER) -> tuple[np.ndarray, int]:
    """Each test's absolute value along even directions ``[directions, P]``, and their rank."""
    values, vectors = np.linalg.eigh(correlation)
    kept = values > _SMALLEST * values[-1]
    factor = vectors[:, kept] * np.sqrt(values[kept])
    factor /= np.sqrt((factor**2).sum(1, keepdims=True))
    rank = int(kept.sum())
    return np.abs(_directions(rank)[:directions] @ factor.T), rank


@cache
def _directions(rank: int) -> np.ndarray:
    """Even directions ``[directions, rank]`` of length 1, the same on every call."""
    sequence = stats.qmc.Sobol(rank, seed=seeds.generator("max-t", rank))
    even = np.clip(sequence.random_base2(_POWER), _EDGE, 1 - _EDGE)
    drawn = np.asarray(stats.norm.ppf(even))
    return drawn / np.sqrt((drawn**2).sum(1, keepdims=True))
