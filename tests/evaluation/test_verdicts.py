from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mil_bench.evaluation.bootstrap import p_value
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.evaluation.statistics import corrected_t_test
from mil_bench.evaluation.verdicts import Evidence, Verdict, verdicts
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.report.pair_sentences import verdict_sentence
from mil_bench.report.sentences import headline, summary

HIERARCHY = LabelHierarchy.from_groups({"left": ["a", "b"], "right": ["c", "d"]})
ACCURACY, AUC, NLL = (Measure("fine", key) for key in ("accuracy", "macro_auc", "nll"))


def trial(
    fold: int, skill: float, seed: int = 0, classes: int = 4, slides: int = 60
) -> TrainedFold:
    """A trained fold; the higher the skill the better. Slides and labels depend on the fold."""
    rng = np.random.default_rng((fold, seed, int(100 * skill)))
    labels = np.arange(slides) % classes
    logits = skill * np.eye(4)[labels] + rng.standard_normal((slides, 4))
    fine = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    slides_ = np.array([f"{fold}-{i}" for i in range(slides)])
    patients = np.array([f"p{fold}-{i // 3}" for i in range(slides)])
    return TrainedFold(seed, fold, f"{skill}", Predictions(slides_, labels, fine, patients))


def evidence(
    folds: int = 5, seeds: int = 1, group_name: str = "patient", **skills: float
) -> Evidence:
    trials = {
        name: [trial(k, s, seed) for seed in range(seeds) for k in range(folds)]
        for name, s in skills.items()
    }
    return Evidence(trials, HIERARCHY, ((240, 60),) * folds, seeds, group_name, replicates=400)


def test_a_better_method_is_called_better_with_all_numbers() -> None:
    given = evidence(weak=0.5, strong=3.0)
    (found,) = verdicts(given, ACCURACY)
    assert (found.first, found.second) == ("strong", "weak")
    differences = given.by_fold("strong", ACCURACY) - given.by_fold("weak", ACCURACY)
    test = corrected_t_test(differences, 60 / 240)
    drawn = given.bootstrap.fold_mean.difference("strong", "weak", ACCURACY)
    interval = given.bootstrap.interval(drawn)
    assert found.difference == pytest.approx(differences.mean())
    assert (found.low, found.high) == (min(test.low, interval.low), max(test.high, interval.high))
    assert found.p == max(test.p, p_value(drawn))
    assert found.standardised == test.standardised
    assert verdict_sentence(found) == (
        f"strong is better than weak: its accuracy is {100 * found.difference:.1f} points higher "
        f"(95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}; p = .005)."
    )


def test_two_copies_of_a_method_are_not_told_apart() -> None:
    given = evidence(one=1.0, two=1.01)
    (found,) = verdicts(given, AUC)
    assert not found.is_significant
    assert verdict_sentence(found).startswith(
        f"The difference between {found.first} and {found.second} is not significant: "
    )


def test_p_values_are_adjusted_for_all_pairs() -> None:
    found = verdicts(evidence(weak=0.5, middle=1.2, strong=3.0), AUC)
    assert [v.pairs for v in found] == [3, 3, 3]
    assert sorted(v.adjusted for v in found)[0] == pytest.approx(3 * min(v.p for v in found))
    assert all("Holm-adjusted for 3 pairs: p" in verdict_sentence(v) for v in found)


def test_the_method_with_the_lower_figure_is_the_better_one_where_lower_is_better() -> None:
    (found,) = verdicts(evidence(weak=0.5, strong=3.0), NLL)
    assert found.first == "strong"
    assert found.difference < 0
    assert found.low < found.high < 0
    low, high = f"{-found.high:.3f}", f"{-found.low:.3f}"
    lower = f"{-found.difference:.3f} lower (95 % interval {low} to {high};"
    assert verdict_sentence(found).startswith(
        f"strong is better than weak: its negative log-likelihood is {lower}"
    )


