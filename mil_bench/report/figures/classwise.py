"""AUC of each method for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mil_bench.report.figures.names import texts_of, wrapped
from mil_bench.report.figures.style import legend, styled, styles
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.hierarchy import LabelHierarchy

_COLUMN = 1.5
"""Width of a class in inches."""


@styled
def classwise_auc(table: ResultTable, hierarchy: LabelHierarchy) -> Figure:
    """Means and standard deviations, with the classes in the order of the hierarchy.

    Args:
        table: class-wise AUC; its columns are the fine classes.
        hierarchy: the classes.
    """
    order = np.argsort(hierarchy.parent, kind="stable")
    rows = {name: _defined(row) for name, row in table.cells.items()}
    drawn = {name: row for name, row in rows.items() if row}
    look = styles(list(table.cells))
    figure = Figure(figsize=(max(6.0, _COLUMN * len(order)), 4.2), layout="constrained")
    axes = figure.add_subplot()
    handles = {}
    for i, (name, row) in enumerate(drawn.items()):
        positions = [x for x, c in enumerate(order) if hierarchy.fine[c] in row]
        cells = [row[hierarchy.fine[order[x]]] for x in positions]
        style = look[name]
        axes.errorbar(
            [x + 0.8 * ((i + 0.5) / len(drawn) - 0.5) for x in positions],
            [cell.mean for cell in cells],
            yerr=[cell.std for cell in cells],
            **style.dots(),
            elinewidth=0.9,
            ecolor=style.colour,
        )
        handles[name] = axes.plot([], [], **style.dots())[0]
    axes.axhline(50, color="0.6", linewidth=0.8, linestyle=":")
    for x in range(1, len(order)):
        same = hierarchy.parent[order[x]] == hierarchy.parent[order[x - 1]]
        axes.axvline(x - 0.5, color="0.88" if same else "0.4", linewidth=0.8)
    axes.set(xlim=(-0.5, len(order) - 0.5), ylabel="one-vs-rest AUC (%)")
    labels = _labels(hierarchy)
    axes.set_xticks(range(len(order)), [labels[c] for c in order])
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(top=101)
    if handles:
        legend(figure, handles)
    return figure


def _defined(row: Mapping[str, Cell | str]) -> dict[str, Cell]:
    """The cells of a row that hold a value, by column."""
    return {
        name: cell
        for name, cell in row.items()
        if isinstance(cell, Cell) and not np.isnan(cell.mean)
    }


def _labels(hierarchy: LabelHierarchy) -> list[str]:
    """Fine classes with their coarse ones, each under the width of its column."""
    fine, coarse = texts_of(hierarchy.fine).values(), list(texts_of(hierarchy.coarse).values())
    names = [wrapped(name, _COLUMN, 8) for name in fine]
    if hierarchy.is_flat:
        return names
    parents = [wrapped(f"({coarse[parent]})", _COLUMN, 8) for parent in hierarchy.parent]
    return [f"{name}\n{parent}" for name, parent in zip(names, parents, strict=True)]
