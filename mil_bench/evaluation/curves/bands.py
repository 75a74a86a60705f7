"""ROC and precision-recall curves of methods, with bands over patients.

A method's curve is the mean of the one-vs-rest curves of its trainings, point by point. Its band is
pointwise: at every point of the horizontal axis, the 95 % percentile interval of the mean over
resampled patients. It says nothing about the whole curve at once, and nothing about training. As
elsewhere, slides are ranked only within one trained model; a training whose drawn test slides lack
the class, or have nothing else, is left out of the mean of that draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.bootstrap import (
    CONFIDENCE,
    FEWEST_UNITS,
    MOST_UNDEFINED,
    class_units,
    draws,
    units_of,
)
from mil_bench.evaluation.curves.heights import POINTS
from mil_bench.evaluation.metrics import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.curves.heights import Curve
    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.evaluation.verdicts import Evidence

DRAWS = 500
"""Draws of patients; in a picture, the ends of a band do not change visibly with more."""
MOST_BANDS = 4
"""Most methods whose bands can be told apart; of more methods, the best two have bands."""
_RANKED_BY = Measure("fine", "macro_auc")


@dataclass(frozen=True, eq=False)
class BandedCurve:
    """A method's curve for one class.

    Args:
        heights: at the points of the grid ``[101]``.
        band: lower and upper ends ``[2, 101]``, None without a band.
    """

    heights: np.ndarray
    band: np.ndarray | None


class CurveBands:
    """The curves of a run's methods, with bands where there are enough patients.

    Args:
        evidence: what the run measured.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._predictions = {
            method: [fold.predictions for fold in folds]
            for method, folds in evidence.trained.items()
        }
        self.unit = evidence.group_name or "slide"
        self._unit_of = units_of(self._predictions, bool(evidence.group_name))
        self._units = len(set(self._unit_of.values()))
        self._with_class = class_units(self._predictions, evidence.hierarchy, self._unit_of)["fine"]
        self.banded = _banded_methods(evidence)

    @property
    def without(self) -> Mapping[str, int]:
        """Classes that get no band, with their numbers of patients."""
        too_few = self._units < FEWEST_UNITS
        return {
            name: number
            for name, number in self._with_class.items()
            if too_few or number < FEWEST_UNITS
        }

    def of(self, curve: Curve) -> dict[str, list[BandedCurve | None]]:
        """Method to one curve per class; None if no training's test slides define it."""
        if not self._units:
            return {method: [None] * len(self._with_class) for method in self._predictions}
        weights = draws(self._units, DRAWS if self._units >= FEWEST_UNITS else 0)
        once, drawn = weights[0], np.concatenate(weights)
        return {
            method: self._of_method(curve, predictions, drawn if method in self.banded else once)
            for method, predictions in self._predictions.items()
        }

    def _of_method(
        self, curve: Curve, predictions: Sequence[Predictions], weights: np.ndarray
    ) -> list[BandedCurve | None]:
        in_folds = [weights[:, [self._unit_of[s] for s in p.slides]] for p in predictions]
        found: list[BandedCurve | None] = []
        for c, number in enumerate(self._with_class.values()):
            rows = slice(None) if number >= FEWEST_UNITS else slice(1)
            total, count = np.zeros((len(weights[rows]), POINTS + 1)), np.zeros(len(weights[rows]))
            for p, weight in zip(predictions, in_folds, strict=True):
                _add(curve, p.labels == c, p.fine[:, c], weight[rows], total, count)
            found.append(_banded(total, count) if count[:1].any() else None)
        return found


def _banded_methods(evidence: Evidence) -> list[str]:
    """Methods with a band, the best first: all if they are few, else those with the best means."""
    means = {}
    for method, trainings in evidence.measured.items():
        values = [of_training.values[_RANKED_BY] for of_training in trainings.values()]
        defined = [value for value in values if not np.isnan(value)]
        means[method] = float(np.mean(defined)) if defined else -np.inf
    if len(means) <= MOST_BANDS:
        return list(means)
    contestants = [method for method in means if method in evidence.contestants]
    return sorted(contestants, key=lambda method: -means[method])[:2]


def _add(
    curve: Curve,
    positive: np.ndarray,
    score: np.ndarray,
    weight: np.ndarray,
    total: np.ndarray,
    count: np.ndarray,
) -> None:
    """Add a training's curves to a sum ``[R, 101]``, and 1 to the count ``[R]`` of each."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(
        np.append(np.diff(score[order]) != 0, True)
    )  # equal scores: one threshold
    weight, positive = weight[:, order].astype(np.int32), positive[order]
    right = np.cumsum(weight * positive, axis=1)[:, ends]
    wrong = np.cumsum(weight * ~positive, axis=1)[:, ends]
    defined = (right[:, -1] > 0) & (wrong[:, -1] > 0)
    if defined.any():
        total[defined] += curve(right[defined], wrong[defined])
        count += defined


def _banded(total: np.ndarray, count: np.ndarray) -> BandedCurve:
    """The mean curve, and its band if there are draws, few of them undefined."""
    drawn = count[1:] > 0
    band = None
    if len(drawn) and np.count_nonzero(~drawn) <= MOST_UNDEFINED * len(drawn):
        tail = (1 - CONFIDENCE) / 2
        means = total[1:][drawn] / count[1:][drawn, None]
        band = np.quantile(means, [tail, 1 - tail], axis=0)
    return BandedCurve(total[0] / count[0], band)
