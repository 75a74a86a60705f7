"""Methods over encoders: where lines cross, the ranking differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mil_bench.report.figures.names import texts_of
from mil_bench.report.figures.style import LEGEND_LINE, styled, styles
from mil_bench.report.tables import Cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.report.tables import ResultTable


@styled
def methods_over_encoders(table: ResultTable, encoders: Sequence[str]) -> Figure:
    """One line per method over the encoders, with the standard deviation over trainings.

    Args:
        table: rows are methods; it has a column per encoder.
        encoders: the columns.
    """
    methods = list(table.cells)
    names, looks, labels = texts_of(methods), styles(methods), texts_of(encoders)
    height = max(3.6, 0.8 + LEGEND_LINE * len(methods))
    figure = Figure(figsize=(3.5 + 1.1 * len(encoders), height), layout="constrained")
    axes = figure.add_subplot()
    spread = np.linspace(-0.12, 0.12, len(methods)) if len(methods) > 1 else np.zeros(1)
    for shift, method in zip(spread, methods, strict=True):
        cells = [cell for e in encoders if isinstance(cell := table.cells[method][e], Cell)]
        places = np.arange(len(encoders)) + shift
        means = [cell.mean for cell in cells]
        look = looks[method]
        axes.plot(places, means, **look.line())
        axes.errorbar(
            places,
            means,
            yerr=[0 if np.isnan(cell.std) else cell.std for cell in cells],
            elinewidth=0.8,
            label=names[method],
            **look.dots(),
        )
    axes.set_xticks(range(len(encoders)), [labels[encoder] for encoder in encoders])
    axes.set_xlim(-0.4, len(encoders) - 0.6)
    axes.set_xlabel("encoder")
    axes.set_ylabel(table.title.partition(": ")[2])
    figure.legend(loc="outside right upper")
    return figure
