"""The rule by which methods are compared: numbers in, numbers out.

The difference of two methods is a mean over folds. Two kinds of chance move it, and their variances
are added:

- other test patients: the variance of the paired bootstrap over patients;
- other trainings. What differs between the trainings of a run is seen in the spread over folds: the
  part of it that is more than test patients explain. What is common to them, because their training
  sets overlap, cannot be seen in one run. It is taken to be ``HIDDEN`` times the variance over
  patients, times the ratio of tested to training slides.

The variance over patients is in the sum once: the spread over folds counts only where it exceeds
it. With a single split no chance of training can be seen, so the variance is doubled.

``HIDDEN``, the doubling and the degrees of freedom were chosen by simulation among rules whose
false alarms stay at 5 %, for one pair and for all pairs of 20 methods; ``python -m
mil_bench.benchmarks.statistics`` repeats it, and ``docs/statistics.md`` tells what was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mil_bench.evaluation.max_t import (
    adjusted,
    correlation_of,
    critical_values,
    shrunken_correlation,
)
from mil_bench.evaluation.statistics import SIGNIFICANCE

HIDDEN = 0.4
"""Variance of training that no run shows, as a share of the variance over patients, for as many
training slides as tested slides."""
_ONE_SPLIT = 2.0  # factor of the variance over patients if there is a single split
# Degrees of freedom per patient. The variance of n normal values has n - 1 of them; contributions
# of patients have heavier tails.
_PER_PATIENT = 0.5
_SAME = 1e-12  # what differs by less is equal but for rounding


@dataclass(frozen=True, eq=False)
class PatientSpread:
    """How differences vary with the test patients.

    Args:
        variance: of each difference ``[P]``.
        correlation: of the differences ``[P, P]``.
        patients: how many there are.
    """

    variance: np.ndarray
    correlation: np.ndarray
    patients: int

    @classmethod
    def of_draws(cls, draws: np.ndarray, patients: int) -> PatientSpread:
        """From bootstrap draws ``[P, 1 + R]``, the first without resampling.

        Draws in which a difference is not a number are left out.
        """
        drawn = draws[:, 1:]
        return cls(np.nanvar(drawn, axis=1, ddof=1), correlation_of(drawn), patients)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """P differences with their tests, each ``[P]``.

    Args:
        difference: mean over folds.
        error: its standard error.
        degrees_of_freedom: of its t-distribution.
        p: two-sided p-value of the pair alone.
        adjusted: p-value adjusted for all P pairs (step-down max-t). It can be below .05 although
            the joint interval holds 0, because intervals cannot step down.
        low: lower end of the pair's own 95 % interval.
        high: upper end.
        joint_low: lower end of the 95 % interval that holds for all pairs at once.
        joint_high: upper end.
    """

    difference: np.ndarray
    error: np.ndarray
    degrees_of_freedom: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    joint_low: np.ndarray
    joint_high: np.ndarray

    @property
    def better(self) -> np.ndarray:
        """Whether the difference is significant ``[P]`` bool."""
        return self.adjusted < SIGNIFICANCE

    def equivalent(self, margin: float) -> np.ndarray:
        """Whether the joint interval lies inside the margin on both sides of 0 ``[P]`` bool.

        Never for methods that differ nowhere, for instance because both are perfect: their
        interval has no width, which says that these slides cannot tell them apart, not that other
        slides could not.
        """
        has_width = self.error > 0
        return has_width & (self.joint_low > -margin) & (self.joint_high < margin)


def contributions(values: np.ndarray) -> np.ndarray:
    """What each fold contributes to a macro mean if some folds lack a class ``[..., J]``.

    Every class counts by its mean over the folds in which it is defined; then classes are averaged.
    A fold contributes these means plus its own deviations, which count more for a class that few
    folds have. The mean of the contributions is the macro mean of the class means, and if every
    fold has every class, a contribution is the fold's own macro value.

    Args:
        values: of every fold and class ``[..., J, C]``, not a number if the class is undefined in
            the fold. The result is not a number if less than half of the folds have some class.
    """
    defined = ~np.isnan(values)
    folds = defined.sum(-2, keepdims=True)
    scale = np.where(2 * folds >= values.shape[-2], values.shape[-2] / np.maximum(folds, 1), np.nan)
    means = np.nansum(values, axis=-2, keepdims=True) / np.maximum(folds, 1)
    return (means + scale * np.where(defined, values - means, 0)).mean(-1)


def compared(
    differences: np.ndarray, overlap: float, patients: PatientSpread | None
) -> Comparisons:
    """Compare P pairs of methods.

    Args:
        differences: of every fold ``[P, repeats, J]``, seeds averaged; for macro means of classes
            those of ``contributions``.
        overlap: number of test slides divided by number of training slides, mean over folds.
        patients: their variance; None if there are too few patients to draw from. Then the
            corrected resampled t-test decides, which needs several folds.

    Returns:
        Not numbers, except the difference, where nothing can be tested: without ``patients``, a
        single split, or a difference that is the same in every fold and not 0. The other pairs are
        then adjusted among themselves.
    """
    difference = differences.mean((1, 2))
    variance, degrees = variances(differences, overlap, patients)
    # Two methods with the same value in all folds differ by 0 for certain.
    same = np.abs(difference) < _SAME
    error = np.sqrt(np.where(same & np.isnan(variance), 0, variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(same, 0.0, difference / error)
    if patients is None:
        correlation = shrunken_correlation(differences.reshape(len(differences), -1))
    else:
        correlation = patients.correlation
    tested = ~np.isnan(statistic)
    among = correlation[np.ix_(tested, tested)]
    joint_p, own, joint = np.full((3, len(difference)), np.nan)
    if tested.any():
        joint_p[tested] = adjusted(statistic[tested], among, degrees[tested])
        own[tested] = stats.t.isf(SIGNIFICANCE / 2, degrees[tested])
        joint[tested] = critical_values(among, degrees[tested], SIGNIFICANCE)
    p = np.asarray(2 * stats.t.sf(np.abs(statistic), degrees))
    ends = [difference + sign * reach * error for reach in (own, joint) for sign in (-1, 1)]
    return Comparisons(difference, error, degrees, p, joint_p, *ends)


def variances(
    differences: np.ndarray, overlap: float, patients: PatientSpread | None
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of every mean difference and its degrees of freedom ``[P]``; see ``compared``."""
    pairs, repeats, folds = differences.shape
    if patients is None and repeats * folds == 1:
        return np.full(pairs, np.nan), np.full(pairs, np.nan)
    if patients is None:
        # Bouckaert and Frank (PAKDD 2004): the corrected t-test of a repeated cross-validation.
        trainings = repeats * folds
        values = differences.reshape(pairs, -1)
        # Without spread between folds a t-test has no variance to work with.
        spread = np.where(np.ptp(values, axis=1) < _SAME, np.nan, values.var(1, ddof=1))
        return spread * (1 / trainings + overlap), np.full(pairs, trainings - 1.0)
    degrees = np.full(pairs, degrees_of_freedom(patients.patients))
    if folds == 1 and repeats == 1:
        return of_one_split(patients.variance), degrees
    spread = differences.var(2, ddof=1).mean(1) / folds
    return of_folds(patients.variance, spread, repeats, folds, overlap), degrees


def degrees_of_freedom(patients: int) -> float:
    """Of the t-distribution of a difference."""
    return _PER_PATIENT * patients


def of_one_split(patients: np.ndarray) -> np.ndarray:
    """Variance of the differences of a single split from that over patients, both ``[P]``."""
    return _ONE_SPLIT * patients


def of_folds(
    patients: np.ndarray, spread: np.ndarray, repeats: int, folds: int, overlap: float
) -> np.ndarray:
    """Variance of the mean differences of several folds ``[P]``.

    Args:
        patients: variance over patients ``[P]``.
        spread: variance over the folds of a repeat, divided by their number ``[P]``.
        repeats: how many.
        folds: of a repeat.
        overlap: number of test slides divided by number of training slides, mean over folds.
    """
    hidden = HIDDEN * folds * overlap * patients
    return patients + hidden + np.maximum(0, spread - patients) / repeats
