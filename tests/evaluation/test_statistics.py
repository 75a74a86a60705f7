from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mil_bench.evaluation.statistics import (
    Ranking,
    corrected_t_test,
    critical_difference,
    holm,
    p_text,
    rank_methods,
)


def test_the_corrected_t_test_equals_a_hand_worked_example() -> None:
    # Mean 0.02, variance (0.01^2 + 0.01^2 + 0 + 0.02^2 + 0.02^2) / 4 = 0.00025; ten test slides to
    # 40 training slides.
    differences = np.array([0.01, 0.03, 0.02, 0.04, 0.00])
    found = corrected_t_test(differences, overlap=10 / 40)
    error = np.sqrt((1 / 5 + 10 / 40) * 0.00025)  # 0.010607
    assert error == pytest.approx(0.010607, abs=1e-6)
    assert found.mean == pytest.approx(0.02)
    assert found.standardised == pytest.approx(0.02 / np.sqrt(0.00025))
    # t = 1.88562 with 4 degrees of freedom; the 97.5 % quantile of that t is 2.776445.
    assert (found.low, found.high) == pytest.approx(
        (0.02 - 2.776445 * error, 0.02 + 2.776445 * error)
    )
    assert found.p == pytest.approx(2 * stats.t.sf(1.88562, 4), abs=1e-5)


def test_without_overlap_it_is_the_ordinary_paired_t_test() -> None:
    a, b = np.random.default_rng(0).random((2, 8))
    expected = stats.ttest_rel(a, b)
    found = corrected_t_test(a - b, overlap=0)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_holm_equals_a_hand_worked_example() -> None:
    # Sorted: .01 x 4, .02 x 3, .03 x 2 = .06 = .06, .2 x 1.
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    # A later, smaller product is raised to the one before it; nothing exceeds 1.
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("methods", "q"),
    [
        (2, 1.960),
        (3, 2.343),
        (4, 2.569),
        (5, 2.728),
        (6, 2.850),
        (7, 2.949),
        (8, 3.031),
        (10, 3.164),
    ],
)
def test_critical_differences_have_the_quantiles_of_demsars_table_5(methods: int, q: float) -> None:
    assert critical_difference(methods, datasets=14) == pytest.approx(
        q * np.sqrt(methods * (methods + 1) / (6 * 14)), abs=1e-3
    )


def test_the_ranking_equals_scipys_friedman_test() -> None:
    figures = np.random.default_rng(0).random((7, 4)).round(1)  # with ties
    found = rank_methods("abcd", figures)
    assert isinstance(found, Ranking)
    ranks = stats.rankdata(-figures, axis=1).mean(0)
    assert found.p == pytest.approx(stats.friedmanchisquare(*figures.T).pvalue)
    assert dict(zip(found.methods, found.ranks, strict=True)) == dict(
        zip("abcd", ranks, strict=True)
    )
    assert list(found.ranks) == sorted(ranks)


def test_lower_figures_rank_first_where_lower_is_better() -> None:
    figures = np.array([[1.0, 2.0, 3.0]] * 3)
    assert rank_methods("abc", figures, higher_is_better=False).methods == ("a", "b", "c")
    assert rank_methods("abc", figures).methods == ("c", "b", "a")


def test_cliques_join_methods_that_are_not_told_apart() -> None:
    order = [list(range(8)), [1, 0, 2, 3, 4, 5, 7, 6]] * 6
    found = rank_methods("abcdefgh", -np.argsort(order, axis=1).astype(float))
    assert found.ranks == pytest.approx((1.5, 1.5, 3, 4, 5, 6, 7.5, 7.5))
    # Ranks closer than the critical difference of 3.03 are joined; runs inside others are left out.
    assert found.critical_difference == pytest.approx(3.031, abs=1e-3)
    assert found.cliques == ((0, 3), (2, 5), (4, 7))
    assert found.sentence.startswith(
        "a has the best average rank (1.50) and is better than e, f, g, h."
    )


def test_equal_methods_are_not_told_apart() -> None:
    found = rank_methods("abc", np.ones((6, 3)))
    assert found.p == 1
    assert found.cliques == ((0, 2),)
    assert found.sentence == (
        "No difference between the 3 methods can be shown. Friedman's test over 6 datasets: p = 1.00."
    )


def test_a_ranking_of_few_datasets_says_so() -> None:
    found = rank_methods("abc", np.array([[3.0, 2.0, 1.0]] * 3))
    assert found.sentence.endswith("3 datasets are few: only very large differences can show.")


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        (np.ones((1, 3)), "1 dataset, at least 2 are needed"),
        (np.ones((4, 2)), "2 methods, at least 3 are needed"),
        (np.array([[1, 2, np.nan], [1, 2, 3]]), "c lack a figure on some of them"),
    ],
)
def test_a_ranking_that_cannot_be_made_says_why(figures: np.ndarray, sentence: str) -> None:
    assert (
        rank_methods("abc"[: figures.shape[1]], figures)
        == f"Methods cannot be ranked over datasets: {sentence}."
    )


def test_p_values_are_printed_so_that_the_level_can_be_read() -> None:
    assert [p_text(p) for p in (0.0004, 0.049, 0.0321, 0.5, 1.0)] == [
        "p < .001",
        "p = .049",
        "p = .032",
        "p = .50",
        "p = 1.00",
    ]
