"""Metrics as ratios of weighted sums over slides: one definition for folds, pools and bootstraps.

A slide has a weight: 1 in a plain metric, the number of times its patient was drawn in a bootstrap
replicate. Both sums of a ratio are additive over folds. Slides are compared only with slides that
the same model scored, so adding folds never ranks the scores of one model against those of another.
All replicates are computed at once, as matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.hierarchy import LabelHierarchy


@dataclass(frozen=True, eq=False)
class Ratio:
    """The two sums of a metric for R weightings; a column is a class, a bin, or the only one.

    Args:
        part: numerator ``[R, columns]``.
        whole: denominator ``[R, columns]``.
        exists: 0 where the metric is undefined although ``whole`` is not 0 ``[R, columns]``;
            usually ``whole`` itself.
    """

    part: np.ndarray
    whole: np.ndarray
    exists: np.ndarray

    @classmethod
    def share(cls, weight: np.ndarray, value: np.ndarray, counts: np.ndarray) -> Ratio:
        """Weighted mean of a value over the slides that count.

        Args:
            weight: ``[R, B]``.
            value: of each slide ``[B]``.
            counts: whether a slide counts ``[B]`` bool.
        """
        return cls.of(*(weight @ np.stack([value * counts, counts], axis=1)).T)

    @classmethod
    def of(cls, part: np.ndarray, whole: np.ndarray, exists: np.ndarray | None = None) -> Ratio:
        """From sums ``[R]`` or ``[R, columns]``."""
        part, whole = (a[:, None] if a.ndim == 1 else a for a in (part, whole))
        return cls(part, whole, whole if exists is None else exists)

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio(self.part + other.part, self.whole + other.whole, self.exists + other.exists)

    def __mul__(self, scale: np.ndarray) -> Ratio:
        return Ratio(self.part * scale, self.whole * scale, self.exists * scale)

    @property
    def value(self) -> np.ndarray:
        """``part / whole`` ``[R, columns]``, not a number if undefined."""
        defined = (self.exists > 0) & (self.whole > 0)
        return np.divide(self.part, self.whole, out=np.full(self.part.shape, np.nan), where=defined)


class LevelScores:
    """One model's predictions at one label level, prepared for sums under many weightings.

    Args:
        predictions: of one trained fold.
        hierarchy: the classes.
        level: "fine"; "coarse", from fine probabilities summed over the children; or "coarse_head",
            from the method's own coarse head.
        ordered: whether the order of the classes means something (grades).
    """

    def __init__(
        self,
        predictions: Predictions,
        hierarchy: LabelHierarchy,
        level: str = "fine",
        ordered: bool = False,
    ) -> None:
        self.predictions, self.hierarchy, self.ordered = predictions, hierarchy, ordered
        labels, probabilities = predictions.labels, predictions.fine
        if level != "fine":
            labels, head = hierarchy.coarse_of(labels), predictions.coarse_head
            if level == "coarse_head" and head is not None:
                probabilities = head
            else:
                probabilities = hierarchy.lift(predictions.fine)
        self.labels, self.probabilities = labels, probabilities
        slides, self.classes = probabilities.shape
        rows = np.arange(slides)
        cells = np.zeros((slides, self.classes**2))
        cells[rows, labels * self.classes + probabilities.argmax(1)] = 1
        log_loss = -np.log(np.maximum(probabilities[rows, labels], np.finfo(float).eps))
        brier = ((probabilities - np.eye(self.classes)[labels]) ** 2).sum(1)
        self.linear = np.column_stack([cells, log_loss, brier])  # [B, C * C + 2]
        self.rankings = [Ranking(labels == c, probabilities[:, c]) for c in range(self.classes)]


class Weighted:
    """What a metric's function gets: a model's scores at a level, and R weightings of its slides.

    Sums that several metrics need are computed once. ``labels [B]``, ``probabilities [B, C]``,
    ``predictions`` and ``hierarchy`` are there for metrics that need other sums:
    ``weight @ value`` is the weighted sum of a value per slide ``[R]``.

    Args:
        scores: the level.
        weight: ``[R, B]``.
    """

    def __init__(self, scores: LevelScores, weight: np.ndarray) -> None:
        self.scores, self.weight = scores, weight
        self.labels, self.probabilities = scores.labels, scores.probabilities
        self.predictions, self.hierarchy = scores.predictions, scores.hierarchy
        self.ordered = scores.ordered

    @cached_property
    def _linear(self) -> np.ndarray:
        return self.weight @ self.scores.linear

    @property
    def log_loss(self) -> np.ndarray:
        """Sum of -log p(label) ``[R]``."""
        return self._linear[:, -2]

    @property
    def brier(self) -> np.ndarray:
        """Sum of squared distances between probabilities and the label's indicator ``[R]``."""
        return self._linear[:, -1]

    @cached_property
    def confusion(self) -> np.ndarray:
        """Slides by label and predicted class ``[R, C, C]``."""
        return self._linear[:, :-2].reshape(-1, self.scores.classes, self.scores.classes)

    @cached_property
    def right(self) -> np.ndarray:
        """Slides of each class that are predicted as such ``[R, C]``."""
        return self.confusion.diagonal(axis1=1, axis2=2)

    @cached_property
    def labelled(self) -> np.ndarray:
        """Slides of each class ``[R, C]``."""
        return self.confusion.sum(2)

    @cached_property
    def called(self) -> np.ndarray:
        """Slides predicted as each class ``[R, C]``."""
        return self.confusion.sum(1)

    @cached_property
    def total(self) -> np.ndarray:
        """Slides ``[R]``."""
        return self.labelled.sum(1)

    @cached_property
    def others(self) -> np.ndarray:
        """Slides of other classes than each ``[R, C]``."""
        return self.total[:, None] - self.labelled

    @cached_property
    def concordant(self) -> np.ndarray:
        """Pairs of a slide of the class and another one in the right order ``[R, C]``."""
        weight = self.weight
        return np.stack([ranking.concordant(weight) for ranking in self.scores.rankings], axis=1)


class Ranking:
    """One class against the rest: the order of the slides by the probability of the class."""

    def __init__(self, positive: np.ndarray, score: np.ndarray) -> None:
        self._positive, self._negative = np.flatnonzero(positive), np.flatnonzero(~positive)
        self._inside, self._outside = score[self._positive], score[self._negative]
        outside = self._outside[:, None]
        self._below = (outside < self._inside) + 0.5 * (outside == self._inside)  # [N, P]

    def concordant(self, weight: np.ndarray) -> np.ndarray:
        """Weight of the pairs in which the slide of the class has the higher score ``[R]``.

        A tie counts one half.
        """
        return np.einsum(
            "rp,rp->r", weight[:, self._negative] @ self._below, weight[:, self._positive]
        )

    def precision(self) -> float:
        """Precision at the score of each slide of the class, summed over these slides."""
        right = (self._inside[:, None] >= self._inside).sum(0)  # [P]
        wrong = (self._outside[:, None] >= self._inside).sum(0)  # [P]
        return float((right / (right + wrong)).sum())
