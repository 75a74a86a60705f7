"""AUC of every class and method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mil_bench.report.figures.style import legend, styled, styles
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from mil_bench.hierarchy import LabelHierarchy


@styled
def classwise_auc(table: ResultTable, hierarchy: LabelHierarchy) -> Figure:
    """Means with their standard deviations, classes side by side in the order of the hierarchy.

    Args:
        table: class-wise AUC, columns are the fine classes.
        hierarchy: the classes.
    """
    order = np.argsort(hierarchy.parent, kind="stable")
    drawn = {
        name: row
        for name, row in table.cells.items()
        if any(_defined(cell) for cell in row.values())
    }
    look = styles(list(table.cells))
    figure = Figure(figsize=(max(6.0, 1.5 * len(order)), 4.2), layout="constrained")
    axes = figure.add_subplot()
    handles = {}
    for i, (name, row) in enumerate(drawn.items()):
        cells = [row[hierarchy.fine[c]] for c in order]
        shown = [(x, cell) for x, cell in enumerate(cells) if _defined(cell)]
        places = [x + 0.8 * ((i + 0.5) / len(drawn) - 0.5) for x, _ in shown]
        means, spreads = ([getattr(cell, part) for _, cell in shown] for part in ("mean", "std"))
        style = look[name]
        axes.errorbar(
            places, means, yerr=spreads, **style.dots(), elinewidth=0.9, ecolor=style.colour
        )
        handles[name] = axes.plot([], [], **style.dots())[0]
    axes.axhline(50, color="0.6", linewidth=0.8, linestyle=":")
    for x in range(1, len(order)):
        same = hierarchy.parent[order[x]] == hierarchy.parent[order[x - 1]]
        axes.axvline(x - 0.5, color="0.88" if same else "0.4", linewidth=0.8)
    axes.set(xlim=(-0.5, len(order) - 0.5), ylabel="one-vs-rest AUC (%)")
    axes.set_xticks(range(len(order)), [_label(hierarchy, c) for c in order])
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(top=101)
    if handles:
        legend(figure, handles)
    return figure


def _defined(cell: Cell | str) -> bool:
    return isinstance(cell, Cell) and not np.isnan(cell.mean)


def _label(hierarchy: LabelHierarchy, c: int) -> str:
    name = hierarchy.fine[c]
    return name if hierarchy.is_flat else f"{name}\n({hierarchy.coarse[hierarchy.parent[c]]})"