def test_seeds_are_averaged_within_a_fold_first() -> None:
    given = evidence(folds=3, seeds=2, m=1.0)
    by_hand = [
        np.mean([given.measured["m"][seed, k].values[AUC] for seed in (0, 1)]) for k in range(3)
    ]
    assert given.by_fold("m", AUC) == pytest.approx(by_hand)


def test_a_single_split_is_judged_by_its_patients_and_says_so() -> None:
    given = evidence(folds=1, seeds=3, weak=0.5, strong=3.0)
    (found,) = verdicts(given, ACCURACY)
    drawn = given.bootstrap.fold_mean.difference("strong", "weak", ACCURACY)
    assert found.p == p_value(drawn)
    assert np.isnan(found.standardised)
    assert verdict_sentence(found).endswith(
        "Single split: the interval covers the sampling of test patients only, not "
        "training-set variability."
    )


def test_two_folds_are_too_few() -> None:
    (found,) = verdicts(evidence(folds=2, one=1.0, two=2.0), ACCURACY)
    assert (
        verdict_sentence(found)
        == "one and two cannot be compared on accuracy: only 2 folds, 3 are needed."
    )
    assert not found.is_significant


def test_a_class_absent_from_a_fold_is_named() -> None:
    given = evidence(one=1.0, two=2.0)
    trials = {
        name: [trial(k, 1.0, classes=3 if k == 2 else 4) for k in range(5)]
        for name in ("one", "two")
    }
    given = dataclasses.replace(given, trained=trials)
    (found,) = verdicts(given, AUC)
    assert verdict_sentence(found) == (
        "one and two cannot be compared on macro AUC: undefined in fold 2: no test slide is d."
    )
    assert verdicts(given, ACCURACY)[0].reason == ""


def test_what_cannot_be_resampled_cannot_be_compared() -> None:
    (found,) = verdicts(evidence(one=1.0, two=2.0), Measure("fine", "ece"))
    assert found.reason == "calibration error cannot be resampled without bias"


def test_equal_methods_are_called_the_same() -> None:
    given = evidence(one=1.0, two=1.0)
    (found,) = verdicts(given, AUC)
    assert verdict_sentence(found) == "one and two have the same macro AUC in every fold."
    assert (found.p, found.difference) == (1, 0)


def test_a_difference_without_spread_is_judged_by_the_patients_alone() -> None:
    given = evidence(folds=3, one=1.0, two=1.0)
    always = [
        dataclasses.replace(t, predictions=flipped(t.predictions)) for t in given.trained["two"]
    ]
    given = dataclasses.replace(given, trained={**given.trained, "two": always})
    (found,) = verdicts(given, ACCURACY)
    drawn = given.bootstrap.fold_mean.difference("one", "two", ACCURACY)
    assert found.p == p_value(drawn)
    assert not found.is_significant  # one slide in each of three folds
    assert np.isnan(found.standardised)
    assert verdict_sentence(found).endswith(
        "Only the bootstrap over patients was possible: the difference is the same in every fold, "
        "so a t-test across folds has no variance to work with."
    )


def sure(t: TrainedFold, right: bool) -> TrainedFold:
    """The fold with all predictions right and sure, or all the same."""
    fine = np.eye(4)[t.predictions.labels] if right else np.full((60, 4), 0.25)
    return dataclasses.replace(t, predictions=dataclasses.replace(t.predictions, fine=fine))


def test_100_against_50_in_every_fold_is_decisive() -> None:
    given = evidence(folds=5, good=1.0, bad=1.0)
    trained = {m: [sure(t, m == "good") for t in done] for m, done in given.trained.items()}
    given = dataclasses.replace(given, trained=trained)
    (found,) = verdicts(given, AUC)
    assert found.is_significant
    assert verdict_sentence(found).startswith(
        "good is better than bad: its macro AUC is 50.0 points higher (95 % interval 50.0 to 50.0;"
    )
    few = {
        m: [
            dataclasses.replace(
                t, predictions=dataclasses.replace(t.predictions, groups=np.array(["a", "b"] * 30))
            )
            for t in done
        ]
        for m, done in trained.items()
    }
    given = dataclasses.replace(given, trained=few)
    (found,) = pairs = verdicts(given, AUC)
    assert not found.is_significant
    assert verdict_sentence(found) == (
        "The macro AUC of good is 50.0 points higher than that of bad in every fold, but this "
        "cannot be tested: the difference is the same in every fold, so a t-test across folds has "
        "no variance to work with, and 2 patients are too few to draw from, 20 are needed."
    )
    assert headline(pairs, given, AUC).startswith(
        "good has the best macro AUC (100.0 %). The difference from bad cannot be tested: "
    )


