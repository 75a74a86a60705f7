from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from mil_bench.evaluation.metrics import METRICS, level_metrics


def probabilities(rows: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), rows)


def test_they_equal_scikit_learns() -> None:
    labels = np.arange(60) % 4
    p = probabilities(60, 4)
    found = level_metrics(labels, p)
    assert found.values["accuracy"] == (p.argmax(1) == labels).mean()
    assert found.values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, p.argmax(1)))
    assert found.values["macro_f1"] == pytest.approx(f1_score(labels, p.argmax(1), average="macro"))
    assert found.values["macro_auc"] == pytest.approx(roc_auc_score(labels, p, multi_class="ovr", average="macro"))
    assert found.values.keys() == METRICS.keys()
    assert found.absent == ()


def test_specificity_is_the_mean_true_negative_rate() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    p = np.eye(3)[[0, 1, 1, 1, 0, 2]]
    # Class 0: 3 of 4 negatives are not called 0; class 1: 3 of 4; class 2: 4 of 4.
    assert level_metrics(labels, p).values["specificity"] == pytest.approx((3 / 4 + 3 / 4 + 1) / 3)


def test_an_absent_class_makes_what_needs_it_undefined_and_never_a_number() -> None:
    labels = np.array([0, 0, 1, 1])
    found = level_metrics(labels, probabilities(4, 3))
    assert found.absent == (2,)
    assert np.isnan(found.classwise_auc[2])
    assert np.isfinite(found.classwise_auc[:2]).all()
    assert all(np.isnan(found.values[key]) for key in ("macro_auc", "macro_f1", "balanced_accuracy"))
    assert all(np.isfinite(found.values[key]) for key in ("accuracy", "specificity"))


def test_a_fold_with_one_class_has_no_auc_at_all() -> None:
    found = level_metrics(np.zeros(5, dtype=int), probabilities(5, 2))
    assert np.isnan(found.classwise_auc).all()
    assert np.isnan(found.values["specificity"])
