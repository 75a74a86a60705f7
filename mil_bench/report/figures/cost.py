"""Training time and quality of each method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mil_bench.report.figures.names import texts_of, wrapped
from mil_bench.report.figures.style import LEGEND_LINE, mark_legend, of_method, styled, styles
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metric import Metric
    from mil_bench.evaluation.predictions import TrainedFold

_HEIGHT = 3.8
"""Of the figure in inches, if its legend needs no more."""


@styled
def cost(
    trained: Mapping[str, Sequence[TrainedFold]], table: ResultTable, metric: Metric
) -> Figure:
    """Mean and standard deviation of a metric against mean seconds per training, on a log scale.

    Args:
        trained: method to its trained folds; methods that train nothing are left out.
        table: holds the metric.
        metric: whose column is shown.
    """
    figure = Figure(figsize=(8.0, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    look = styles(list(table.cells))
    handles = {}
    for method, row in table.cells.items():
        seconds = [fold.seconds for fold in trained.get(method, ()) if fold.curves]
        cell = row[metric.heading]
        if seconds and isinstance(cell, Cell) and not np.isnan(cell.mean):
            style = look[method]
            with of_method(axes, method):
                axes.errorbar(
                    np.mean(seconds), cell.mean, yerr=cell.std, **style.dots(7), elinewidth=0.9
                )
            handles[method] = axes.plot([], [], **style.dots(7))[0]
    unit = " (%)" if metric.percent else ""
    axes.set(xscale="log", xlabel="seconds per training", ylabel=f"{metric.heading}{unit}")
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if handles:
        texts = [wrapped(text, 2.6, 8) for text in texts_of(handles).values()]
        lines = sum(text.count("\n") + 1 for text in texts)
        figure.set_figheight(max(_HEIGHT, LEGEND_LINE * (lines + 2)))
        mark_legend(figure.legend(handles.values(), texts, loc="outside right upper"), handles)
    return figure
