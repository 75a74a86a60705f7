from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.evaluation.metrics import (
    LEVELS,
    Measure,
    MetricValues,
    attention_auc,
    measure,
    pooled,
)
from mil_bench.evaluation.predictions import Predictions
from mil_bench.hierarchy import LabelHierarchy

FLAT = LabelHierarchy.flat("abcd")
NESTED = LabelHierarchy.from_groups({"left": ["a", "b"], "right": ["c", "d"]})


def probabilities(rows: int, classes: int, seed: int = 0, digits: int = 12) -> np.ndarray:
    """Random rows that sum to 1; few digits make many ties."""
    rounded = np.random.default_rng(seed).dirichlet(np.ones(classes), rows).round(digits)
    rounded[:, -1] = 1 - rounded[:, :-1].sum(1)
    return rounded


def predictions(
    labels: np.ndarray, fine: np.ndarray, head: np.ndarray | None = None
) -> Predictions:
    slides = np.arange(len(labels)).astype(str)
    return Predictions(slides, labels, fine, slides, head)


def flat(labels: np.ndarray, fine: np.ndarray) -> MetricValues:
    """The figures of one fold without a hierarchy."""
    return measure(predictions(labels, fine), LabelHierarchy.flat("abcd"[: fine.shape[1]]))


def fine_value(labels: np.ndarray, fine: np.ndarray, key: str) -> float:
    return flat(labels, fine).values[Measure("fine", key)]


@pytest.mark.parametrize("digits", [12, 1], ids=["without ties", "with ties"])
@pytest.mark.parametrize("seed", range(5))
def test_they_equal_scikit_learns(seed: int, digits: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.arange(60) % 4)
    p = np.abs(probabilities(60, 4, seed, digits))
    found = measure(predictions(labels, p), FLAT, ordered=True).values
    called, hot = p.argmax(1), np.eye(4)[labels]
    expected = {
        "accuracy": (called == labels).mean(),
        "balanced_accuracy": balanced_accuracy_score(labels, called),
        "macro_f1": f1_score(labels, called, average="macro"),
        "macro_auc": roc_auc_score(hot, p, average="macro"),
        "macro_ap": average_precision_score(hot, p, average="macro"),
        "quadratic_kappa": cohen_kappa_score(labels, called, weights="quadratic"),
        "nll": log_loss(labels, p),
        "brier": brier_score_loss(labels, p, scale_by_half=False),
    }
    assert {key: found[Measure("fine", key)] for key in expected} == pytest.approx(
        expected, abs=1e-12
    )
    auc, ap = roc_auc_score(hot, p, average=None), average_precision_score(hot, p, average=None)
    for c, name in enumerate("abcd"):
        assert found[Measure("fine", "auc", name)] == pytest.approx(auc[c], abs=1e-12)
        assert found[Measure("fine", "average_precision", name)] == pytest.approx(ap[c], abs=1e-12)


def test_specificity_is_the_mean_true_negative_rate() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    p = np.eye(3)[[0, 1, 1, 1, 0, 2]]
    # Class 0: 3 of 4 negatives are not called 0; class 1: 3 of 4; class 2: 4 of 4.
    assert fine_value(labels, p, "specificity") == pytest.approx((3 / 4 + 3 / 4 + 1) / 3)


def test_the_sensitivity_of_a_class_is_scikit_learns_recall() -> None:
    labels, p = np.arange(30) % 3, probabilities(30, 3)
    found = flat(labels, p).values
    expected = recall_score(labels, p.argmax(1), average=None)
    for name, value in zip("abc", expected, strict=True):
        assert found[Measure("fine", "sensitivity", name)] == pytest.approx(value)


def test_the_calibration_error_is_the_mean_gap_over_bins_of_confidence() -> None:
    confidence = np.array([0.99, 0.97, 0.99, 0.61, 0.62])
    right = np.array([1, 1, 0, 1, 0])
    p = np.stack([confidence, 1 - confidence], 1)
    top, low = abs(2.95 - 2), abs(1.23 - 1)  # bins (14/15, 1] and (9/15, 10/15]
    assert fine_value(1 - right, p, "ece") == pytest.approx((top + low) / 5)


def test_a_certain_mistake_costs_a_finite_likelihood_as_in_scikit_learn() -> None:
    labels, p = np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert fine_value(labels, p, "nll") == pytest.approx(log_loss(labels, p))


def test_an_absent_class_makes_what_needs_it_undefined_and_never_a_number() -> None:
    found = flat(np.array([0, 0, 1, 1]), probabilities(4, 3)).values
    undefined = {figure for figure, value in found.items() if np.isnan(value)}
    of_all = {
        Measure("fine", key) for key in ("macro_auc", "macro_ap", "macro_f1", "balanced_accuracy")
    }
    assert undefined == of_all | {
        Measure("fine", "auc", "c"),
        Measure("fine", "sensitivity", "c"),
        Measure("fine", "average_precision", "c"),
    }


def test_what_is_undefined_says_why() -> None:
    found = measure(predictions(np.array([0, 0, 1, 1]), probabilities(4, 4)), NESTED)
    assert found.reasons[Measure("fine", "macro_auc")] == "no test slide is c, d"
    assert found.reasons[Measure("fine", "auc", "d")] == "no test slide is d"
    assert found.reasons[Measure("coarse", "macro_auc")] == "all test slides are left"
    assert Measure("fine", "accuracy") not in found.reasons
    perfect = measure(predictions(np.arange(4), np.eye(4)), NESTED)
    assert perfect.reasons == {Measure("slide", "mistakes_inside"): "no slide is misclassified"}


