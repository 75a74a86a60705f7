"""The figure of the training benchmark: loop / ours, with the target and the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def draw(
    results: Mapping[tuple[str, int], Mapping[str, Any]],
    targets: Mapping[str, Mapping[int, float]],
    what: str,
    to: Path,
) -> None:
    """A group of bars per method: loop / ours by rows; marks show the target and the floor.

    Args:
        results: medians of every contestant by method and rows.
        targets: targets of loop / ours.
        what: "cpu" for ratios of CPU time, "wall" for those of time.
        to: the image file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    names, methods = [], []
    for at, ((method, rows), medians) in enumerate(results.items()):
        reached = getattr(medians["loop"], what) / getattr(medians["ours"], what)
        methods.append(method)
        axes.bar(at, reached, color=f"C{list(dict.fromkeys(methods)).index(method)}")
        axes.text(at, 0.05, f"{reached:.2f}", ha="center", va="bottom", fontsize=8, color="white")
        if target := targets.get(method, {}).get(rows):
            axes.hlines(target, at - 0.4, at + 0.4, color="black")
        if "floor" in medians:
            axes.plot(at, medians["loop"].cpu / medians["floor"].cpu, "k^", markersize=4)
        names.append(f"{method}\n{rows:,}")
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylabel("CPU time: loop / ours" if what == "cpu" else "time: loop / ours")
    axes.set_title(
        "Training without reading. Line: target. Triangle: upper bound from the matrix products.",
        fontsize=9,
    )
    figure.savefig(to, dpi=120)
