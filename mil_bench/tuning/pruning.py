"""When a trial is pruned: its epochs are compared with those of earlier trials.

The rule is that of Optuna's percentile pruner, applied to the lowest validation loss so far.
Earlier trials are finished when a trial starts, so its limits are known in advance: one number per
epoch. A worker needs nothing else, and the same trial always ends at the same epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Pruning:
    """The rule, the same for every method.

    Args:
        percentile: a trial continues while its loss is at most this percentile of the losses of the
            earlier complete trials.
        first: number of complete trials before any trial is pruned.
        warmup: share of the epochs in which no trial is pruned.
    """

    # Chosen on the validation losses of 72 trials of ABMIL and mean-pool that were trained to their
    # end on simulated BRACS: the rule needs 55 % of the epochs. With half the warm-up it needs 47 %
    # but prunes slow starters that would have won.
    percentile: float = 25.0
    first: int = 3
    warmup: float = 0.2

    def limits(self, curves: Sequence[Sequence[float]], epochs: int) -> np.ndarray:
        """The highest loss with which a trial continues.

        Args:
            curves: validation loss after each epoch of each earlier complete trial; a trial that
                stopped early has its lowest loss in all later epochs.
            epochs: number of epochs of the recipe.

        Returns:
            One loss per epoch ``[epochs]``; infinite if no trial is pruned after the epoch.
        """
        limits = np.full(epochs, math.inf)
        if len(curves) < self.first:
            return limits
        start = math.ceil(self.warmup * epochs)
        lowest = np.stack([_lowest_so_far(curve, epochs) for curve in curves])  # [trials, epochs]
        limits[start:] = np.percentile(lowest, self.percentile, axis=0)[start:]
        return limits


def first_over(curve: Sequence[float], limits: np.ndarray) -> int | None:
    """The epoch, from 0, after which a trial with this curve is pruned; None if it is not."""
    over = _lowest_so_far(curve, len(curve)) > limits[: len(curve)]
    return int(over.argmax()) if over.any() else None


def _lowest_so_far(curve: Sequence[float], epochs: int) -> np.ndarray:
    lowest = np.minimum.accumulate(np.asarray(curve, dtype=float))
    return np.pad(lowest, (0, epochs - len(lowest)), mode="edge")
