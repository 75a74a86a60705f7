"""Losses over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.report.figures.style import legend, panels, styled, styles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from mil_bench.evaluation.predictions import TrainedFold


@styled
def training_curves(trained: Mapping[str, Sequence[TrainedFold]]) -> Figure:
    """One panel a method: validation cross-entropy of every training with the epoch that was kept, and training loss.

    The training loss is the method's own, on a scale of its own at the right.

    Args:
        trained: method to its trained folds; those without curves are left out.
    """
    look = styles(list(trained))
    shown = {name: [f for f in folds if f.curves] for name, folds in trained.items()}
    shown = {name: folds for name, folds in shown.items() if folds}
    figure, axes = panels(max(1, len(shown)), 3, (3.4, 2.3))
    handles = {}
    for panel, (method, folds) in zip(axes, shown.items(), strict=False):
        own = panel.twinx()
        own.spines["right"].set_visible(True)
        own.tick_params(colors="0.45")
        colour = look[method].colour
        for fold in folds:
            epochs = range(1, len(fold.curves["val_loss"]) + 1)
            handles["training loss (right scale)"] = own.plot(
                epochs,
                fold.curves["train_loss"],
                color="0.6",
                linewidth=0.8,
                linestyle=(0, (2, 1.5)),
            )[0]
            panel.plot(epochs, fold.curves["val_loss"], color=colour, linewidth=1)
            panel.plot(
                [fold.best_epoch + 1],
                [fold.curves["val_loss"][fold.best_epoch]],
                marker="o",
                markersize=5,
                markerfacecolor="white",
                color=colour,
            )
        panel.set_zorder(own.get_zorder() + 1)
        panel.patch.set_visible(False)
        panel.set_title(method, fontsize=9 if len(method) < 34 else 7)
        panel.xaxis.get_major_locator().set_params(integer=True)
    if handles:
        handles["validation cross-entropy"] = axes[0].plot([], [], color="black", linewidth=1)[0]
        handles["selected epoch"] = axes[0].plot(
            [], [], "o", color="black", markerfacecolor="white", markersize=5
        )[0]
        legend(figure, handles)
    figure.supxlabel("epoch", fontsize=9)
    return figure
