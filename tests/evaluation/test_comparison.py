from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mil_bench.evaluation.comparison import PatientSpread, compared, contributions, variances
from mil_bench.evaluation.statistics import corrected_t_test

RNG = np.random.default_rng(0)
DIFFERENCES = 0.03 + 0.02 * RNG.standard_normal((3, 1, 10))
DRAWS = 0.03 + 0.008 * RNG.standard_normal((3, 2001))
PATIENTS = PatientSpread.of_draws(DRAWS, 200)


def alone(variance: float, patients: int = 200) -> PatientSpread:
    return PatientSpread(np.array([variance]), np.eye(1), patients)


def test_a_pair_equals_a_hand_worked_example() -> None:
    # Mean .03, variance over 4 folds .0004, so .0001 of the mean; patients explain .00006 of it.
    differences = np.array([[[0.01, 0.05, 0.01, 0.05]]])
    assert differences.var(ddof=1) == pytest.approx(0.0016 / 3)
    # Hidden: .4 x 4 folds x .25 x .00006 = .000024; visible: .0016 / 12 - .00006 = .0000733.
    variance = 0.00006 + 0.000024 + 0.0016 / 12 - 0.00006
    found = compared(differences, 0.25, alone(0.00006, patients=60))
    error = np.sqrt(variance)
    reach = stats.t.isf(0.025, 30) * error
    assert found.difference == pytest.approx([0.03])
    assert found.error == pytest.approx([error])
    assert found.degrees_of_freedom == pytest.approx([30])
    assert found.p == pytest.approx([2 * stats.t.sf(0.03 / error, 30)])
    assert found.adjusted == pytest.approx(found.p)
    assert (found.low[0], found.high[0]) == pytest.approx((0.03 - reach, 0.03 + reach))
    assert (found.joint_low[0], found.joint_high[0]) == pytest.approx((0.03 - reach, 0.03 + reach))


def test_spread_that_patients_explain_adds_nothing() -> None:
    differences = np.array([[[0.02, 0.03, 0.04, 0.03]]])
    variance, _ = variances(differences, 0.25, alone(0.001))
    assert variance == pytest.approx([0.001 * (1 + 0.4)])


def test_repeats_share_the_spread_between_trainings() -> None:
    once = np.array([[[0.0, 0.1, 0.0, 0.1]]])
    (single,), _ = variances(once, 0.0, alone(0.0001))
    (repeated,), _ = variances(np.repeat(once, 3, axis=1), 0.0, alone(0.0001))
    assert repeated - 0.0001 == pytest.approx((single - 0.0001) / 3)


def test_the_variance_of_a_single_split_is_doubled() -> None:
    variance, degrees = variances(np.array([[[0.02]]]), 0.5, alone(0.0004, patients=63))
    assert variance == pytest.approx([0.0008])
    assert degrees == pytest.approx([31.5])


def test_without_patients_the_corrected_t_test_decides() -> None:
    found = compared(DIFFERENCES, 0.125, None)
    for k in range(3):
        expected = corrected_t_test(DIFFERENCES[k, 0], 0.125)
        ends = found.difference[k], found.low[k], found.high[k], found.p[k]
        assert ends == pytest.approx((expected.mean, expected.low, expected.high, expected.p))
    assert (found.adjusted >= found.p).all()
    assert (found.adjusted <= 3 * found.p).all()


def test_all_intervals_and_p_values_agree_with_each_other() -> None:
    found = compared(DIFFERENCES, 0.125, PATIENTS)
    assert (found.joint_low < found.low).all()
    assert (found.high < found.joint_high).all()
    assert ((found.p < 0.05) == (found.low > 0)).all()
    # Step-down tests reject whatever lies outside the joint interval.
    assert found.better[found.joint_low > 0].all()


def test_a_difference_is_equivalent_if_its_interval_is_inside_the_margin() -> None:
    found = compared(DIFFERENCES, 0.125, PATIENTS)
    margin = float(found.joint_high[0])
    assert found.equivalent(margin + 1e-6)[0]
    assert not found.equivalent(margin - 1e-6)[0]
    mirrored = compared(-DIFFERENCES, 0.125, PATIENTS)
    assert (mirrored.equivalent(0.05) == found.equivalent(0.05)).all()


def test_methods_that_differ_nowhere_are_neither_better_nor_shown_to_be_equivalent() -> None:
    """Two perfect methods can differ on other slides; an interval without width does not say."""
    found = compared(np.zeros((1, 1, 5)), 0.25, alone(0.0))
    assert (found.p[0], found.adjusted[0], found.low[0], found.high[0]) == (1, 1, 0, 0)
    assert not found.better.any()
    assert not found.equivalent(0.01).any()


def test_the_same_difference_for_all_patients_is_certain() -> None:
    found = compared(np.full((1, 1, 5), 0.2), 0.25, alone(0.0))
    assert found.adjusted.tolist() == [0]


def test_nothing_is_tested_if_neither_folds_nor_patients_vary() -> None:
    constant = np.concatenate([DIFFERENCES, np.full((1, 1, 10), 0.2), np.zeros((1, 1, 10))])
    found = compared(constant, 0.25, None)
    assert np.isnan([found.p[3], found.adjusted[3], found.low[3], found.joint_high[3]]).all()
    assert (found.p[4], found.adjusted[4], found.low[4]) == (1, 1, 0)
    assert not np.isnan(found.adjusted[:3]).any()
    assert np.isnan(compared(constant[:, :, :1], 0.25, None).p[:3]).all()


def test_draws_without_a_value_are_left_out() -> None:
    draws = DRAWS.copy()
    draws[1, 5] = np.nan
    found = PatientSpread.of_draws(draws, 200)
    assert found.variance[1] == pytest.approx(np.delete(DRAWS[1, 1:], 4).var(ddof=1))
    assert found.variance[0] == pytest.approx(DRAWS[0, 1:].var(ddof=1))


def test_contributions_are_the_macro_values_if_no_class_is_missing() -> None:
    values = RNG.random((2, 5, 4))
    assert contributions(values) == pytest.approx(values.mean(-1))


def test_a_class_counts_by_its_mean_over_the_folds_that_have_it() -> None:
    values = np.array([[0.8, 0.6], [0.9, np.nan], [0.7, 0.8], [0.8, np.nan]])
    found = contributions(values)
    assert found.mean() == pytest.approx((0.8 + 0.7) / 2)
    # In fold 0 the second class is .1 below its mean, and counts twice: half of the folds have it.
    assert found == pytest.approx([(0.8 + 0.5) / 2, (0.9 + 0.7) / 2, (0.7 + 0.9) / 2, 0.75])
    values[0, 1] = np.nan
    assert np.isnan(contributions(values)).all()
