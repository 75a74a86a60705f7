from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mil_bench.evaluation.statistics import (
    Ranking,
    corrected_t_test,
    critical_difference,
    holm,
    rank_methods,
)


def test_the_corrected_t_test_equals_a_hand_worked_example() -> None:
    # Mean 0.02, variance (0.01^2 + 0.01^2 + 0 + 0.02^2 + 0.02^2) / 4 = 0.00025; ten test slides to
    # 40 training slides.
    differences = np.array([0.01, 0.03, 0.02, 0.04, 0.00])
    ranking = corrected_t_test(differences, overlap=10 / 40)
    error = np.sqrt((1 / 5 + 10 / 40) * 0.00025)  # 0.010607
    assert error == pytest.approx(0.010607, abs=1e-6)
    assert ranking.mean == pytest.approx(0.02)
    assert ranking.standardised == pytest.approx(0.02 / np.sqrt(0.00025))
    # t = 1.88562 with 4 degrees of freedom; the 97.5 % quantile of that t is 2.776445.
    assert (ranking.low, ranking.high) == pytest.approx(
        (0.02 - 2.776445 * error, 0.02 + 2.776445 * error)
    )
    assert ranking.p == pytest.approx(2 * stats.t.sf(1.88562, 4), abs=1e-5)


def test_without_overlap_it_is_the_ordinary_paired_t_test() -> None:
    a, b = np.random.default_rng(0).random((2, 8))
    expected = stats.ttest_rel(a, b)
    ranking = corrected_t_test(a - b, overlap=0)
    assert ranking.p == pytest.approx(expected.pvalue)
    assert (ranking.low, ranking.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


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
    values = np.random.default_rng(0).random((7, 4)).round(1)  # with ties
    ranking = rank_methods("abcd", values)
    assert isinstance(ranking, Ranking)
    ranks = stats.rankdata(-values, axis=1).mean(0)
    assert ranking.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert dict(zip(ranking.methods, ranking.ranks, strict=True)) == dict(
        zip("abcd", ranks, strict=True)
    )
    assert list(ranking.ranks) == sorted(ranks)


def test_lower_values_rank_first_if_lower_is_better() -> None:
    values = np.array([[1.0, 2.0, 3.0]] * 3)
    assert rank_methods("abc", values, higher_is_better=False).methods == ("a", "b", "c")
    assert rank_methods("abc", values).methods == ("c", "b", "a")


def test_cliques_join_methods_without_a_significant_difference() -> None:
    order = [list(range(8)), [1, 0, 2, 3, 4, 5, 7, 6]] * 6
    ranking = rank_methods("abcdefgh", -np.argsort(order, axis=1).astype(float))
    assert ranking.ranks == pytest.approx((1.5, 1.5, 3, 4, 5, 6, 7.5, 7.5))
    # Ranks closer than the critical difference of 3.03 are joined; runs inside others are left out.
    assert ranking.critical_difference == pytest.approx(3.031, abs=1e-3)
    assert ranking.cliques == ((0, 3), (2, 5), (4, 7))
    assert ranking.worse == ("e", "f", "g", "h")


def test_methods_that_tie_on_every_dataset_do_not_differ() -> None:
    ranking = rank_methods("abc", np.ones((6, 3)))
    assert isinstance(ranking, Ranking)
    assert ranking.p == 1
    assert ranking.cliques == ((0, 2),)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones((1, 3)), "1 dataset, at least 2 are needed"),
        (np.ones((4, 2)), "2 methods, at least 3 are needed"),
        (np.array([[1, 2, np.nan], [1, 2, 3]]), "the value of c is undefined on some of them"),
    ],
)
def test_a_ranking_that_cannot_be_made_says_why(values: np.ndarray, reason: str) -> None:
    assert rank_methods("abc"[: values.shape[1]], values) == reason
