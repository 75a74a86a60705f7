"""Training curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from mil_bench.report.figures.names import set_title, texts_of
from mil_bench.report.figures.style import legend, method_id, panels, styled, styles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mil_bench.evaluation.predictions import TrainedFold


@styled
def training_curves(trained: Mapping[str, Sequence[TrainedFold]]) -> Figure:
    """Losses of every training over epochs, one panel per method.

    The left axis shows the validation cross-entropy with the selected epoch, the right axis the
    method's own training loss.

    Args:
        trained: method to its trained folds; methods that train nothing, or fit themselves at
            once, are left out.
    """
    look = styles(list(trained))
    shown = {
        name: [f for f in folds if f.curves and f.epochs > 1] for name, folds in trained.items()
    }
    shown = {name: folds for name, folds in shown.items() if folds}
    figure, axes = panels(max(1, len(shown)), 3, (3.4, 2.3))
    titles = texts_of(shown)
    handles: dict[str, Artist] = {}
    for panel, (method, folds) in zip(axes, shown.items(), strict=False):
        panel.set_gid(method_id(method))
        handles["training loss (right axis)"] = _curves(panel, folds, look[method].colour)
        set_title(panel, titles[method], 3.4)
        panel.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    if handles:
        handles["validation cross-entropy"] = axes[0].plot([], [], color="black", linewidth=1)[0]
        handles["selected epoch"] = axes[0].plot(
            [], [], "o", color="black", markerfacecolor="white", markersize=5
        )[0]
        legend(figure, handles)
    figure.supxlabel("epoch", fontsize=9)
    return figure


def _curves(panel: Axes, folds: Sequence[TrainedFold], colour: str) -> Artist:
    """Draw the losses of a method's folds; returns a line of the training loss, for the legend."""
    right = panel.twinx()
    right.set_gid(panel.get_gid())
    right.spines["right"].set_visible(True)
    right.tick_params(colors="0.45")
    for fold in folds:
        losses, best = fold.curves["val_loss"], fold.best_epoch
        epochs = range(1, len(losses) + 1)
        training_loss = right.plot(
            epochs,
            fold.curves["train_loss"],
            color="0.6",
            linewidth=0.8,
            linestyle=(0, (2, 1.5)),
        )[0]
        panel.plot(epochs, losses, color=colour, linewidth=1)
        panel.plot(
            [best + 1],
            [losses[best]],
            marker="o",
            markersize=5,
            markerfacecolor="white",
            color=colour,
        )
    panel.set_zorder(right.get_zorder() + 1)
    panel.patch.set_visible(False)
    return training_loss
