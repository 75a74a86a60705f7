"""A repeated cross-validation: a patient counts once, with all predictions of all repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mil_bench.evaluation.bootstrap import draws
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.evaluation.verdicts import Evidence, verdicts
from mil_bench.hierarchy import LabelHierarchy

HIERARCHY = LabelHierarchy.flat(["a", "b", "c"])
ACCURACY = Measure("fine", "accuracy")
PATIENTS, SLIDES, FOLDS, REPEATS = 30, 120, 3, 2
LABELS = np.arange(SLIDES) % 3
PATIENT = np.array([f"p{i // 4:02d}" for i in range(SLIDES)])


def trained(skill: float) -> list[TrainedFold]:
    """Folds of two repeats, in which patients are dealt to other folds."""
    folds = []
    for repeat in range(REPEATS):
        dealt = np.random.default_rng(repeat).permutation(PATIENTS) % FOLDS
        for k in range(FOLDS):
            test = np.flatnonzero(dealt[np.arange(SLIDES) // 4] == k)
            rng = np.random.default_rng((repeat, k, int(100 * skill)))
            of_fold = skill + rng.standard_normal()  # more than test patients explain
            logits = of_fold * np.eye(3)[LABELS[test]] + rng.standard_normal((len(test), 3))
            fine = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            predictions = Predictions(test.astype(str), LABELS[test], fine, PATIENT[test])
            folds.append(TrainedFold(0, repeat * FOLDS + k, str(skill), predictions))
    return folds


@pytest.fixture(scope="module")
def given() -> Evidence:
    methods = {"good": trained(1.5), "fair": trained(1.0)}
    sizes = ((80, 40),) * (FOLDS * REPEATS)
    return Evidence(methods, HIERARCHY, sizes, 1, "patient", repeats=REPEATS, replicates=300)


def test_a_drawn_patient_brings_the_predictions_of_all_repeats(given: Evidence) -> None:
    found = given.bootstrap.fold_mean.difference("good", "fair", ACCURACY)
    times = np.concatenate(draws(PATIENTS, 300))  # [1 + 300, patients], in the order of names
    for draw in (0, 1, 17, 300):
        accuracies = {}
        for method, folds in given.trained.items():
            right = total = 0.0
            for fold in folds:
                known = fold.predictions
                weight = [times[draw, int(patient[1:])] for patient in known.groups]
                hits = known.fine.argmax(1) == known.labels
                right += (hits * weight).sum() / len(hits)  # each fold counts once
                total += sum(weight) / len(hits)
            accuracies[method] = right / total
        assert found[draw] == pytest.approx(accuracies["good"] - accuracies["fair"])


def test_the_spread_is_that_within_repeats_and_repeats_divide_it(given: Evidence) -> None:
    (pair,) = verdicts(given, ACCURACY)
    by_fold = given.by_fold("good", ACCURACY) - given.by_fold("fair", ACCURACY)
    drawn = given.bootstrap.fold_mean.difference("good", "fair", ACCURACY)
    patients = drawn[1:].var(ddof=1)
    within = np.mean([by_fold[:FOLDS].var(ddof=1), by_fold[FOLDS:].var(ddof=1)]) / FOLDS
    visible = max(0, within - patients) / REPEATS
    error = np.sqrt(patients * (1 + 0.4 * FOLDS * 0.5) + visible)
    assert visible > 0
    assert abs(pair.difference) == pytest.approx(abs(by_fold.mean()))
    assert pair.p == pytest.approx(2 * stats.t.sf(abs(by_fold.mean()) / error, PATIENTS / 2))
    assert pair.folds == FOLDS * REPEATS


def test_folds_are_counted_per_repeat(given: Evidence) -> None:
    two = replace(given, repeats=3)
    (pair,) = verdicts(two, ACCURACY)
    assert pair.reason == "only 2 folds per repeat, 3 are needed"
