"""Rankings and p-values in words; verdicts in words are tested with the verdicts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.statistics import rank_methods
from mil_bench.report.pair_sentences import p_text
from mil_bench.report.sentences import _other_leaders, ranking_sentence


def test_a_ranking_names_the_methods_that_the_best_one_is_better_than() -> None:
    order = [list(range(8)), [1, 0, 2, 3, 4, 5, 7, 6]] * 6
    ranking = rank_methods("abcdefgh", -np.argsort(order, axis=1).astype(float))
    assert ranking_sentence(ranking).startswith(
        "a and b have the best average rank (1.50) and are better than e, f, g, h. "
        "Friedman's test over 12 datasets: p < .001."
    )


def test_equal_methods_do_not_differ_significantly() -> None:
    assert ranking_sentence(rank_methods("abc", np.ones((6, 3)))) == (
        "No significant difference between the 3 methods. "
        "Friedman's test over 6 datasets: p = 1.00."
    )


def test_a_ranking_over_few_datasets_says_so() -> None:
    ranking = rank_methods("abc", np.array([[3.0, 2.0, 1.0]] * 3))
    assert ranking_sentence(ranking).endswith(
        "With so few datasets only very large differences are significant."
    )


def test_why_there_is_no_ranking_is_a_sentence() -> None:
    assert ranking_sentence(rank_methods("abc", np.ones((1, 3)))) == (
        "Methods cannot be ranked over datasets: 1 dataset, at least 2 are needed."
    )


def test_p_values_are_printed_so_that_the_level_can_be_read() -> None:
    assert [p_text(p) for p in (0.0004, 0.049, 0.0321, 0.5, 1.0)] == [
        "p < .001",
        "p = .049",
        "p = .032",
        "p = .50",
        "p = 1.00",
    ]


def test_other_metrics_with_another_best_method_are_named() -> None:
    values = {
        "a": {"macro_auc": 0.9, "accuracy": 0.5, "balanced_accuracy": 0.4, "specificity": 0.8},
        "b": {"macro_auc": 0.8, "accuracy": 0.6, "balanced_accuracy": 0.5, "specificity": 0.7},
    }

    def of(method: str, measure: Measure) -> np.ndarray:
        return np.array([values[method].get(measure.key, np.nan)])

    given = SimpleNamespace(contestants=["a", "b"], contributions=of)
    pairs = [SimpleNamespace(first="a", second="b")]
    found = _other_leaders(pairs, given, Measure("fine", "macro_auc"))  # type: ignore[arg-type]
    assert found == [
        "By other metrics another method has the best mean: b (accuracy, balanced accuracy). "
        "Verdicts are about macro AUC alone."
    ]
    values["b"] = dict.fromkeys(values["a"], 0.1)
    assert _other_leaders(pairs, given, Measure("fine", "macro_auc")) == []  # type: ignore[arg-type]
