from __future__ import annotations

import numpy as np
import pytest

from mil_bench.evaluation.bootstrap import Bootstrap, Replicates, bootstrap, draws, p_value
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.evaluation.metrics import Measure, class_values, measure, pooled
from mil_bench.evaluation.predictions import Predictions
from mil_bench.hierarchy import LabelHierarchy

NESTED = LabelHierarchy.from_groups({"left": ["a", "b"], "right": ["c", "d"]})
PATIENTS = 24


def fold(number: int, seed: int, slides: int = 40) -> Predictions:
    """Test predictions of fold ``number``; the slides are the same for every seed."""
    facts, rng = np.random.default_rng(number), np.random.default_rng((number, seed))
    labels = facts.permutation(np.arange(slides) % 4)
    fine = rng.dirichlet(np.ones(4), slides) + 0.5 * np.eye(4)[labels]
    fine /= fine.sum(1, keepdims=True)
    names = np.array([f"fold{number}-{i}" for i in range(slides)])
    patients = facts.integers(0, PATIENTS, slides).astype(str)
    return Predictions(
        names, labels, fine, patients, rng.dirichlet(np.ones(2), slides), rng.random(slides)
    )


def repeated(predictions: Predictions, times: np.ndarray) -> Predictions:
    """The predictions with every slide as often as it was drawn."""
    rows = np.repeat(np.arange(len(times)), times)
    taken = ("slides", "labels", "fine", "groups", "coarse_head", "attention_auc")
    return Predictions(*(getattr(predictions, name)[rows] for name in taken))


METHODS = {name: [fold(k, seed) for k in range(3)] for seed, name in enumerate(("good", "bad"))}


@pytest.mark.parametrize("group_name", ["patient", ""])
def test_replicates_equal_a_plain_loop_that_repeats_the_drawn_slides(group_name: str) -> None:
    found = bootstrap(METHODS, NESTED, group_name, ordered=True, replicates=12)
    every = [p for done in METHODS.values() for p in done]
    unit_of = {
        s: g if group_name else s for p in every for s, g in zip(p.slides, p.groups, strict=True)
    }
    units = sorted(set(unit_of.values()))
    assert found.units == len(units)
    assert found.unit == (group_name or "slide")
    drawn = np.concatenate(draws(len(units), 12))
    for name, folds in METHODS.items():
        for r, times in enumerate(drawn):
            of = dict(zip(units, times, strict=True))
            again = [repeated(p, np.array([of[unit_of[s]] for s in p.slides])) for p in folds]
            expected = pooled(again, NESTED, ordered=True).values
            for figure, values in found.pooled.values[name].items():
                assert values[r] == pytest.approx(expected[figure], abs=1e-12, nan_ok=True), (
                    figure,
                    r,
                )


def test_undrawn_values_are_the_pooled_figures_and_the_means_over_folds() -> None:
    found = bootstrap(METHODS, NESTED, "patient", replicates=5)
    for name, folds in METHODS.items():
        together = pooled(folds, NESTED).values
        each = [measure(p, NESTED).values for p in folds]
        for figure, values in found.pooled.values[name].items():
            assert values[0] == pytest.approx(together[figure], abs=1e-12)
            mean = np.mean([v[figure] for v in each])
            assert found.fold_mean.values[name][figure][0] == pytest.approx(mean, abs=1e-12)


def test_a_fold_without_a_class_is_left_out_of_the_mean_over_folds_only_where_it_is_undefined() -> (
    None
):
    lacking = repeated(fold(0, 0), (fold(0, 0).labels != 3).astype(int))
    found = bootstrap(
        {"m": [lacking, fold(1, 0)]}, NESTED, "patient", replicates=5
    ).fold_mean.values["m"]
    first, second = measure(lacking, NESTED).values, measure(fold(1, 0), NESTED).values
    d = Measure("fine", "auc", "d")
    assert np.isnan(first[d])
    assert found[d][0] == pytest.approx(second[d])
    # A mean over classes takes of each class what that class has.
    for macro in (Measure("fine", "macro_auc"), Measure("fine", "macro_f1")):
        classes = [class_values(p, NESTED, macro) for p in (lacking, fold(1, 0))]
        expected = np.nanmean(classes, axis=0).mean()
        assert expected != pytest.approx(second[macro])
        assert found[macro][0] == pytest.approx(expected)
    for figure in (
        Measure("fine", "accuracy"),
        Measure("fine", "auc", "a"),
        Measure("coarse", "macro_auc"),
    ):
        assert found[figure][0] == pytest.approx((first[figure] + second[figure]) / 2)


def test_everything_that_can_be_resampled_has_replicates_and_nothing_else() -> None:
    found = bootstrap(METHODS, NESTED, "patient", ordered=True, replicates=1)
    for kind in (found.pooled, found.fold_mean):
        assert {m.key for m in kind.values["good"]} == {
            key for key, metric in BUILT_IN.items() if metric.resampled
        }


