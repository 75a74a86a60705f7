"""When a trial is given up: by epochs, against the trials before it, by a rule that needs no library.

The rule is Optuna's percentile pruner on the lowest validation loss so far. Because earlier trials
are finished when a trial starts, what it will be compared with is known beforehand: one number an
epoch, which a worker can follow without asking anybody, so that the same trial always ends at the
same epoch.
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
        percentile: a trial goes on while it is among so many percent best of the complete trials
            before it.
        first: complete trials that are waited for before anything is pruned.
        warmup: share of the epochs in which nothing is pruned.
    """

    # Chosen on the validation losses of 72 trials of ABMIL and mean-pool that were trained to their
    # end on the twin of BRACS: 55 % of the epochs. Half the warm-up costs 47 %, but slow starters
    # were given up that had won.
    percentile: float = 25.0
    first: int = 3
    warmup: float = 0.2

    def limits(self, curves: Sequence[Sequence[float]], epochs: int) -> np.ndarray:
        """The highest loss with which a trial may go on after each epoch ``[epochs]``; infinite where it always may.

        Args:
            curves: validation loss after each epoch of the complete trials before it; those that
                stopped early count with their lowest loss from there on.
            epochs: of the recipe.
        """
        limits = np.full(epochs, math.inf)
        if len(curves) < self.first:
            return limits
        start = math.ceil(self.warmup * epochs)
        lowest = np.stack([_lowest_so_far(curve, epochs) for curve in curves])  # [trials, epochs]
        limits[start:] = np.percentile(lowest, self.percentile, axis=0)[start:]
        return limits


def first_over(curve: Sequence[float], limits: np.ndarray) -> int | None:
    """The epoch, from 0, after which a training with this curve would have been given up; None if it would not."""
    over = _lowest_so_far(curve, len(curve)) > limits[: len(curve)]
    return int(over.argmax()) if over.any() else None


def _lowest_so_far(curve: Sequence[float], epochs: int) -> np.ndarray:
    lowest = np.minimum.accumulate(np.asarray(curve, dtype=float))
    return np.pad(lowest, (0, epochs - len(lowest)), mode="edge")
