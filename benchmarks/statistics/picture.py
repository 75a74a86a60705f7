"""The figure of the power: how often a true difference is found, by its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.benchmarks.statistics.benchmark import MEASURES
from mil_bench.benchmarks.statistics.power import SIMULATED_POINTS
from mil_bench.benchmarks.statistics.power_tables import power_name, power_row

from mil_bench.report.tables import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mil_bench.report.tables import ResultTable

SHOWN = (
    "10 folds by patient",
    "10 folds by patient, 3 repeats",
    "3 folds by patient",
    "10 splits by slide",
    "1 split by patient",
)
"""Names of the scenarios with a curve; more could not be told apart."""
_METHODS = (2, 10)  # with 20 methods a single difference is simulated, which is no curve
_RULES = {"chosen": "-", "former rule": ":"}
_MARKERS = "osD^v"


def draw(tables: Sequence[ResultTable], to: Path) -> None:
    """A panel per metric and number of methods, a curve per scenario and rule.

    Args:
        tables: those of ``power_tables``.
        to: the image file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    by_name = {table.name: table for table in tables}
    figure, panels = pyplot.subplots(
        len(MEASURES), len(_METHODS), figsize=(9, 7), sharex=True, sharey=True, layout="constrained"
    )
    for of_measure, measure in zip(panels, MEASURES, strict=True):
        cells = by_name[power_name(measure)].cells
        for axes, methods in zip(of_measure, _METHODS, strict=True):
            axes.set_title(f"{measure}, {methods} methods", fontsize=10)
            _curves(axes, cells, methods)
    for axes in panels[-1]:
        axes.set_xlabel("true difference, percentage points")
    for axes in panels[:, 0]:
        axes.set_ylabel("differences that are found, %")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(to, dpi=120)


def _curves(axes: Axes, cells: Mapping[str, Mapping[str, Cell | str]], methods: int) -> None:
    points = [points for points in SIMULATED_POINTS[methods] if points]
    for s, scenario in enumerate(SHOWN):
        for rule, style in _RULES.items():
            row = cells[power_row(scenario, methods, rule)]
            given = [(x, cell) for x in points if isinstance(cell := row[f"{x} points"], Cell)]
            axes.errorbar(
                [x for x, _ in given],
                [cell.mean for _, cell in given],
                [cell.std or 0 for _, cell in given],
                linestyle=style,
                color=f"C{s}",
                marker=_MARKERS[s],
                markersize=4,
                linewidth=1.2,
                label=f"{scenario}: {rule}",
            )
    axes.axhline(80, color="0.7", linewidth=0.8)
    axes.set_ylim(-2, 102)
    axes.set_xticks(SIMULATED_POINTS[2])
