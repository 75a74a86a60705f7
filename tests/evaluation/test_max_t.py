from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from mil_bench.evaluation.max_t import (
    adjusted,
    correlation_of,
    critical_value,
    critical_values,
    shrunken_correlation,
)
from mil_bench.evaluation.statistics import holm

P_VALUES = np.array([0.003, 0.3, 0.012, 0.04])
SCORES = stats.norm.isf(P_VALUES / 2)


def of_pairs(methods: int) -> np.ndarray:
    """Correlation of all differences between methods that are independent of each other."""
    pairs = list(combinations(range(methods), 2))
    contrasts = np.array([[(k == a) - (k == b) for k in range(methods)] for a, b in pairs])
    return contrasts @ contrasts.T / 2


def test_p_values_equal_a_plain_double_loop() -> None:
    correlation = np.array(
        [[1, 0.8, 0.5, 0], [0.8, 1, 0.6, -0.3], [0.5, 0.6, 1, 0], [0, -0.3, 0, 1]]
    )
    drawn = np.random.default_rng(0).multivariate_normal(np.zeros(4), correlation, 40_000)
    expected, previous = {}, 0.0
    remaining = [0, 1, 2, 3]
    while remaining:
        best = max(remaining, key=lambda k: SCORES[k])
        exceeds = 0
        for vector in drawn:
            exceeds += max(abs(vector[k]) for k in remaining) >= SCORES[best]
        previous = expected[best] = max(previous, exceeds / len(drawn))
        remaining.remove(best)
    found = adjusted(SCORES, correlation)
    for k, p in expected.items():
        assert found[k] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / len(drawn)))


def test_independent_tests_get_sidaks_p_values_which_are_nearly_holms() -> None:
    found = adjusted(SCORES, np.eye(4), step_down=False)
    assert found == pytest.approx(1 - (1 - P_VALUES) ** 4, rel=0.01)
    step_down = adjusted(SCORES, np.eye(4))
    remaining = np.array([4, 1, 3, 2])
    assert step_down == pytest.approx(1 - (1 - P_VALUES) ** remaining, rel=0.01)
    assert step_down == pytest.approx(holm(P_VALUES.tolist()), rel=0.03)


def test_it_loses_fewer_rejections_than_holm_if_tests_are_correlated() -> None:
    correlation = np.full((10, 10), 0.9) + 0.1 * np.eye(10)
    p = np.array([0.008, 0.01, 0.011, 0.012, 0.013, 0.2, 0.3, 0.4, 0.5, 0.6])
    found, by_holm = adjusted(stats.norm.isf(p / 2), correlation), np.array(holm(p.tolist()))
    assert (by_holm < 0.05).sum() == 0
    assert (found < 0.05).sum() == 5
    assert (p <= found).all()
    assert (found <= by_holm).all()


def test_all_pairs_of_independent_methods_are_tukeys_test() -> None:
    correlation = of_pairs(8)
    quantile = stats.studentized_range.isf(0.05, 8, np.inf) / np.sqrt(2)
    assert critical_value(correlation) == pytest.approx(quantile, abs=0.01)
    scores = np.append(3.3, np.ones(27))
    tukey = stats.studentized_range.sf(3.3 * np.sqrt(2), 8, np.inf)
    assert adjusted(scores, correlation)[0] == pytest.approx(tukey, rel=0.05)


def test_the_critical_value_is_where_the_largest_becomes_significant() -> None:
    correlation = of_pairs(5)
    critical = critical_value(correlation, 0.05)
    at = adjusted(np.append(critical, np.zeros(9)), correlation)[0]
    assert at == pytest.approx(0.05, abs=1e-4)
    assert critical_value(correlation, 0.1) < critical


def test_one_test_alone_is_the_t_test() -> None:
    found = adjusted(np.array([-2.5]), np.eye(1), 9)
    assert found == pytest.approx([2 * stats.t.sf(2.5, 9)])
    assert critical_values(np.eye(1), np.array([4, np.inf])) == pytest.approx([2.776445, 1.959964])


def test_every_statistic_has_its_own_degrees_of_freedom() -> None:
    given = np.array([3.0, 3.0])
    few, many = adjusted(given, np.eye(2), np.array([2, np.inf]), step_down=False)
    p = 2 * np.array([stats.t.sf(3, 2), stats.norm.sf(3)])
    assert [few, many] == pytest.approx(1 - (1 - p) ** 2, rel=0.01)


def test_draws_do_not_limit_how_small_a_p_value_can_be() -> None:
    scores = np.append(9.0, np.zeros(189))
    (p, *_) = adjusted(scores, of_pairs(20))
    assert p == pytest.approx(190 * 2 * stats.norm.sf(9))


def test_copies_of_a_test_need_no_adjustment() -> None:
    assert adjusted(np.full(6, 2.0), np.ones((6, 6))) == pytest.approx(2 * stats.norm.sf(2.0))


def test_draws_without_a_value_are_left_out_of_the_correlation() -> None:
    draws = np.random.default_rng(0).standard_normal((3, 50))
    draws[1] += draws[0]
    expected = np.corrcoef(draws)
    with_gap = np.insert(draws, 7, np.array([np.nan, 1, 1]), axis=1)
    assert correlation_of(with_gap) == pytest.approx(expected)
    draws[2] = 0.3
    constant = correlation_of(draws)
    assert constant[2].tolist() == [0, 0, 1]


def test_correlations_over_few_folds_are_shrunk_by_one_factor() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 10)) + 1.5 * rng.standard_normal(10)
    shrunken, plain = shrunken_correlation(values), np.corrcoef(values)
    off = ~np.eye(6, dtype=bool)
    factors = shrunken[off] / plain[off]
    assert factors == pytest.approx(factors[0])
    assert 0.3 < factors[0] < 1
    assert np.diag(shrunken).tolist() == [1] * 6
    assert shrunken_correlation(values[:, :2]) == pytest.approx(np.corrcoef(values[:, :2]))