def test_the_same_call_draws_the_same_patients() -> None:
    first, second = (
        bootstrap(METHODS, NESTED, "patient", replicates=3).pooled.values["good"] for _ in range(2)
    )
    assert all((first[figure] == second[figure]).all() for figure in first)


def test_all_slides_of_a_patient_are_drawn_together() -> None:
    twice = repeated(
        fold(0, 0), np.full(40, 2)
    )  # a second slide of each patient that says the same
    names = np.array([f"{name}-{i}" for i, name in enumerate(twice.slides)])
    copied = Predictions(names, twice.labels, twice.fine, twice.groups)
    one = Predictions(
        *(getattr(fold(0, 0), name) for name in ("slides", "labels", "fine", "groups"))
    )
    once, doubled = (bootstrap({"m": [p]}, NESTED, "patient", replicates=20) for p in (one, copied))
    for figure, values in once.pooled.values["m"].items():
        assert doubled.pooled.values["m"][figure] == pytest.approx(values, abs=1e-12, nan_ok=True)


def made(units: int = 50, unit: str = "patient") -> Bootstrap:
    return Bootstrap(unit, units, Replicates({}), Replicates({}), {})


def test_an_interval_holds_the_middle_95_percent_of_the_replicates() -> None:
    values = np.concatenate([[0.5], np.linspace(0, 1, 1001)])
    found = made().interval(values)
    assert (found.low, found.high, found.undefined, found.reason) == (
        pytest.approx(0.025),
        pytest.approx(0.975),
        0,
        "",
    )


def test_undefined_replicates_are_counted_and_too_many_of_them_leave_no_interval() -> None:
    values = np.linspace(0, 1, 101)
    values[1:6] = np.nan
    assert made().interval(values).undefined == 5
    assert made().interval(values).reason == ""
    values[6] = np.nan
    found = made().interval(values)
    assert found.reason == "undefined in 6 of 100 draws of patients"
    assert np.isnan([found.low, found.high]).all()


def test_an_undefined_figure_has_no_interval() -> None:
    values = np.concatenate([[np.nan], np.linspace(0, 1, 100)])
    assert made().interval(values).reason == "the value itself is undefined"


def test_too_few_patients_give_no_interval() -> None:
    found = made(10, "centre").interval(np.linspace(0, 1, 101))
    assert found.reason == "10 centres are too few to draw from, 20 are needed"


def test_the_p_value_is_twice_the_share_of_replicates_on_the_wrong_side() -> None:
    drawn = np.concatenate([[0.3], np.full(3, -0.1), np.full(96, 0.4)])
    assert p_value(drawn) == pytest.approx(2 * (1 + 3) / (1 + 99))
    assert p_value(-drawn) == p_value(drawn)
    assert p_value(np.zeros(10)) == 1


def test_a_class_of_few_patients_gets_no_interval_of_its_own() -> None:
    labels = np.where(np.arange(90) < 3, 3, np.arange(90) % 3)
    groups = np.array(
        [f"p{i // 2}" for i in range(90)]
    )  # of class d two patients: slides 0 and 1, and 2
    rng = np.random.default_rng(0)
    hierarchy = LabelHierarchy.from_groups({"left": ["a", "b"], "right": ["c", "d"]})
    slides = np.arange(90).astype(str)
    done = [Predictions(slides, labels, rng.dirichlet(np.ones(4), 90), groups)]
    found = bootstrap({"m": done}, hierarchy, "patient", replicates=50)
    fine, plenty, coarse = (
        Measure("fine", "auc", "d"),
        Measure("fine", "auc", "a"),
        Measure("coarse", "auc", "right"),
    )
    reasons = [
        found.interval(found.pooled.values["m"][figure], figure).reason
        for figure in (fine, plenty, coarse)
    ]
    assert reasons[0] == "2 patients with d are too few, 20 are needed"
    assert reasons[1] == ""
    assert reasons[2] == ""
    assert found.class_units["fine"]["d"] == 2
    assert found.class_units["coarse"]["right"] == len(
        {g for g, label in zip(groups, labels, strict=True) if label >= 2}
    )
    # A mean over classes names the class; accuracy is no such mean, and both coarse classes are
    # frequent.
    macro, accuracy, above = (
        Measure("fine", "macro_auc"),
        Measure("fine", "accuracy"),
        Measure("coarse", "macro_auc"),
    )
    reasons = [
        found.interval(found.pooled.values["m"][figure], figure).reason
        for figure in (macro, accuracy, above)
    ]
    assert reasons[0].startswith("it is a mean over classes, and 2 patients with d are too few")
    assert reasons[1:] == ["", ""]
    # Verdicts have a rule of their own, which was simulated with rare classes.
    values = found.pooled.values["m"][macro]
    assert found.fault(np.where(np.isnan(values), 0.5, values), macro) == ""
