"""The smallest difference that a run shows, and how it changes with the size of the comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.power.pairs import (
    MOST_PATIENTS,
    PairPower,
    outlook_of,
    pair_power,
    smallest_difference,
)
from mil_bench.evaluation.power.spread import Design, Spread, most_folds, spreads
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.evaluation.verdicts import Evidence, verdicts
from mil_bench.hierarchy import LabelHierarchy

HIERARCHY = LabelHierarchy.flat(["a", "b", "c"])
ACCURACY = Measure("fine", "accuracy")
PATIENTS, PER_PATIENT = 60, 2
SLIDES = PATIENTS * PER_PATIENT
TEN = Design(10, 1, 1, 100)
TAIL = 0.025


def trained(method: int, repeats: int, folds: int, seeds: int) -> list[TrainedFold]:
    """Trainings whose predictions have a lasting part, and chance of repeats, folds and seeds."""
    labels = np.arange(SLIDES) % 3
    patient = np.arange(SLIDES) // PER_PATIENT
    lasting = np.random.default_rng(method).standard_normal((SLIDES, 3))
    made = []
    for repeat in range(repeats):
        dealt = np.random.default_rng((7, repeat)).permutation(PATIENTS) % folds
        for k in range(folds):
            test = np.flatnonzero(dealt[patient] == k)
            of_fold = np.random.default_rng((method, repeat, k))
            skill = 1.0 + 0.4 * of_fold.standard_normal()
            chance = of_fold.standard_normal((len(test), 3))
            for seed in range(seeds):
                of_seed = np.random.default_rng((method, repeat, k, seed))
                noise = lasting[test] + chance + of_seed.standard_normal((len(test), 3))
                logits = skill * np.eye(3)[labels[test]] + noise
                fine = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                groups = np.array([f"p{p:03d}" for p in patient[test]])
                predictions = Predictions(test.astype(str), labels[test], fine, groups)
                made.append(TrainedFold(seed, repeat * folds + k, str(method), predictions))
    return made


def evidence(repeats: int = 1, folds: int = 4, seeds: int = 1, methods: int = 3) -> Evidence:
    sizes = ((SLIDES - SLIDES // folds, SLIDES // folds),) * (folds * repeats)
    of_methods = {f"m{m}": trained(m, repeats, folds, seeds) for m in range(methods)}
    return Evidence(
        of_methods, HIERARCHY, sizes, seeds, "patient", repeats=repeats, replicates=1000
    )


def test_the_smallest_difference_is_found_with_the_stated_probability() -> None:
    for degrees, tail in ((30, 0.025), (95, 0.025), (95, 0.001)):
        found = smallest_difference(0.02, degrees, tail)
        critical = stats.t.isf(tail, degrees)
        assert stats.nct.sf(critical, degrees, found / 0.02) == pytest.approx(0.8, abs=1e-6)
    # By the normal distribution: 1.96 + .84 standard errors.
    assert smallest_difference(1.0, 1e6, 0.025) == pytest.approx(1.960 + 0.842, abs=0.001)


@pytest.mark.parametrize(
    ("repeats", "folds", "seeds"), [(1, 4, 1), (1, 4, 2), (3, 4, 1), (2, 3, 2)]
)
def test_the_runs_own_design_has_the_standard_error_of_the_verdict(
    repeats: int, folds: int, seeds: int
) -> None:
    given = evidence(repeats, folds, seeds)
    found = verdicts(given, ACCURACY)
    pairs = [(v.first, v.second) for v in found]
    for spread, verdict in zip(spreads(given, ACCURACY, pairs), found, strict=True):
        assert spread.design == Design(folds, repeats, seeds, PATIENTS)
        assert spread.variance(spread.design) == pytest.approx(verdict.error**2)
        assert spread.least_variance(spread.design) <= verdict.error**2


def test_a_single_split_has_the_doubled_varianceover_patients() -> None:
    split = Spread(Design(1, 1, 1, 100), 0.5, lasting=1e-4)
    assert split.variance(split.design) == pytest.approx(2e-4)
    assert split.variance(Design(1, 1, 1, 200)) == pytest.approx(1e-4)


def test_the_parts_of_the_variance_change_as_they_should() -> None:
    # Ten folds: tested slides / training slides is 10 x .125 = 1.25, so hidden is half of .0001.
    lasting = Spread(TEN, 0.125, lasting=1e-4)
    assert lasting.variance(TEN) == pytest.approx(1.5e-4)
    assert lasting.variance(replace(TEN, repeats=9, seeds=9)) == pytest.approx(1.5e-4)
    assert lasting.variance(replace(TEN, patients=200)) == pytest.approx(0.75e-4)
    # With 19 folds the training sets are 18/19 of the slides that train or validate, not 9/10.
    hidden = 0.4 * 1.25 * (19 / 18) / (10 / 9)
    assert lasting.variance(replace(TEN, folds=19)) == pytest.approx(1e-4 * (1 + hidden))
    between = replace(lasting, between=2e-3)
    assert between.variance(TEN) == pytest.approx(1.5e-4 + 2e-4)
    assert between.variance(replace(TEN, repeats=4)) == pytest.approx(1.5e-4 + 0.5e-4)
    assert between.variance(replace(TEN, folds=20)) < 1.5e-4 + 1e-4
    seeds = replace(between, between_seeds=1e-3)
    assert seeds.variance(replace(TEN, seeds=5)) == pytest.approx(1.5e-4 + 1.2e-4)
    # What repeats remove from the variance over patients is seen in the spread of a repeat.
    repeats = replace(lasting, lasting=0.6e-4, of_repeats=0.4e-4)
    assert repeats.variance(TEN) == pytest.approx(1.5e-4)
    assert repeats.variance(replace(TEN, repeats=2)) == pytest.approx(
        0.8e-4 * 1.5 + (1e-4 - 0.8e-4) / 2
    )
    assert repeats.least_variance(TEN) == pytest.approx(0.6e-4 * 1.5)


def test_two_repeats_predict_the_varianceover_patients_of_eight() -> None:
    eight = evidence(repeats=8, methods=4)
    two = replace(
        eight,
        trained={m: [t for t in of if t.fold < 8] for m, of in eight.trained.items()},
        sizes=eight.sizes[:8],
        repeats=2,
    )
    pairs = [("m0", "m1"), ("m0", "m2"), ("m0", "m3"), ("m1", "m2"), ("m1", "m3"), ("m2", "m3")]
    few, many = spreads(two, ACCURACY, pairs), spreads(eight, ACCURACY, pairs)
    known = np.array([s.over_patients(s.design) for s in many])
    predicted = np.array([s.over_patients(many[0].design) for s in few])
    unchanged = np.array([s.over_patients(s.design) for s in few])
    # A variance over 60 patients has a relative standard error of about sqrt(2 / 59) = 18 %; both
    # are of the same patients. Without the prediction they would be 40 % too large.
    assert unchanged.mean() > 1.25 * known.mean()
    assert predicted.mean() == pytest.approx(known.mean(), rel=0.18)


def test_seeds_take_the_part_that_they_vary() -> None:
    pairs = [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]
    several = evidence(seeds=4)
    found = spreads(several, ACCURACY, pairs)
    assert np.mean([s.of_seeds for s in found]) > 0
    assert all(s.of_repeats == 0 for s in found)
    for spread in found:
        more = spread.variance(replace(spread.design, seeds=40))
        assert more <= spread.variance(spread.design)
        assert more >= spread.variance(replace(spread.design, seeds=4000))


def test_the_numbers_are_the_smallest_that_are_enough() -> None:
    spread = Spread(
        Design(5, 1, 2, 100), 0.3, lasting=0.4e-4, of_seeds=0.5e-4, between=4e-4, between_seeds=3e-4
    )

    def smallest(**changed: int) -> float:
        design = replace(spread.design, **changed)
        return smallest_difference(np.sqrt(spread.variance(design)), design.patients / 2, TAIL)

    for name, margin in (("repeats", 0.03), ("seeds", 0.036), ("folds", 0.037)):
        now = pair_power("a", "b", spread, spread.design, TAIL, margin, 30)
        number = getattr(now, name)
        assert now.smallest == pytest.approx(smallest())
        assert np.isfinite(number)
        assert smallest(**{name: int(number)}) <= margin < smallest(**{name: int(number) - 1})
        assert np.isnan(now.patients)
        assert not now.is_out_of_reach
    assert pair_power("a", "b", spread, spread.design, TAIL, 1.0, 30).repeats == 1


def test_a_pair_that_only_patients_decide_says_how_many() -> None:
    spread = Spread(TEN, 0.125, lasting=1e-4, between=1e-3)
    found = pair_power("a", "b", spread, TEN, TAIL, 0.01, 40)
    assert (found.folds, found.repeats) == (np.inf, np.inf)
    assert np.isnan(found.seeds)  # a run with one seed cannot say
    assert found.is_out_of_reach
    assert found.at_best > 0.01

    def at_best(patients: int) -> float:
        return smallest_difference(np.sqrt(1.5e-4 * 100 / patients), patients / 2, TAIL)

    assert at_best(int(found.patients)) <= 0.01 < at_best(int(found.patients) - 1)
    tiny = pair_power("a", "b", spread, TEN, TAIL, 1e-9, 40)
    assert tiny.patients == np.inf
    assert at_best(MOST_PATIENTS) > 1e-9
    hold_outs = pair_power("a", "b", spread, TEN, TAIL, 0.01, 0)
    assert np.isnan([hold_outs.folds, hold_outs.repeats]).all()


def test_every_undecided_pair_has_its_numbers_and_no_other() -> None:
    given = evidence(repeats=2)
    found = verdicts(given, ACCURACY)
    undecided = {(v.first, v.second) for v in found if v.answer == "undecided"}
    powers = outlook_of(given, ACCURACY, found).pairs
    assert {(p.first, p.second) for p in powers} == undecided
    by_pair = {(v.first, v.second): v for v in found}
    for power in powers:
        verdict = by_pair[power.first, power.second]
        # The ends of the interval are the critical value away, and the power needs more.
        assert power.smallest > (verdict.high - verdict.low) / 2
        assert power.at_best <= power.smallest
    decided = [replace(v, answer="better") for v in found]
    assert outlook_of(given, ACCURACY, decided).pairs == ()


def test_with_few_patients_only_the_smallest_difference_is_known() -> None:
    given = evidence()
    few = {
        method: [
            replace(
                t,
                predictions=replace(
                    t.predictions,
                    groups=np.array([f"p{int(g[1:]) % 15}" for g in t.predictions.groups]),
                ),
            )
            for t in of
        ]
        for method, of in given.trained.items()
    }
    given = replace(given, trained=few)
    found = [v for v in verdicts(given, ACCURACY) if v.answer == "undecided"]
    assert found[0].no_bootstrap
    first = outlook_of(given, ACCURACY, found).pairs[0]
    assert first.smallest > 0
    assert first == PairPower(first.first, first.second, first.smallest) or np.isnan(first.at_best)


def test_folds_can_be_as_many_as_the_rarest_class_has_patients() -> None:
    given = evidence(repeats=2)
    # Two slides per patient, three classes in turn: each class is in 40 patients.
    assert most_folds(given) == 40
    hold_outs = {m: [*of[:4], *of[:4]] for m, of in given.trained.items()}
    repeated = {m: [replace(t, fold=k) for k, t in enumerate(of)] for m, of in hold_outs.items()}
    assert most_folds(replace(given, trained=repeated, repeats=1)) == 0
