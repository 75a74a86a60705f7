"""Print the results of the simulations as Markdown.

python -m mil_bench.benchmarks.statistics [--repeats 2000]     # false alarms and coverage
python -m mil_bench.benchmarks.statistics --speed              # time of 10,000 draws
"""

from __future__ import annotations

import argparse
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from mil_bench.benchmarks.statistics import coverage, false_alarms, rare
from mil_bench.benchmarks.statistics.speed import measure_speed
from rich.console import Console
from rich.progress import track

from mil_bench.evaluation.bootstrap import FEWEST_UNITS
from mil_bench.evaluation.statistics import SIGNIFICANCE
from mil_bench.report.render.markdown import markdown
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Callable

_TITLE = "How reliable the verdicts are"
_STANDARD_ERROR = "± is the standard error over the simulated benchmarks."

T = TypeVar("T")


def main() -> None:
    """Run the simulations, or time the bootstrap."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=2000,
        metavar="N",
        help="number of simulated benchmarks per row (default: 2000)",
    )
    parser.add_argument("--speed", action="store_true", help="time the bootstrap instead")
    options = parser.parse_args()
    if options.speed:
        print(measure_speed())
        return
    with ProcessPoolExecutor() as pool:
        tables = [
            _false_alarm_table(pool, options.repeats),
            _coverage_table(pool, options.repeats),
            _rare_table(pool, options.repeats),
        ]
    print(markdown(_TITLE, [f"{options.repeats:,} simulated benchmarks per row."], tables), end="")


def _false_alarm_table(pool: Executor, repeats: int) -> ResultTable:
    cells: dict[str, dict[str, Cell | str]] = {}
    for scenario in false_alarms.SCENARIOS:
        simulate = partial(false_alarms.p_values, scenario)
        p = np.array(_all(pool, simulate, repeats, scenario.name))
        for m, measure in enumerate(false_alarms.TESTED):
            possible = [of_test[~np.isnan(of_test)] for of_test in p[:, m].T]
            cells[f"{scenario.name}: {measure.words}"] = {
                **{
                    test: _percent(values < SIGNIFICANCE) if len(values) else "–"
                    for test, values in zip(false_alarms.TESTS, possible, strict=True)
                },
                "not comparable": _percent(np.isnan(p[:, m, -1])),
            }
    note = (
        "Two equal methods are called significantly different at the 5 % level: % of the simulated "
        f"benchmarks in which they can be compared. {_STANDARD_ERROR}"
    )
    return ResultTable(
        "false_alarms", "False alarms", "", cells, note=note, row_heading="folds, metric"
    )


def _coverage_table(pool: Executor, repeats: int) -> ResultTable:
    # By repeat, unit, kind and measure: value, low, high.
    simulated = np.array(_all(pool, coverage.intervals, repeats, "coverage"))
    truths = coverage.truths(simulated)
    cells: dict[str, dict[str, Cell | str]] = {}
    for m, measure in enumerate(coverage.COVERED):
        for k, kind in enumerate(coverage.KINDS):
            row = cells[f"{measure.words}, {kind}"] = {
                "true value": Cell(float(truths[k, m]), digits=3)
            }
            for u, unit in enumerate(coverage.UNITS):
                _, low, high = simulated[~np.isnan(simulated[:, u, k, m, 1]), u, k, m].T
                covers = (low <= truths[k, m]) & (truths[k, m] <= high)
                row[f"{unit} drawn"] = _percent(covers)
    note = f"95 % intervals that cover the true value, % of those given. {_STANDARD_ERROR}"
    return ResultTable("coverage", "Coverage", "", cells, note=note, row_heading="metric")


def _rare_table(pool: Executor, repeats: int) -> ResultTable:
    simulated = np.array(_all(pool, rare.intervals, repeats, "rare classes"))  # [repeats, sizes, 2]
    cells: dict[str, dict[str, Cell | str]] = {}
    for i, patients in enumerate(rare.CLASS_PATIENTS):
        low, high = simulated[~np.isnan(simulated[:, i, 0]), i].T
        covers = (low <= rare.TRUTH) & (high >= rare.TRUTH)
        cells[str(patients)] = {
            "intervals that cover the true value": _percent(covers)
            if len(covers)
            else "none given: too many draws lack the class"
        }
    note = (
        f"95 % intervals of a class-wise AUC of {rare.TRUTH:.3f} from resampled patients, % of "
        f"those given. {_STANDARD_ERROR} The report gives no interval for a class with fewer than "
        f"{FEWEST_UNITS} patients; here that limit is off."
    )
    return ResultTable(
        "rare", "Rare classes", "", cells, note=note, row_heading="patients with the class"
    )


def _percent(is_so: np.ndarray) -> Cell:
    """Percentage with its standard error."""
    share = float(is_so.mean())
    return Cell(100 * share, 100 * float(np.sqrt(share * (1 - share) / len(is_so))))


def _all(pool: Executor, simulate: Callable[[int], T], repeats: int, title: str) -> list[T]:
    results = pool.map(simulate, range(repeats), chunksize=10)
    return list(track(results, title, repeats, console=Console(stderr=True)))


if __name__ == "__main__":
    main()
