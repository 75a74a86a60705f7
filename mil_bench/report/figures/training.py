"""Losses over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.report.figures.style import legend, panels, styled, styles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from mil_bench.report.budget import History


@styled
def training_curves(histories: Mapping[str, Sequence[History]]) -> Figure:
    """One panel a method: validation cross-entropy of every training with the epoch that was kept, and training loss.

    The training loss is the method's own, on a scale of its own at the right.

    Args:
        histories: method to its trainings; those without curves are left out.
    """
    trained = {name: [h for h in done if h.curves] for name, done in histories.items()}
    trained = {name: done for name, done in trained.items() if done}
    figure, axes = panels(max(1, len(trained)), 3, (3.4, 2.3))
    look = styles(list(histories))
    handles = {}
    for panel, (method, done) in zip(axes, trained.items(), strict=False):
        own = panel.twinx()
        own.spines["right"].set_visible(True)
        own.tick_params(colors="0.45")
        colour = look[method].colour
        for history in done:
            epochs = range(1, len(history.curves["val_loss"]) + 1)
            handles["training loss (right scale)"] = own.plot(
                epochs,
                history.curves["train_loss"],
                color="0.6",
                linewidth=0.8,
                linestyle=(0, (2, 1.5)),
            )[0]
            panel.plot(epochs, history.curves["val_loss"], color=colour, linewidth=1)
            panel.plot(
                [history.best_epoch + 1],
                [history.curves["val_loss"][history.best_epoch]],
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
        handles["epoch kept"] = axes[0].plot(
            [], [], "o", color="black", markerfacecolor="white", markersize=5
        )[0]
        legend(figure, handles)
    figure.supxlabel("epoch", fontsize=9)
    return figure
