"""Rules by which two methods could be compared, and what a rule must do to be admissible.

The criterion was written down before any rule was tried:

- False alarms: with methods that are equal, or with one better method and the others equal, the
  share of benchmarks in which any difference between equal methods is called significant is at
  most 5 % plus two Monte-Carlo standard errors, in every scenario, for 2, 10 and 20 methods, on
  macro AUC and on accuracy.
- False "equivalent": with a true difference of exactly the margin, the share of benchmarks in
  which any such pair is called equivalent is at most 5 % plus two standard errors.
- Among the admissible rules the one with the highest power is chosen: the mean over all scenarios
  of the share of true differences of 5 points that are found.
- Rules are chosen on one set of random numbers ("choose") and reported on another ("report").

A rule gives an unadjusted p-value per pair; rules differ in the variance of the mean difference and
its degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from mil_bench.evaluation.comparison import PatientSpread, variances

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DRAWS = 10_000  # of the bootstrap in a report: no p-value is below 2 / (1 + draws)
_ROPE = 0.01
_MANY = 1e9  # degrees of freedom of a normal distribution


@dataclass(frozen=True, eq=False)
class Evidence:
    """P pairs of methods.

    Args:
        differences: by fold ``[P, repeats, folds]``.
        patients: their variance over patients.
        overlap: number of test slides by number of training slides.
    """

    differences: np.ndarray
    patients: PatientSpread
    overlap: float

    @property
    def mean(self) -> np.ndarray:
        """Mean over folds ``[P]``."""
        return np.asarray(self.differences.mean((1, 2)))

    @property
    def folds(self) -> int:
        """Folds of a repeat."""
        return self.differences.shape[2]


def corrected_t(given: Evidence) -> np.ndarray:
    """Nadeau and Bengio (2003); with repeats, Bouckaert and Frank (2004)."""
    variance, degrees = variances(given.differences, given.overlap, None)
    return _t(given.mean, variance, degrees)


def by_patients(given: Evidence) -> np.ndarray:
    """The bootstrap over patients alone."""
    p = _t(given.mean, given.patients.variance, _MANY)
    return np.maximum(p, 2 / (1 + _DRAWS))


def both_tests(given: Evidence) -> np.ndarray:
    """The larger p-value of the two; with a single split the bootstrap alone."""
    return (
        by_patients(given) if given.folds == 1 else np.fmax(corrected_t(given), by_patients(given))
    )


def plain_t_and_patients(given: Evidence) -> np.ndarray:
    """The larger p-value of a t-test over folds without correction and of the bootstrap."""
    if given.folds == 1:
        return by_patients(given)
    plain = _t(given.mean, _spread(given) / given.folds, given.folds - 1)
    return np.maximum(plain, by_patients(given))


def added_overlap(given: Evidence) -> np.ndarray:
    """Variance over patients plus overlap times the variance over folds (Satterthwaite)."""
    half = given.patients.patients / 2
    if given.folds == 1:
        return _t(given.mean, given.patients.variance, half)
    training = given.overlap * _spread(given)
    variance = given.patients.variance + training
    free = given.differences.shape[1] * (given.folds - 1)
    return _t(
        given.mean,
        variance,
        variance**2 / (given.patients.variance**2 / half + training**2 / free),
    )


def bayesian(given: Evidence) -> np.ndarray:
    """The Bayesian correlated t-test (Benavoli et al., JMLR 2017).

    The posterior probability that the difference is not beyond the region of practical equivalence
    of one point on its side stands for the p-value.
    """
    variance, degrees = variances(given.differences, given.overlap, None)
    return np.asarray(stats.t.sf((np.abs(given.mean) - _ROPE) / np.sqrt(variance), degrees))


def hidden(share: float, half: bool = True) -> Callable[[Evidence], np.ndarray]:
    """The rule of ``mil_bench.evaluation.comparison`` with another share of hidden variance.

    Args:
        share: of the variance over patients.
        half: whether there are half as many degrees of freedom as patients, or infinitely many.
    """

    def rule(given: Evidence) -> np.ndarray:
        of_patients, folds = given.patients.variance, given.folds
        variance = 2 * of_patients
        if folds > 1:
            visible = np.maximum(0, _spread(given) / folds - of_patients)
            variance = of_patients * (1 + share * folds * given.overlap)
            variance = variance + visible / given.differences.shape[1]
        return _t(given.mean, variance, given.patients.patients / 2 if half else _MANY)

    return rule


def chosen(given: Evidence) -> np.ndarray:
    """The rule of ``mil_bench.evaluation.comparison`` itself."""
    return _t(given.mean, *variances(given.differences, given.overlap, given.patients))


RULES: Mapping[str, Callable[[Evidence], np.ndarray]] = {
    "both tests, Holm (former rule)": both_tests,
    "corrected t-test": corrected_t,
    "patient bootstrap": by_patients,
    "plain t-test and bootstrap": plain_t_and_patients,
    "patients + overlap × folds": added_overlap,
    "Bayesian, ROPE 1 point": bayesian,
    "patients + folds + 0.25 hidden, z": hidden(0.25, half=False),
    "patients + folds + 0.4 hidden, z": hidden(0.4, half=False),
    "patients + folds + 0.25 hidden": hidden(0.25),
    "patients + folds + 0.33 hidden": hidden(1 / 3),
    "patients + folds + 0.4 hidden (chosen)": chosen,
    "patients + folds + 0.5 hidden": hidden(0.5),
}
"""By name; p-values of all but the former rule are adjusted by max-t."""


def _spread(given: Evidence) -> np.ndarray:
    """Variance over the folds of a repeat, mean over repeats ``[P]``."""
    return np.asarray(given.differences.var(2, ddof=1).mean(1))


def _t(mean: np.ndarray, variance: np.ndarray, degrees: np.ndarray | float) -> np.ndarray:
    # Faster than scipy.stats.
    return np.asarray(2 * special.stdtr(degrees, -np.abs(mean) / np.sqrt(variance)))
