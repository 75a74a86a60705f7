"""Metrics of one fold. What a fold cannot say is not a number, with the reason beside it.

A class that no test slide of a fold has makes its recall, its F1 and its AUC undefined, and with them the averages
over classes. Elsewhere such averages silently run over the classes that are left; here they are undefined in that
fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, recall_score, roc_auc_score

METRICS: Mapping[str, str] = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "specificity": "Specificity",
    "macro_f1": "Macro F1",
    "macro_auc": "Macro AUC",
}
"""Columns of the result tables and their headings."""


@dataclass(frozen=True)
class LevelMetrics:
    """One fold at one label level.

    Args:
        values: a key of ``METRICS`` to its value, not a number where undefined.
        classwise_auc: one-vs-rest AUC of each class, not a number where the class has no slide or every slide.
        absent: indices of classes without a test slide.
    """

    values: Mapping[str, float]
    classwise_auc: tuple[float, ...]
    absent: tuple[int, ...]


def level_metrics(labels: np.ndarray, probabilities: np.ndarray) -> LevelMetrics:
    """Metrics from labels ``[B]`` and probabilities ``[B, C]``.

    Accuracy: share of slides whose most probable class is right. Balanced accuracy: mean recall (sensitivity) of the
    classes. Specificity: mean over classes of the share of other classes' slides that are not called that class.
    Macro F1 and macro one-vs-rest AUC: unweighted means over the classes.
    """
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    absent = tuple(int(c) for c in classes if not (labels == c).any())
    aucs = tuple(_one_vs_rest(labels == c, probabilities[:, c]) for c in classes)
    average = {"labels": classes, "average": "macro", "zero_division": 0.0}
    values = {
        "accuracy": float(np.mean(predicted == labels)),
        "balanced_accuracy": np.nan if absent else recall_score(labels, predicted, **average),
        "specificity": _specificity(labels, predicted, classes),
        "macro_f1": np.nan if absent else f1_score(labels, predicted, **average),
        "macro_auc": float(np.mean(aucs)),  # not a number as soon as one class has none
    }
    return LevelMetrics(values, aucs, absent)


def _one_vs_rest(positive: np.ndarray, score: np.ndarray) -> float:
    return float(roc_auc_score(positive, score)) if 0 < positive.sum() < len(positive) else float("nan")


def _specificity(labels: np.ndarray, predicted: np.ndarray, classes: np.ndarray) -> float:
    matrix = confusion_matrix(labels, predicted, labels=classes)
    negatives = matrix.sum() - matrix.sum(1)
    false_positives = matrix.sum(0) - matrix.diagonal()
    if not negatives.all():
        return float("nan")
    return float(np.mean(1 - false_positives / negatives))