def test_methods_that_share_the_best_mean_are_both_named() -> None:
    given = evidence(weak=0.1, one=3.0, two=3.0)
    value = f"{100 * given.by_fold('one', ACCURACY).mean():.1f} %"
    assert headline(verdicts(given, ACCURACY), given, ACCURACY) == (
        f"one and two have the same, best accuracy ({value}) and are better than all other "
        "methods: weak."
    )
    equal = evidence(one=3.0, two=3.0)
    assert headline(verdicts(equal, ACCURACY), equal, ACCURACY) == (
        f"one and two have the same accuracy ({value})."
    )


def test_many_methods_without_a_difference_are_counted_and_not_listed() -> None:
    given = evidence(lookup=1.0, **{f"m{n}": 1.0 + 0.05 * n for n in range(8)})
    found = verdicts(given, ACCURACY)
    first, *_, last = summary(given, found, ACCURACY)
    assert not any(pair.is_significant for pair in found)
    assert first.endswith("the differences from all 7 other methods are not significant.")
    assert "which uses no image: all 8 methods." in last
    few = evidence(lookup=1.0, **{f"m{n}": 1.0 + 0.05 * n for n in range(4)})
    assert "m0, m1, m2, m3." in summary(few, verdicts(few, ACCURACY), ACCURACY)[-1]


def test_a_yardstick_is_compared_with_and_never_called_best() -> None:
    given = evidence(lookup=3.0, strong=1.0, weak=0.5)
    found = verdicts(given, ACCURACY)
    assert headline(found, given, ACCURACY).startswith("strong has the best accuracy")
    lines = summary(given, found, ACCURACY)
    assert lines[-1].startswith("Fine level: Not significantly better than lookup, which uses no ")
    assert lines[-1].endswith("It is ahead of strong, weak in accuracy.")
    alone = evidence(lookup=0.1, strong=3.0)
    assert headline(verdicts(alone, ACCURACY), alone, ACCURACY).endswith(
        "there is no other method to compare with."
    )


def test_a_yardstick_that_cannot_be_tested_against_is_named_with_the_reason() -> None:
    given = evidence(folds=2, lookup=0.1, strong=3.0)
    lines = summary(given, verdicts(given, ACCURACY), ACCURACY)
    assert lines[-1] == (
        "Fine level: Not tested against lookup, which uses no image: strong (only 2 folds, 3 are "
        "needed)."
    )


def test_a_difference_that_is_printed_as_zero_is_said_to_be_small() -> None:
    found = Verdict(ACCURACY, "a", "b", 0.0, -0.1, 0.1, 0.0, 1.0, 0.9, folds=3)
    assert "their accuracy differs by less than 0.1 points" in verdict_sentence(found)


def flipped(predictions: Predictions) -> Predictions:
    """The predictions with one right slide made wrong."""
    right = np.flatnonzero(predictions.fine.argmax(1) == predictions.labels)[0]
    fine = predictions.fine.copy()
    fine[right] = np.eye(4)[(predictions.labels[right] + 1) % 4]
    return dataclasses.replace(predictions, fine=fine)


def test_methods_with_missing_trainings_are_not_compared() -> None:
    given = evidence(one=1.0, two=2.0, part=3.0)
    given = dataclasses.replace(given, trained={**given.trained, "part": given.trained["part"][:3]})
    assert given.complete == ["one", "two"]
    assert [(v.first, v.second) for v in verdicts(given, ACCURACY)] == [("two", "one")]


