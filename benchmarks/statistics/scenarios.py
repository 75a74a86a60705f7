"""The simulated scenarios and their methods with known true differences.

A method is better than the others by a known number of points. Its signal is calibrated by
simulation: the mean of the measure over many benchmarks of the same scenario, with the same folds
and the same sizes of training sets, as a function of the signal. So the true difference is that of
the expected values under the training protocol, which is what a cross-validation estimates.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.statistics.benchmark import Benchmark, Scenario, simulated
from mil_bench.benchmarks.statistics.cohort import (
    monte_carlo,
    one_split,
    patient_kfold,
    patient_monte_carlo,
)

from mil_bench import seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

POINTS = (0, 1, 2, 5, 10)
"""True differences of the better method, in percentage points."""
METHODS = (2, 10, 20)
"""Numbers of methods that are compared; one is better, the others are equal."""

_FIVE, _THREE = partial(patient_kfold, count=5), partial(patient_kfold, count=3)
SCENARIOS = (
    Scenario("10 folds by patient", patient_kfold),
    Scenario("10 folds by patient, no chance in training", patient_kfold, left_out=0),
    Scenario("10 folds by patient, unstable training", patient_kfold, instability=0.5),
    Scenario("10 folds by patient, independent methods", patient_kfold, correlation=0.0),
    Scenario("5 folds by patient", _FIVE),
    Scenario("3 folds by patient", _THREE),
    Scenario("10 folds by patient, 3 repeats", patient_kfold, repeats=3),
    Scenario("5 folds by patient, 3 repeats", _FIVE, repeats=3),
    Scenario("10 splits by slide", monte_carlo, leaks=True),
    Scenario("10 splits by slide, no chance in training", monte_carlo, left_out=0, leaks=True),
    Scenario("10 splits by patient", patient_monte_carlo, leaks=True),
    Scenario("5 folds of 60 patients", _FIVE, patients=60, slides=170),
    Scenario("1 split by patient, fixed models", one_split, trained=False),
    Scenario("1 split by patient", one_split),
    Scenario("5 folds by patient, unstable training", _FIVE, instability=0.5),
    Scenario("10 splits by slide, unstable training", monte_carlo, instability=0.5, leaks=True),
)

ORDINARY = 0.8
"""Signal of a method that is not the better one."""
_GRID = np.linspace(0.7, 2.0, 12)  # signals of the calibration
_CALIBRATION = 200  # benchmarks
_DEGREE = 5  # of the polynomial through the mean values on the grid


def calibrated(scenario: Scenario, points: Sequence[float] = POINTS) -> np.ndarray:
    """Signals of the better method ``[MEASURES, points]``.

    Args:
        scenario: its folds.
        points: by how much it is better than an ordinary one.
    """
    # The same noise for all signals: their differences then vary little.
    same = np.zeros(len(_GRID), dtype=int)
    values = np.nanmean(
        [
            simulated(
                scenario, seeds.generator("calibration", scenario.name, i), _GRID, same
            ).contributions.mean((2, 3))
            for i in range(_CALIBRATION)
        ],
        axis=0,
    )  # [MEASURES, signals]
    fine = np.linspace(_GRID[0], _GRID[-1], 2001)
    signals = []
    for of_measure in values:
        curve = np.polynomial.Polynomial.fit(_GRID, of_measure, _DEGREE)
        targets = curve(ORDINARY) + np.array(points) / 100
        signals.append(np.interp(targets, curve(fine), fine))
    return np.array(signals)


def drawn(scenario: Scenario, signals: np.ndarray, namespace: str, number: int) -> Benchmark:
    """A benchmark of the ordinary methods and of the better one for every measure and difference.

    Args:
        scenario: its folds.
        signals: of the better method, see ``calibrated``.
        namespace: of the random numbers: rules are chosen on "choose", reported on "report".
        number: of the benchmark.
    """
    ordinary = max(METHODS)
    better = signals[:, 1:].ravel()
    return simulated(
        scenario,
        seeds.generator("power", namespace, scenario.name, number),
        np.concatenate([np.full(ordinary, ORDINARY), better]),
        np.concatenate([np.arange(ordinary), np.zeros(len(better), dtype=int)]),
    )


def family(measure: int, points: int, methods: int) -> np.ndarray:
    """Positions of the methods that are compared, the better one first ``[methods]``.

    Args:
        measure: position in ``MEASURES``.
        points: position in ``POINTS``; 0 is a method that is equal to the others.
        methods: how many.
    """
    first = 0 if points == 0 else max(METHODS) + measure * (len(POINTS) - 1) + points - 1
    return np.array([first, *range(1, methods)])
