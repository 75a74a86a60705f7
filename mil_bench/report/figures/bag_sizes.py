"""Distribution of the number of instances per bag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from mil_bench.report.figures.names import set_title, text_of_name
from mil_bench.report.figures.style import settings

if TYPE_CHECKING:
    from pathlib import Path


def bag_size_histogram(sizes: np.ndarray, title: str, path: Path) -> None:
    """Draw a histogram of the number of instances per bag, on a logarithmic axis, into a PNG file.

    Args:
        sizes: number of instances of each bag ``[B]``, at least 1.
        title: which bags these are.
        path: the file. Its folder is created if it does not exist; an older file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with settings():
        _histogram(sizes, text_of_name(title)).savefig(path, dpi=150)


def _histogram(sizes: np.ndarray, title: str) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    edges = np.geomspace(sizes.min() * 0.95, sizes.max() * 1.05, 31)
    axes.hist(sizes, bins=edges.tolist(), color="#4878a8", edgecolor="white", linewidth=0.5)
    middle = float(np.median(sizes))
    axes.axvline(middle, color="black", linewidth=1, linestyle="--", label=f"median {middle:g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    set_title(axes, title, 6.0)
    axes.set(xlabel="instances per bag", ylabel="number of bags")
    axes.legend()
    return figure
