from __future__ import annotations

import numpy as np
import pytest
from mil_bench.benchmarks.statistics import rare
from mil_bench.benchmarks.statistics.cohort import (
    COUNTS,
    FOLDS,
    SLIDES,
    Cohort,
    monte_carlo,
    one_split,
    patient_kfold,
)
from mil_bench.benchmarks.statistics.coverage import COVERED, KINDS, UNITS, intervals
from mil_bench.benchmarks.statistics.false_alarms import (
    SCENARIOS,
    TESTED,
    TESTS,
    Scenario,
    p_values,
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort.drawn(np.random.default_rng(0))


def test_slides_of_a_patient_are_alike_in_label_and_noise(cohort: Cohort) -> None:
    first, second = (np.flatnonzero(np.diff(cohort.patient) == 0) + i for i in (0, 1))
    assert (cohort.label[first] == cohort.label[second]).mean() > 2 * np.square(
        COUNTS / COUNTS.sum()
    ).sum()
    noise = cohort.noise(np.random.default_rng(0), 50)
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert np.mean(noise[first] * noise[second]) == pytest.approx(0.7**2, abs=0.05)


def test_the_splits_are_those_of_the_protocols(cohort: Cohort) -> None:
    rng = np.random.default_rng(0)
    for train, test in monte_carlo(rng, cohort):
        assert not set(train) & set(test)
        assert len(test) == pytest.approx(SLIDES / 10, abs=len(COUNTS))
        assert len(train) == pytest.approx(0.8 * SLIDES, abs=2 * len(COUNTS))
        assert set(cohort.patient[train]) & set(cohort.patient[test])
    folds = patient_kfold(rng, cohort)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(SLIDES))
    assert len(folds) == FOLDS
    for train, test in [*folds, *one_split(rng, cohort)]:
        assert not set(cohort.patient[train]) & set(cohort.patient[test])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_simulated_verdict_is_at_least_as_cautious_as_the_bootstrap_alone(
    scenario: Scenario,
) -> None:
    simulated = np.array(p_values(scenario, 3))
    assert simulated.shape == (len(TESTED), len(TESTS))
    for *_, by_patients, verdict in simulated:
        # The variance over patients is a part of the rule's. The p-value of the bootstrap is a
        # share of 400 draws.
        assert by_patients - 0.03 < verdict <= 1
    assert np.array_equal(simulated, np.array(p_values(scenario, 3)), equal_nan=True)


def test_simulated_intervals_hold_their_value() -> None:
    simulated = intervals(0)
    assert simulated.shape == (len(UNITS), len(KINDS), len(COVERED), 3)
    value, low, high = np.moveaxis(simulated, -1, 0)
    given = ~np.isnan(low)
    assert given.mean() > 0.9
    assert ((low < value) & (value < high))[given].all()


@pytest.mark.slow
def test_the_true_auc_of_the_rare_class_is_what_many_patients_give() -> None:
    simulated = np.array([rare.intervals(repeat) for repeat in range(20)])[
        :, rare.CLASS_PATIENTS.index(40)
    ]
    assert simulated.mean() == pytest.approx(
        rare.TRUTH, abs=0.02
    )  # middles of intervals lie around it
    assert (simulated[:, 0] < simulated[:, 1]).all()


def test_means_over_classes_with_a_rare_class_have_intervals_around_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rare, "MACRO_PATIENTS", (3, 30))
    monkeypatch.setattr(rare, "_POPULATION", 2)
    low, high = np.moveaxis(rare.macro_intervals(0), 2, 0)  # [sizes, measures]
    truths = rare.macro_truths()
    # More than 5 % of the draws lack a class of three patients.
    assert np.isnan(low[0, 0])
    assert (low[1] < high[1]).all()
    assert (np.abs(truths[1] - (low[1] + high[1]) / 2) < high[1] - low[1]).all()
