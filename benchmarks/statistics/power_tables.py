"""Tables of the rules by which methods could be compared."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.statistics.benchmark import MEASURES
from mil_bench.benchmarks.statistics.cells import percent, simulate_all
from mil_bench.benchmarks.statistics.power import CHOSEN, FORMER, SIMULATED_POINTS, decisions
from mil_bench.benchmarks.statistics.rules import RULES
from mil_bench.benchmarks.statistics.scenarios import METHODS, POINTS, SCENARIOS, calibrated

from mil_bench.evaluation.statistics import SIGNIFICANCE
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mil_bench.benchmarks.statistics.power import Decisions

Simulated = dict[str, list["Decisions"]]
Row = dict[str, Cell | str]

_MAIN = 5  # points at which rules are compared
_ERRORS = 2  # Monte-Carlo standard errors that a rate may be above 5 %


def power_tables(pool: Executor, repeats: int, namespace: str) -> list[ResultTable]:
    """All tables.

    Args:
        pool: where benchmarks are simulated.
        repeats: number of benchmarks per scenario.
        namespace: of the random numbers, "report" or "choose".
    """
    signals = list(pool.map(calibrated, SCENARIOS))
    simulated: Simulated = {}
    for scenario, of_scenario in zip(SCENARIOS, signals, strict=True):
        simulate = partial(decisions, scenario, of_scenario, namespace)
        simulated[scenario.name] = simulate_all(pool, simulate, repeats, scenario.name)
    return [
        _rule_table(simulated),
        _alarm_table(simulated),
        _all_pairs_table(simulated),
        *(_power_table(simulated, m) for m in range(len(MEASURES))),
        _equivalence_table(simulated),
    ]


def _rule_table(simulated: Simulated) -> ResultTable:
    cells: dict[str, Row] = {}
    p = POINTS.index(_MAIN)
    for r, rule in enumerate(RULES):
        row: Row = {}
        admissible = True
        for size, methods in enumerate(METHODS):
            alarms = [
                percent(rates)
                for of_scenario in simulated.values()
                for rates in _by_row("alarmed", of_scenario, size, r)
            ]
            row[f"most false alarms, {methods} methods"] = max(alarms, key=lambda cell: cell.mean)
            admissible &= all(_allowed(cell) for cell in alarms)
        row["admissible"] = "yes" if admissible else "no"
        for size, methods in enumerate(METHODS):
            powers = [
                values.mean()
                for found in simulated.values()
                for m in range(len(MEASURES))
                if len(values := _values("found", found, m, size, p, r))
            ]
            row[f"power, {methods} methods"] = Cell(100 * float(np.mean(powers)))
        cells[rule] = row
    note = (
        "Most false alarms: the largest rate of all scenarios, metrics and numbers of better "
        f"methods, %. Admissible: all are at most 5 % plus {_ERRORS} standard errors. Power: % of "
        f"the true differences of {_MAIN} points that are found, mean over the scenarios and "
        "metrics in which the rule gives a test."
    )
    return ResultTable("rules", "Rules", "", cells, note=note, row_heading="rule")


def _alarm_table(simulated: Simulated) -> ResultTable:
    cells: dict[str, Row] = {}
    for name, of_scenario in simulated.items():
        for m, measure in enumerate(MEASURES):
            cells[f"{name}: {measure}"] = {
                rule: _cell(_values("alarmed", of_scenario, m, 0, 0, r))
                for r, rule in enumerate(RULES)
            }
    note = (
        "Two equal methods are called different, %. The former rule gives no test of macro AUC if "
        "a fold lacks a class; such benchmarks are left out."
    )
    return ResultTable(
        "rule_alarms", "False alarms of the rules", "", cells, note=note, row_heading="scenario"
    )


def _all_pairs_table(simulated: Simulated) -> ResultTable:
    cells: dict[str, Row] = {}
    for name, of_scenario in simulated.items():
        for m, measure in enumerate(MEASURES):
            row = cells[f"{name}: {measure}"] = {}
            for size, methods in enumerate(METHODS[1:], 1):
                for p, points in enumerate(POINTS):
                    if points not in SIMULATED_POINTS[methods]:
                        continue
                    rates = [
                        _cell(_values("alarmed", of_scenario, m, size, p, list(RULES).index(rule)))
                        for rule in (FORMER, CHOSEN)
                    ]
                    better = f"one better by {points} points" if points else "all equal"
                    row[f"{methods} methods, {better}: former rule"] = rates[0]
                    row[f"{methods} methods, {better}: chosen"] = rates[1]
    note = "Any two equal methods are called different, %."
    return ResultTable(
        "all_pairs", "False alarms over all pairs", "", cells, note=note, row_heading="scenario"
    )


def _power_table(simulated: Simulated, m: int) -> ResultTable:
    cells: dict[str, Row] = {}
    for name, of_scenario in simulated.items():
        for size, methods in enumerate(METHODS):
            for title, rule in (("former rule", FORMER), ("chosen", CHOSEN)):
                cells[power_row(name, methods, title)] = {
                    f"{points} points": _cell(
                        _values("found", of_scenario, m, size, p, list(RULES).index(rule))
                    )
                    for p, points in enumerate(POINTS)
                    if points
                }
    note = (
        "True differences between the better method and the others that are found, %. What the "
        "former rule cannot compare, because a fold lacks a class, it does not find."
    )
    return ResultTable(
        power_name(MEASURES[m]),
        f"Power on {MEASURES[m]}",
        "",
        cells,
        note=note,
        row_heading="scenario",
    )


def power_name(measure: str) -> str:
    """Name of the table of the power on a measure."""
    return f"power_{measure.replace(' ', '_').lower()}"


def power_row(scenario: str, methods: int, rule: str) -> str:
    """Name of a row of these tables."""
    return f"{scenario}, {methods} methods: {rule}"


def _equivalence_table(simulated: Simulated) -> ResultTable:
    cells: dict[str, Row] = {}
    for name, of_scenario in simulated.items():
        for m, measure in enumerate(MEASURES):
            row = cells[f"{name}: {measure}"] = {}
            for size, methods in enumerate(METHODS[:2]):
                for k, confidence in enumerate((95, 90)):
                    rates = [
                        percent(values)
                        for p in range(1, len(POINTS))
                        if len(values := _values("equivalent", of_scenario, m, size, p, k))
                    ]
                    row[f"{methods} methods, {confidence} %"] = (
                        max(rates, key=lambda cell: cell.mean) if rates else "–"
                    )
    note = (
        "Methods that differ by exactly the margin are called equivalent, because the joint "
        "interval lies inside the margin, %: the largest rate of the margins "
        f"{', '.join(map(str, POINTS[1:]))} points."
    )
    return ResultTable(
        "equivalence", "False equivalence", "", cells, note=note, row_heading="scenario"
    )


def _by_row(field: str, of_scenario: list[Decisions], size: int, last: int) -> list[np.ndarray]:
    """Values of every measure and true difference that was simulated."""
    values = [
        _values(field, of_scenario, m, size, p, last)
        for m in range(len(MEASURES))
        for p in range(len(POINTS))
    ]
    return [of for of in values if len(of)]


def _values(
    field: str, of_scenario: list[Decisions], m: int, size: int, p: int, last: int
) -> np.ndarray:
    """Of the benchmarks that have it."""
    values = np.array([getattr(of, field)[m, size, p, last] for of in of_scenario])
    return values[~np.isnan(values)]


def _allowed(cell: Cell) -> bool:
    return cell.mean <= 100 * SIGNIFICANCE + _ERRORS * cell.std


def _cell(values: np.ndarray) -> Cell | str:
    return percent(values) if len(values) else "–"
