"""Whether the smallest difference that a run is said to show is shown as often as it says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.statistics.benchmark import MEASURES, Benchmark, Scenario, simulated
from mil_bench.benchmarks.statistics.cells import percent, simulate_all
from mil_bench.benchmarks.statistics.power import evidence
from mil_bench.benchmarks.statistics.scenarios import ORDINARY, SCENARIOS, calibrated
from scipy import stats

from mil_bench import seeds
from mil_bench.evaluation.comparison import variances
from mil_bench.evaluation.power.pairs import POWER, smallest_difference
from mil_bench.evaluation.statistics import SIGNIFICANCE
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from concurrent.futures import Executor

CHECKED = (
    "10 folds by patient",
    "10 folds by patient, unstable training",
    "3 folds by patient",
    "10 folds by patient, 3 repeats",
    "10 splits by slide, unstable training",
    "5 folds of 60 patients",
    "1 split by patient",
)
"""Names of the scenarios that are checked: both ends of how cautious the rule is."""
_PAIR = np.array([[0, 1]])


def deciding_table(pool: Executor, repeats: int) -> ResultTable:
    """Predicted smallest differences, and how often such differences are found."""
    cells: dict[str, dict[str, Cell | str]] = {}
    for scenario in (scenario for scenario in SCENARIOS if scenario.name in CHECKED):
        predicted = np.array(
            simulate_all(pool, partial(smallest, scenario), repeats, scenario.name)
        )
        medians = np.nanmedian(predicted, axis=0)
        signals = signals_of(scenario, medians)
        found = np.array(
            simulate_all(pool, partial(is_found, scenario, signals), repeats, scenario.name)
        )
        for m, measure in enumerate(MEASURES):
            cells[f"{scenario.name}: {measure}"] = {
                "smallest difference": Cell(100 * float(medians[m])),
                "found": percent(found[:, m]),
            }
    note = (
        "Smallest difference: the median over simulated benchmarks of two equal methods, in "
        f"percentage points; such a difference is to be found with a probability of "
        f"{100 * POWER:.0f} %. Found: % of other benchmarks in which a method that is better by "
        "this much is called better. ± is the standard error over the simulated benchmarks."
    )
    title = "The smallest difference that a run shows"
    return ResultTable("deciding", title, "", cells, note=note, row_heading="folds, metric")


def smallest(scenario: Scenario, number: int) -> list[float]:
    """The smallest difference that a benchmark of two equal methods shows, for every measure."""
    benchmark = _two(scenario, "equal", ORDINARY, number)
    return [
        smallest_difference(*_error(benchmark, m), SIGNIFICANCE / 2) for m in range(len(MEASURES))
    ]


def signals_of(scenario: Scenario, differences: np.ndarray) -> np.ndarray:
    """Signals of methods that are better by this much, one per measure, both ``[MEASURES]``."""
    return calibrated(scenario, 100 * differences).diagonal()


def is_found(scenario: Scenario, signals: np.ndarray, number: int) -> list[float]:
    """For every measure, 1 if a method with the signal is called better than an ordinary one.

    Args:
        scenario: its folds.
        signals: of the better method ``[MEASURES]``.
        number: of the benchmark.
    """
    found = []
    for m, signal in enumerate(signals):
        benchmark = _two(scenario, "better", signal, number)
        error, degrees = _error(benchmark, m)
        difference = evidence(benchmark, m, _PAIR).mean[0]
        critical = stats.t.isf(SIGNIFICANCE / 2, degrees)
        found.append(np.nan if np.isnan(difference) else float(difference > critical * error))
    return found


def _two(scenario: Scenario, namespace: str, signal: float, number: int) -> Benchmark:
    """A benchmark of a method with this signal and an ordinary one."""
    rng = seeds.generator("deciding", namespace, scenario.name, number)
    return simulated(scenario, rng, np.array([signal, ORDINARY]), np.arange(2))


def _error(benchmark: Benchmark, measure: int) -> tuple[float, float]:
    """Standard error of the difference and degrees of freedom, by the rule of the verdicts."""
    given = evidence(benchmark, measure, _PAIR)
    (variance,), (degrees,) = variances(given.differences, given.overlap, given.patients)
    return float(np.sqrt(variance)), float(degrees)
