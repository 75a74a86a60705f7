"""Print the results of the simulations as Markdown.

python -m mil_bench.benchmarks.statistics [--repeats 2000]     # false alarms, power, coverage
python -m mil_bench.benchmarks.statistics --only power         # one part
python -m mil_bench.benchmarks.statistics --quick              # everything with fewer benchmarks
python -m mil_bench.benchmarks.statistics --only power --numbers choose  # what rules were chosen on
python -m mil_bench.benchmarks.statistics --picture power.png  # also draw the power
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.statistics import coverage, false_alarms, rare
from mil_bench.benchmarks.statistics.cells import percent, simulate_all
from mil_bench.benchmarks.statistics.deciding import deciding_table
from mil_bench.benchmarks.statistics.picture import draw
from mil_bench.benchmarks.statistics.power_tables import power_tables
from threadpoolctl import threadpool_limits

from mil_bench.evaluation.bootstrap import FEWEST_IN_MEAN, FEWEST_UNITS
from mil_bench.evaluation.statistics import SIGNIFICANCE
from mil_bench.report.render.markdown import markdown
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from concurrent.futures import Executor

_TITLE = "How reliable the verdicts are"
_STANDARD_ERROR = "± is the standard error over the simulated benchmarks."
_PARTS = ("power", "smallest difference", "false alarms", "coverage")
_QUICK = 200  # benchmarks per row
_POWER_SHARE = 5  # benchmarks of the other tables for each one of the power tables


def main() -> None:
    """Run the simulations."""
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
    parser.add_argument("--quick", action="store_true", help=f"the same as --repeats {_QUICK}")
    parser.add_argument(
        "--only",
        choices=_PARTS,
        help="print the tables of one part",
    )
    parser.add_argument(
        "--numbers",
        choices=("report", "choose"),
        default="report",
        help="random numbers of the power tables: those on which rules are reported (default), or "
        "those on which the rule was chosen",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="default: all cores")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw the power into this image file"
    )
    options = parser.parse_args()
    if options.picture and options.only not in (None, "power"):
        parser.error("--picture draws the power: leave --only out, or use --only power")
    repeats = _QUICK if options.quick else options.repeats
    tables: list[ResultTable] = []
    # A benchmark is many small sums: with several threads each, processes wait for one another.
    with ProcessPoolExecutor(
        options.processes, initializer=threadpool_limits, initargs=(1, "blas")
    ) as pool:
        if options.only in (None, "power"):
            tables += power_tables(pool, max(repeats // _POWER_SHARE, 2), options.numbers)
            if options.picture:
                draw(tables, options.picture)
        if options.only in (None, "smallest difference"):
            tables.append(deciding_table(pool, max(repeats // _POWER_SHARE, 2)))
        if options.only in (None, "false alarms"):
            tables.append(_false_alarm_table(pool, repeats))
        if options.only in (None, "coverage"):
            tables += [_coverage_table(pool, repeats), _rare_table(pool, repeats)]
            tables.append(_macro_table(pool, max(repeats // _POWER_SHARE, 2)))
    fewer = f"{repeats // _POWER_SHARE:,} for rules and for means over classes"
    counted = f"{repeats:,} simulated benchmarks per row, {fewer}."
    print(markdown(_TITLE, [counted], tables), end="")


def _false_alarm_table(pool: Executor, repeats: int) -> ResultTable:
    cells: dict[str, dict[str, Cell | str]] = {}
    for scenario in false_alarms.SCENARIOS:
        simulate = partial(false_alarms.p_values, scenario)
        p = np.array(simulate_all(pool, simulate, repeats, scenario.name))
        for m, measure in enumerate(false_alarms.TESTED):
            possible = [of_test[~np.isnan(of_test)] for of_test in p[:, m].T]
            cells[f"{scenario.name}: {measure.words}"] = {
                **{
                    test: percent(values < SIGNIFICANCE) if len(values) else "–"
                    for test, values in zip(false_alarms.TESTS, possible, strict=True)
                },
                "not comparable": percent(np.isnan(p[:, m, -1])),
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
    simulated = np.array(simulate_all(pool, coverage.intervals, repeats, "coverage"))
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
                row[f"{unit} drawn"] = percent(covers)
    note = f"95 % intervals that cover the true value, % of those given. {_STANDARD_ERROR}"
    return ResultTable("coverage", "Coverage", "", cells, note=note, row_heading="metric")


def _rare_table(pool: Executor, repeats: int) -> ResultTable:
    simulated = np.array(
        simulate_all(pool, rare.intervals, repeats, "rare classes")
    )  # [repeats, sizes, 2]
    cells: dict[str, dict[str, Cell | str]] = {}
    for i, patients in enumerate(rare.CLASS_PATIENTS):
        low, high = simulated[~np.isnan(simulated[:, i, 0]), i].T
        covers = (low <= rare.TRUTH) & (high >= rare.TRUTH)
        cells[str(patients)] = {
            "intervals that cover the true value": percent(covers)
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


def _macro_table(pool: Executor, repeats: int) -> ResultTable:
    simulated = np.array(
        simulate_all(pool, rare.macro_intervals, repeats, "means over classes")
    )  # [repeats, sizes, measures, 2]
    truths = rare.macro_truths()
    cells: dict[str, dict[str, Cell | str]] = {}
    for i, patients in enumerate(rare.MACRO_PATIENTS):
        row = cells[str(patients)] = {}
        for m, measure in enumerate(rare.MACRO):
            low, high = simulated[~np.isnan(simulated[:, i, m, 0]), i, m].T
            covers = (low <= truths[i, m]) & (truths[i, m] <= high)
            row[measure.words] = percent(covers) if len(covers) else "none given"
    note = (
        "95 % intervals of means over seven classes that cover the true value, % of those given; "
        f"six classes have 25 patients each. {_STANDARD_ERROR} The report gives none if a class "
        f"has fewer than {FEWEST_IN_MEAN} patients; here that limit is off."
    )
    return ResultTable(
        "rare_macro",
        "Means over classes with a rare class",
        "",
        cells,
        note=note,
        row_heading="patients with the rare class",
    )


if __name__ == "__main__":
    main()