def test_unknown_patients_are_said_to_be_unknown() -> None:
    (found,) = verdicts(evidence(group_name="", one=1.0, two=2.0), ACCURACY)
    assert verdict_sentence(found).endswith(
        "Patients are unknown: slides were resampled as if they were independent."
    )


def test_with_too_few_patients_the_folds_alone_decide() -> None:
    given = evidence(folds=3, one=1.0, two=2.0)
    few = [
        [
            dataclasses.replace(
                t,
                predictions=dataclasses.replace(
                    t.predictions, groups=np.array([f"c{i % 5}" for i in range(60)])
                ),
            )
            for t in done
        ]
        for done in given.trained.values()
    ]
    given = dataclasses.replace(
        given, trained=dict(zip(given.trained, few, strict=True)), group_name="centre"
    )
    (found,) = verdicts(given, ACCURACY)
    differences = given.by_fold(found.first, ACCURACY) - given.by_fold(found.second, ACCURACY)
    assert found.p == corrected_t_test(differences, 60 / 240).p
    assert verdict_sentence(found).endswith(
        "Only the t-test across folds was possible: "
        "5 centres are too few to draw from, 20 are needed."
    )
    single = dataclasses.replace(
        given, trained={m: d[:1] for m, d in given.trained.items()}, sizes=((240, 60),)
    )
    assert (
        verdicts(single, ACCURACY)[0].reason
        == "one split, and 5 centres are too few to draw from, 20 are needed"
    )


def test_the_headline_names_the_best_looking_method_and_whom_it_cannot_be_told_from() -> None:
    given = evidence(weak=0.2, strong=3.0, twin=3.01)
    found = verdicts(given, ACCURACY)
    best, level = (
        ("strong", "twin")
        if given.by_fold("strong", ACCURACY).mean() > given.by_fold("twin", ACCURACY).mean()
        else ("twin", "strong")
    )
    value = f"{100 * given.by_fold(best, ACCURACY).mean():.1f} %"
    assert headline(found, given, ACCURACY) == (
        f"{best} has the best accuracy ({value}); it is better than weak; the "
        f"difference from {level} is not significant."
    )
    only = [v for v in found if "weak" in (v.first, v.second) and best in (v.first, v.second)]
    assert headline(only, given, ACCURACY) == (
        f"{best} has the best accuracy ({value}) and is better than all other methods: weak."
    )
    assert headline([], given, ACCURACY) == "No method can be compared on accuracy."


def test_the_headline_says_why_methods_cannot_be_compared() -> None:
    given = evidence(folds=2, one=1.0, two=3.0)
    found = verdicts(given, ACCURACY)
    value = f"{100 * given.by_fold('two', ACCURACY).mean():.1f} %"
    assert headline(found, given, ACCURACY) == (
        f"two has the best accuracy ({value}). "
        "It cannot be compared with one: only 2 folds, 3 are needed."
    )
    trials = {
        name: [trial(k, 1.0, classes=3 if k == 2 else 4) for k in range(5)]
        for name in ("one", "two")
    }
    given = dataclasses.replace(evidence(one=1.0, two=2.0), trained=trials)
    assert headline(verdicts(given, AUC), given, AUC) == (
        "No method can be compared on macro AUC: undefined in fold 2: no test slide is d."
    )


def test_a_pair_whose_patients_have_no_say_says_so() -> None:
    given = evidence(folds=3, one=1.0, two=2.0)
    rare = {}
    for name, done in given.trained.items():
        rare[name] = []
        for t in done:
            labels = np.where(
                np.arange(60) < 3, 3, np.arange(60) % 3
            )  # of class d a single patient in each fold,
            groups = t.predictions.groups.copy()
            groups[:3] = "the same"  # and the same one in all
            rare[name].append(
                dataclasses.replace(
                    t, predictions=dataclasses.replace(t.predictions, labels=labels, groups=groups)
                )
            )
    (found,) = verdicts(dataclasses.replace(given, trained=rare), AUC)
    assert not found.reason
    assert found.no_bootstrap.startswith("undefined in ")
    assert verdict_sentence(found).endswith(
        f"Only the t-test across folds was possible: {found.no_bootstrap}."
    )
