"""Every metric as a ratio of weighted sums over slides, so that folds, pools and bootstraps share one definition.

A slide has a weight: 1 in a plain metric, the number of times its patient was drawn in a bootstrap
replicate. Both sums of a ratio are additive over folds. Slides are only ever compared with slides
that the same model scored, so adding folds never ranks the score of one model against that of
another. All replicates are computed at once, as matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.hierarchy import LabelHierarchy

BINS = 15
"""Equal-width bins of the confidence for the expected calibration error (Guo et al., ICML 2017)."""


@dataclass(frozen=True, eq=False)
class Ratio:
    """A metric's two sums, for R weightings at once; columns are classes, bins, or a single one.

    Args:
        part: what is counted ``[R, columns]``.
        whole: out of how much ``[R, columns]``.
        exists: 0 where the metric is undefined although ``whole`` is not 0 ``[R, columns]``;
            ``whole`` itself mostly.
    """

    part: np.ndarray
    whole: np.ndarray
    exists: np.ndarray

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
        """``part / whole`` ``[R, columns]``, not a number where undefined."""
        defined = (self.exists > 0) & (self.whole > 0)
        return np.divide(self.part, self.whole, out=np.full(self.part.shape, np.nan), where=defined)


class LevelScorer:
    """One model's predictions at one label level, made ready to be summed under many weightings.

    Args:
        labels: ``[B]``.
        probabilities: ``[B, C]``.
        ordered: whether the order of the classes means something; then there is a quadratic kappa.
    """

    def __init__(
        self, labels: np.ndarray, probabilities: np.ndarray, ordered: bool = False
    ) -> None:
        slides, self._classes = probabilities.shape
        self._labels, self._probabilities, self._ordered = labels, probabilities, ordered
        rows = np.arange(slides)
        cells = np.zeros((slides, self._classes**2))
        cells[rows, labels * self._classes + probabilities.argmax(1)] = 1
        log_loss = -np.log(np.maximum(probabilities[rows, labels], np.finfo(float).eps))
        brier = ((probabilities - np.eye(self._classes)[labels]) ** 2).sum(1)
        self._linear = np.column_stack([cells, log_loss, brier])  # [B, C * C + 2]
        self._rankings = [_Ranking(labels == c, probabilities[:, c]) for c in range(self._classes)]

    def __len__(self) -> int:
        return len(self._labels)

    def sums(self, weight: np.ndarray) -> dict[str, Ratio]:
        """Sums under R weightings ``[R, B]``, by key of the metric."""
        linear = weight @ self._linear
        log_loss, brier = linear[:, -2], linear[:, -1]
        confusion = linear[:, :-2].reshape(
            -1, self._classes, self._classes
        )  # [R, label, predicted]
        right, labelled, called = (
            confusion.diagonal(axis1=1, axis2=2),
            confusion.sum(2),
            confusion.sum(1),
        )
        total = labelled.sum(1)
        others = total[:, None] - labelled
        concordant = np.stack([ranking.concordant(weight) for ranking in self._rankings], axis=1)
        auc = Ratio.of(concordant, labelled * others)
        sums = {
            "accuracy": Ratio.of(right.sum(1), total),
            "balanced_accuracy": Ratio.of(right, labelled),
            "specificity": Ratio.of(others - called + right, others),
            "macro_f1": Ratio.of(2 * right, labelled + called, exists=labelled),
            "macro_auc": auc,
            "auc": auc,
            "nll": Ratio.of(log_loss, total),
            "brier": Ratio.of(brier, total),
        }
        return sums | ({"quadratic_kappa": _kappa(confusion)} if self._ordered else {})

    def unweighted_sums(self) -> dict[str, Ratio]:
        """Sums (R = 1) of the metrics that are not resampled, by key; every slide counts once."""
        labels, probabilities = self._labels, self._probabilities
        slides = np.bincount(labels, minlength=self._classes)
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
        bins = np.clip(
            np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1
        )  # a bin holds its upper edge
        gaps = np.bincount(bins, confidence - right, BINS)
        precision = np.array([ranking.precision() for ranking in self._rankings])
        average_precision = Ratio.of(precision[None], slides[None])
        return {
            "macro_ap": average_precision,
            "average_precision": average_precision,
            "ece": Ratio.of(gaps[None], np.full((1, BINS), len(labels))),
        }


def _kappa(confusion: np.ndarray) -> Ratio:
    """Disagreement saved against that of independent margins, squared class distances as disagreement."""
    classes = np.arange(confusion.shape[1])
    distance = (classes[:, None] - classes) ** 2
    labelled, called = confusion.sum(2), confusion.sum(1)
    total = labelled.sum(1)
    by_chance = np.einsum("rc,cd,rd->r", labelled, distance, called) / np.where(total > 0, total, 1)
    return Ratio.of(by_chance - (confusion * distance).sum((1, 2)), by_chance)


class _Ranking:
    """One class against the rest: which slides stand above which by its probability."""

    def __init__(self, positive: np.ndarray, score: np.ndarray) -> None:
        self._positive, self._negative = np.flatnonzero(positive), np.flatnonzero(~positive)
        self._own, self._other = score[self._positive], score[self._negative]
        other = self._other[:, None]
        self._below = (other < self._own) + 0.5 * (other == self._own)  # [N, P]

    def concordant(self, weight: np.ndarray) -> np.ndarray:
        """Weight of the pairs in which the class's slide stands above the other, ties by half ``[R]``."""
        return np.einsum(
            "rp,rp->r", weight[:, self._negative] @ self._below, weight[:, self._positive]
        )

    def precision(self) -> float:
        """Sum over the class's slides of the precision when all slides that are not below it are called."""
        right = (self._own[:, None] >= self._own).sum(0)  # [P]
        wrong = (self._other[:, None] >= self._own).sum(0)  # [P]
        return float((right / (right + wrong)).sum())