def test_a_fold_with_one_class_has_no_auc_at_all() -> None:
    found = flat(np.zeros(5, dtype=int), probabilities(5, 2)).values
    assert np.isnan([found[Measure("fine", "auc", name)] for name in "ab"]).all()
    assert np.isnan(found[Measure("fine", "specificity")])


def test_the_coarse_level_is_measured_from_lifted_probabilities_and_from_the_head() -> None:
    labels, p, head = np.arange(40) % 4, probabilities(40, 4), probabilities(40, 2, seed=1)
    found = measure(predictions(labels, p, head), NESTED).values
    for level, coarse in (("coarse", NESTED.lift(p)), ("coarse_head", head)):
        auc = roc_auc_score(labels // 2, coarse[:, 1])
        assert found[Measure(level, "auc", "right")] == pytest.approx(auc)
        assert found[Measure(level, "accuracy")] == pytest.approx(
            (coarse.argmax(1) == labels // 2).mean()
        )
    assert found[Measure("slide", "head_agreement")] == pytest.approx(
        (head.argmax(1) == p.argmax(1) // 2).mean()
    )


def test_mild_mistakes_stay_inside_the_coarse_class() -> None:
    labels = np.array([0, 0, 0, 2, 3])
    called = np.array([0, 1, 2, 3, 0])  # right, inside, outside, inside, outside
    found = measure(predictions(labels, np.eye(4)[called]), NESTED).values
    assert found[Measure("slide", "mistakes_inside")] == 2 / 4


def test_pooling_counts_every_prediction_and_ranks_only_within_a_model() -> None:
    folds = [predictions(np.arange(20) % 4, probabilities(20, 4, seed)) for seed in range(3)]
    moved = folds[2].fine * [
        0.1,
        1,
        1,
        1,
    ]  # a model that gives class a a tenth of the odds: the same ranks of a
    folds[2] = predictions(folds[2].labels, moved)
    together = pooled(folds, FLAT).values
    each = [measure(fold, FLAT).values for fold in folds]
    for figure in (
        Measure("fine", "auc", "a"),
        Measure("fine", "accuracy"),
        Measure("fine", "average_precision", "b"),
    ):
        assert together[figure] == pytest.approx(
            np.mean([values[figure] for values in each])
        )  # folds of equal counts
    labels, called = (
        np.concatenate(x) for x in ([f.labels for f in folds], [f.fine.argmax(1) for f in folds])
    )
    assert together[Measure("fine", "macro_f1")] == pytest.approx(
        f1_score(labels, called, average="macro")
    )


def test_a_class_absent_from_one_fold_is_defined_in_the_pool() -> None:
    folds = [
        predictions(np.arange(20) % 3, probabilities(20, 4)),
        predictions(np.arange(20) % 4, probabilities(20, 4)),
    ]
    found = pooled(folds, FLAT)
    assert found.reasons == {}
    labels, called = (
        np.concatenate(x) for x in ([f.labels for f in folds], [f.fine.argmax(1) for f in folds])
    )
    assert found.values[Measure("fine", "macro_f1")] == pytest.approx(
        f1_score(labels, called, average="macro")
    )


@pytest.mark.parametrize("levels", [100, 3], ids=["few ties", "many ties"])
def test_the_attention_auc_equals_scikit_learns(levels: int) -> None:
    rng = np.random.default_rng(0)
    attention, witness = rng.integers(0, levels, 50) / levels, rng.random(50) < 0.2
    assert attention_auc(attention, witness) == pytest.approx(roc_auc_score(witness, attention))


def test_a_slide_without_witnesses_or_with_nothing_else_has_no_attention_auc() -> None:
    attention = np.array([0.2, 0.8])
    assert np.isnan(attention_auc(attention, np.array([False, False])))
    assert np.isnan(attention_auc(attention, np.array([True, True])))


def test_the_attention_auc_of_a_fold_is_the_mean_over_slides_that_have_one() -> None:
    made = predictions(np.arange(4), np.eye(4))
    shown = Predictions(
        made.slides, made.labels, made.fine, made.groups, None, np.array([0.5, np.nan, 1.0, np.nan])
    )
    assert measure(shown, FLAT).values[Measure("slide", "attention_auc")] == 0.75
    none = Predictions(made.slides, made.labels, made.fine, made.groups, None, np.full(4, np.nan))
    reason = measure(none, FLAT).reasons[Measure("slide", "attention_auc")]
    assert reason == "no slide has both witnesses and other instances"


def test_every_figure_is_announced_and_every_announced_metric_is_measured() -> None:
    made = predictions(np.arange(40) % 4, probabilities(40, 4), probabilities(40, 2))
    shown = Predictions(
        made.slides, made.labels, made.fine, made.groups, made.coarse_head, np.full(40, 0.5)
    )
    found = measure(shown, NESTED, ordered=True).values
    assert {(m.level, m.key) for m in found} == {
        (level, key) for key, m in BUILT_IN.items() for level in m.levels
    }
    assert {m.level for m in found} == set(LEVELS)


def test_figures_have_names_for_sentences() -> None:
    assert Measure("fine", "macro_auc").words == "macro AUC"
    assert Measure("coarse", "macro_auc").words == "coarse macro AUC"
    assert Measure("fine", "auc", "FEA").words == "AUC of FEA"


def test_undefined_figures_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(predictions(np.zeros(3, dtype=int), np.eye(4)[[0, 0, 0]]), NESTED, ordered=True)
