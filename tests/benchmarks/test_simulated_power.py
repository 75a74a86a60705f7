from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from mil_bench.benchmarks.statistics import benchmark, deciding, power_tables, rules
from mil_bench.benchmarks.statistics.benchmark import MEASURES
from mil_bench.benchmarks.statistics.cohort import CLASSES, COUNTS, Cohort, patient_kfold
from mil_bench.benchmarks.statistics.power import (
    CHOSEN,
    FORMER,
    LEVELS,
    Decisions,
    decisions,
)
from mil_bench.benchmarks.statistics.rules import RULES, Evidence
from mil_bench.benchmarks.statistics.scenarios import METHODS, POINTS, SCENARIOS, calibrated, family

from mil_bench.evaluation.bootstrap import bootstrap
from mil_bench.evaluation.comparison import PatientSpread
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.power.pairs import POWER
from mil_bench.evaluation.statistics import corrected_t_test
from mil_bench.report.tables import Cell

SMALL = replace(
    SCENARIOS[0],
    name="small",
    folds=partial(patient_kfold, count=4),
    patients=80,
    slides=200,
)
RNG = np.random.default_rng(0)
GIVEN = Evidence(
    0.02 + 0.03 * RNG.standard_normal((5, 1, 6)),
    PatientSpread(np.full(5, 0.0001), np.eye(5), 100),
    0.2,
)


def test_influences_give_the_fold_mean_and_the_variance_of_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    cohort = Cohort.drawn(rng)
    folds = patient_kfold(rng, cohort)
    # One fold lacks the rarest class, as in a third of the simulated benchmarks.
    tests = [test for _, test in folds]
    tests[0] = tests[0][cohort.label[tests[0]] != COUNTS.argmin()]
    logits = [cohort.noisy_logits(rng) for _ in range(2)]
    present = np.eye(len(COUNTS))[cohort.label]
    ranked = []
    for test in tests:
        predicted = np.stack([cohort.predictions(test, of[test]).fine for of in logits])
        ranked.append(benchmark._ranked(predicted, present[test]))
    parts, influences = benchmark._auc_parts(
        np.stack([auc for _, auc in ranked], 1), [favour for favour, _ in ranked], present, tests
    )
    methods = {
        name: [cohort.predictions(test, of[test]) for test in tests]
        for name, of in zip("ab", logits, strict=True)
    }
    drawn = bootstrap(methods, CLASSES, "patient", replicates=2000)
    by_class = [Measure("fine", "auc", name) for name in CLASSES.fine]
    expected = np.mean([drawn.fold_mean.difference("a", "b", of) for of in by_class], axis=0)
    assert parts[0].mean() - parts[1].mean() == pytest.approx(expected[0])
    by_patient = np.zeros((len(cohort.main), 2))
    np.add.at(by_patient, cohort.patient, influences)
    variance = ((by_patient[:, 0] - by_patient[:, 1]) ** 2).sum()
    assert variance == pytest.approx(np.nanvar(expected[1:]), rel=0.12)


def test_the_rules_are_those_of_their_sources() -> None:
    corrected = [corrected_t_test(of[0], GIVEN.overlap).p for of in GIVEN.differences]
    assert rules.corrected_t(GIVEN) == pytest.approx(corrected)
    assert rules.both_tests(GIVEN) == pytest.approx(np.maximum(corrected, rules.by_patients(GIVEN)))
    assert rules.chosen(GIVEN) == pytest.approx(rules.hidden(0.4)(GIVEN))
    assert (rules.hidden(0.5)(GIVEN) > rules.hidden(0.25)(GIVEN)).all()
    assert (rules.hidden(0.4)(GIVEN) > rules.hidden(0.4, half=False)(GIVEN)).all()


def test_a_benchmark_is_decided_the_same_way_again() -> None:
    signals = np.tile([0.8, 0.83, 0.86, 0.95, 1.15], (2, 1))
    first, again = (decisions(SMALL, signals, "test", 3) for _ in range(2))
    assert np.array_equal(first.found, again.found, equal_nan=True)
    assert np.array_equal(first.alarmed, again.alarmed, equal_nan=True)
    assert first.found.shape[-1] == len(RULES)
    assert np.isnan(first.found[:, :, 0]).all()  # without a difference nothing is to be found
    assert not np.isnan(first.alarmed[1, :, 0]).any()
    if first.incomplete:
        assert (first.found[0, 0, 1:, list(RULES).index(FORMER)] == 0).all()


def test_a_family_holds_the_better_method_once() -> None:
    assert family(0, 0, 3).tolist() == [0, 1, 2]
    better = {int(family(m, p, 2)[0]) for m in (0, 1) for p in range(1, len(POINTS))}
    assert better == set(range(20, 28))


@pytest.mark.slow
def test_calibrated_methods_differ_by_the_stated_points() -> None:
    signals = calibrated(SMALL)
    values = np.nanmean(
        [
            benchmark.simulated(
                SMALL, np.random.default_rng(i), signals[0], np.zeros(len(POINTS), int)
            )
            .contributions[0]
            .mean((1, 2))
            for i in range(150)
        ],
        axis=0,
    )
    assert 100 * (values - values[0]) == pytest.approx(POINTS, abs=0.4)


def decided(alarm_share: float, benchmarks: int = 200) -> list[Decisions]:
    """Benchmarks of which the chosen rule gives a false alarm in this share, all others in none."""
    shape = (len(MEASURES), len(METHODS), len(POINTS))
    made = []
    for i in range(benchmarks):
        alarmed = np.zeros((*shape, len(RULES)))
        alarmed[..., list(RULES).index(CHOSEN)] = i < alarm_share * benchmarks
        found = np.full(alarmed.shape, 0.25)
        made.append(Decisions(found, alarmed, np.zeros((*shape, len(LEVELS))), False))
    return made


@pytest.mark.parametrize(("share", "admissible"), [(0.06, "yes"), (0.12, "no")])
def test_a_rule_is_admissible_up_to_two_standard_errors_above_the_level(
    share: float, admissible: str
) -> None:
    cells = power_tables._rule_table({"calm": decided(0.0), "hard": decided(share)}).cells
    assert cells[CHOSEN]["admissible"] == admissible
    most = cells[CHOSEN]["most false alarms, 10 methods"]
    assert isinstance(most, Cell)
    assert most.mean == pytest.approx(100 * share)
    assert cells[FORMER]["admissible"] == "yes"
    power = cells[CHOSEN]["power, 2 methods"]
    assert isinstance(power, Cell)
    assert power.mean == pytest.approx(25)


@pytest.mark.slow
def test_the_smallest_difference_is_found_about_as_often_as_it_is_said() -> None:
    scenario = next(s for s in SCENARIOS if s.name == "3 folds by patient")
    numbers = range(120)
    smallest = np.nanmedian([deciding.smallest(scenario, i) for i in numbers], axis=0)
    shares = []
    for part in (1, 2 / 3):
        signals = deciding.signals_of(scenario, part * smallest)
        found = np.array([deciding.is_found(scenario, signals, i) for i in numbers])
        shares.append(np.nanmean(found, axis=0))
    # Three Monte-Carlo standard errors of 120 benchmarks. The rule's standard error is cautious on
    # macro AUC; on accuracy a large difference varies more than that of equal methods, so with 200
    # benchmarks only 73 % are found in this scenario, the lowest share of all.
    error = 3 * np.sqrt(POWER * (1 - POWER) / len(numbers))
    assert shares[0][0] > POWER - error
    assert (shares[0] > 0.73 - error).all()
    # It is not much larger than needed: two thirds of it are found less often.
    assert (shares[1] < POWER - error).all()
