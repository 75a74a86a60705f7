"""AUC of each method for each class, as dots with their spread and as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mil_bench.report.figures.names import texts_of, wrapped
from mil_bench.report.figures.style import legend, of_method, styled, styles
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.hierarchy import LabelHierarchy

_COLUMN = 1.5
"""Width of a class in inches."""
_DARK = 0.8
"""Share of the range of colours above which numbers are white."""


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
        with of_method(axes, name):
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


@styled
def class_heat_map(table: ResultTable, hierarchy: LabelHierarchy) -> Figure:
    """AUC of every method and class as a shade and a number.

    Args:
        table: class-wise AUC; its columns are the fine classes, its rows are drawn from top to
            bottom.
        hierarchy: the classes, drawn in its order.
    """
    order = [hierarchy.fine[c] for c in np.argsort(hierarchy.parent, kind="stable")]
    rows = {name: cells for name, row in table.cells.items() if (cells := _defined(row))}
    width, names = _COLUMN * 0.62, texts_of(rows, 40)
    room = 0.065 * max(map(len, names.values()), default=0)
    size = (1.0 + room + width * len(order), 1.1 + 0.26 * max(1, len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    means = [cell.mean for row in rows.values() for cell in row.values()]
    low, high = min(means, default=0), max(means, default=1)
    for y, (name, row) in enumerate(rows.items()):
        with of_method(axes, name):
            for x, cell in ((x, row[c]) for x, c in enumerate(order) if c in row):
                share = (cell.mean - low) / (high - low or 1)
                shade = colormaps["Blues"](0.05 + 0.8 * share)
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=shade, edgecolor="1"))
                ink = "white" if share > _DARK else "black"
                text = axes.text(x, y, f"{cell.mean:.1f}", ha="center", va="center", color=ink)
                text.set(fontsize=8, in_layout=False)  # it is inside of its cell
    axes.set(xlim=(-0.5, len(order) - 0.5), ylim=(max(1, len(rows)) - 0.5, -0.5))
    labels = dict(zip(hierarchy.fine, texts_of(hierarchy.fine).values(), strict=True))
    axes.set_xticks(range(len(order)), [wrapped(labels[c], width, 8) for c in order])
    axes.set_yticks(range(len(rows)), list(names.values()))
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
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