Sums = Mapping[tuple[str, str], Ratio]
"""All sums of a model, by label level and key of the metric."""


class ModelScorer:
    """One model's test predictions at every level, made ready to be summed under many weightings."""

    def __init__(
        self, predictions: Predictions, hierarchy: LabelHierarchy, ordered: bool = False
    ) -> None:
        labels, predicted, head = (
            predictions.labels,
            predictions.fine.argmax(1),
            predictions.coarse_head,
        )
        self._levels = {"fine": LevelScorer(labels, predictions.fine, ordered)}
        counted: dict[
            str, tuple[np.ndarray, np.ndarray]
        ] = {}  # what is averaged, and over which slides
        if not hierarchy.is_flat:
            coarse, coarse_predicted = hierarchy.coarse_of(labels), hierarchy.coarse_of(predicted)
            self._levels["coarse"] = LevelScorer(coarse, hierarchy.lift(predictions.fine), ordered)
            counted["mistakes_inside"] = coarse == coarse_predicted, labels != predicted
            if head is not None:
                self._levels["coarse_head"] = LevelScorer(coarse, head, ordered)
                counted["head_agreement"] = (
                    head.argmax(1) == coarse_predicted,
                    np.ones(len(labels), dtype=bool),
                )
        if predictions.attention_auc is not None:
            known = ~np.isnan(predictions.attention_auc)
            counted["attention_auc"] = np.where(known, predictions.attention_auc, 0), known
        self._counted = {
            key: np.stack([value * over, over], axis=1) for key, (value, over) in counted.items()
        }

    def sums(self, weight: np.ndarray) -> Sums:
        """Sums under R weightings ``[R, B]`` of all metrics that can be resampled."""
        sums = {
            (level, key): r
            for level, scorer in self._levels.items()
            for key, r in scorer.sums(weight).items()
        }
        return sums | {
            ("slide", key): Ratio.of(*(weight @ columns).T)
            for key, columns in self._counted.items()
        }

    def all_sums(self) -> Sums:
        """Sums (R = 1) of all metrics, each slide once."""
        slides = len(next(iter(self._levels.values())))
        once = {
            (level, key): r
            for level, scorer in self._levels.items()
            for key, r in scorer.unweighted_sums().items()
        }
        return {**self.sums(np.ones((1, slides))), **once}
