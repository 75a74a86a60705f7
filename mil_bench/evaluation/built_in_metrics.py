"""The built-in metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.metric import Metric
from mil_bench.evaluation.weighted_sums import Ratio, Weighted

if TYPE_CHECKING:
    from collections.abc import Mapping

BINS = 15
"""Equal-width bins of the confidence for the expected calibration error (Guo et al., ICML 2017)."""
_AP_NOTE = (
    "It increases if fewer slides are compared or slides are drawn twice, so there is no bootstrap "
    "interval."
)


def _auc(weighted: Weighted) -> Ratio:
    return Ratio.of(weighted.concordant, weighted.labelled * weighted.others)


def _average_precision(weighted: Weighted) -> Ratio:
    """Every slide counts once, not by its weight."""
    rankings = weighted.scores.rankings
    precision = np.array([ranking.precision() for ranking in rankings])
    slides = np.bincount(weighted.labels, minlength=len(rankings))
    return Ratio.of(precision[None], slides[None])


def _specificity(weighted: Weighted) -> Ratio:
    others = weighted.others
    return Ratio.of(others - weighted.called + weighted.right, others)


def _f1(weighted: Weighted) -> Ratio:
    whole = weighted.labelled + weighted.called
    return Ratio.of(2 * weighted.right, whole, exists=weighted.labelled)


def _kappa(weighted: Weighted) -> Ratio | None:
    """Disagreement avoided, of that expected by chance; disagreement: squared class distance."""
    if not weighted.ordered:
        return None
    confusion = weighted.confusion
    classes = np.arange(confusion.shape[1])
    distance = (classes[:, None] - classes) ** 2
    labelled, called = confusion.sum(2), confusion.sum(1)
    total = labelled.sum(1)
    by_chance = np.einsum("rc,cd,rd->r", labelled, distance, called) / np.where(total > 0, total, 1)
    return Ratio.of(by_chance - (confusion * distance).sum((1, 2)), by_chance)


def _calibration_error(weighted: Weighted) -> Ratio:
    """Gap between confidence and accuracy per bin; every slide counts once, not by its weight."""
    labels, probabilities = weighted.labels, weighted.probabilities
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    # A bin holds its upper edge.
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, confidence - right, BINS)
    return Ratio.of(gaps[None], np.full((1, BINS), len(labels)))


def _mistakes_inside(weighted: Weighted) -> Ratio | None:
    hierarchy, labels = weighted.hierarchy, weighted.labels
    if hierarchy.is_flat:
        return None
    predicted = weighted.probabilities.argmax(1)
    same = hierarchy.coarse_of(labels) == hierarchy.coarse_of(predicted)
    return Ratio.share(weighted.weight, same, labels != predicted)


def _head_agreement(weighted: Weighted) -> Ratio | None:
    hierarchy, head = weighted.hierarchy, weighted.predictions.coarse_head
    if hierarchy.is_flat or head is None:
        return None
    predicted = hierarchy.coarse_of(weighted.probabilities.argmax(1))
    every = np.ones(len(weighted.labels), dtype=bool)
    return Ratio.share(weighted.weight, head.argmax(1) == predicted, every)


def _attention_auc(weighted: Weighted) -> Ratio | None:
    values = weighted.predictions.attention_auc
    if values is None:
        return None
    defined = ~np.isnan(values)
    return Ratio.share(weighted.weight, np.where(defined, values, 0), defined)


BUILT_IN: Mapping[str, Metric] = {
    "accuracy": Metric(
        "Accuracy",
        "accuracy",
        "Share of slides whose most probable class is right.",
        lambda weighted: Ratio.of(weighted.right.sum(1), weighted.total),
    ),
    "balanced_accuracy": Metric(
        "Balanced accuracy",
        "balanced accuracy",
        "Mean recall (sensitivity) over classes.",
        lambda weighted: Ratio.of(weighted.right, weighted.labelled),
    ),
    "specificity": Metric(
        "Specificity",
        "specificity",
        "Mean over classes of the share of other classes' slides that are not predicted as the "
        "class.",
        _specificity,
    ),
    "macro_f1": Metric("Macro F1", "macro F1", "Unweighted mean of the classes' F1.", _f1),
    "macro_auc": Metric(
        "Macro AUC", "macro AUC", "Unweighted mean of the classes' one-vs-rest AUC.", _auc
    ),
    "auc": Metric("AUC", "AUC", "One-vs-rest AUC of one class.", _auc, reduction=None),
    "sensitivity": Metric(
        "Sensitivity",
        "sensitivity",
        "Share of a class's slides that are predicted as the class. Who always predicts one class "
        "has 100 % there, so the best is not marked.",
        lambda weighted: Ratio.of(weighted.right, weighted.labelled),
        reduction=None,
        ranked=False,
    ),
    "nll": Metric(
        "NLL",
        "negative log-likelihood",
        "Mean of -log p(label), natural logarithm; probabilities of 0 count as 2.2e-16.",
        lambda weighted: Ratio.of(weighted.log_loss, weighted.total),
        higher_is_better=False,
        percent=False,
    ),
    "brier": Metric(
        "Brier",
        "Brier score",
        "Squared difference between the probabilities and the one-hot label, summed over classes, "
        "mean over slides: 0 to 2.",
        lambda weighted: Ratio.of(weighted.brier, weighted.total),
        higher_is_better=False,
        percent=False,
    ),
    "quadratic_kappa": Metric(
        "Quadratic kappa",
        "quadratic kappa",
        "Quadratic weighted kappa; for ordered classes only.",
        _kappa,
        percent=False,
        ordered_only=True,
    ),
    "mistakes_inside": Metric(
        "Mistakes inside",
        "share of mild mistakes",
        "Of the slides with a wrong fine class, the share whose coarse class is right; higher "
        "means milder mistakes. Every method has its own mistakes, so the best is not marked.",
        _mistakes_inside,
        undefined="no slide is misclassified",
        levels=("slide",),
        ranked=False,
    ),
    "head_agreement": Metric(
        "Head agreement",
        "agreement of the heads",
        "Share of slides whose coarse head predicts the parent of the most probable fine class; "
        "both can be wrong, so the best is not marked.",
        _head_agreement,
        levels=("slide",),
        ranked=False,
    ),
    "attention_auc": Metric(
        "Attention AUC",
        "attention AUC",
        "Mean over slides of the AUC of their attention for finding their witness instances.",
        _attention_auc,
        undefined="no slide has both witnesses and other instances",
        levels=("slide",),
    ),
    "macro_ap": Metric(
        "Macro AP",
        "macro average precision",
        f"Unweighted mean of the classes' one-vs-rest average precision. {_AP_NOTE}",
        _average_precision,
        resampled=False,
    ),
    "average_precision": Metric(
        "AP",
        "average precision",
        f"One-vs-rest average precision of one class. {_AP_NOTE}",
        _average_precision,
        reduction=None,
        resampled=False,
    ),
    "ece": Metric(
        "ECE",
        "calibration error",
        f"Expected calibration error of the most probable class, {BINS} bins of equal width. It is "
        "biased upwards on few slides, and on resampled ones, so there is no bootstrap interval. A "
        "constant prediction can have none, so the best is not marked.",
        _calibration_error,
        reduction=lambda values: np.abs(values).sum(1),
        higher_is_better=False,
        resampled=False,
        ranked=False,
    ),
}
"""By key."""
