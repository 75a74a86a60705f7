"""The critical-difference diagram of methods ranked over several datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mil_bench.report.figures.names import texts_of
from mil_bench.report.figures.style import styled

if TYPE_CHECKING:
    from mil_bench.evaluation.statistics import Ranking


@styled
def critical_difference(ranking: Ranking) -> Figure:
    """Average ranks on a line, the best at the left.

    A bar joins methods whose ranks do not differ significantly by Nemenyi's test. After Demsar,
    JMLR 7, 2006.

    Args:
        ranking: methods, ranks and cliques.
    """
    count = len(ranking.methods)
    left = (count + 1) // 2  # the names of the better half are at the left
    rows = max(left, count - left)
    bars = 0.28 * len(ranking.cliques)
    names = texts_of(ranking.methods)
    widest = 0.075 * max(map(len, names.values()))
    height = 1.0 + bars + 0.3 * rows
    figure = Figure(figsize=(4.5 + 2 * widest + 1, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0.9, count + 0.1), ylim=(-(bars + 0.3 * rows + 0.3), 0.75))
    axes.set_axis_off()
    axes.plot([1, count], [0, 0], color="black", linewidth=1)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, 0.08], color="black", linewidth=1)
        axes.text(tick, 0.12, str(tick), ha="center", va="bottom", fontsize=8)
    axes.plot([1, 1 + ranking.critical_difference], [0.48, 0.48], color="black", linewidth=1.5)
    axes.text(
        1,
        0.53,
        f"critical difference {ranking.critical_difference:.2f}",
        ha="left",
        va="bottom",
        fontsize=8,
    )
    for i, (first, last) in enumerate(ranking.cliques):
        ends = [ranking.ranks[first] - 0.04, ranking.ranks[last] + 0.04]
        axes.plot(ends, [-0.18 - 0.28 * i] * 2, color="#D55E00", linewidth=4, solid_capstyle="butt")
    for i, (name, rank) in enumerate(zip(names.values(), ranking.ranks, strict=True)):
        at_left = i < left
        row = i if at_left else count - 1 - i
        y = -(bars + 0.3 + 0.3 * row)
        end = 0.9 if at_left else count + 0.1
        axes.plot([rank, rank, end], [0, y, y], color="0.35", linewidth=0.8)
        text, side = f"{name}  {rank:.2f} ", "right" if at_left else "left"
        axes.annotate(
            text if at_left else f" {rank:.2f}  {name}",
            (end, y),
            ha=side,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    return figure
