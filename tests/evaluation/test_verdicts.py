from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from mil_bench.evaluation.comparison import PatientSpread, compared
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
    drawn = given.bootstrap.fold_mean.difference("strong", "weak", ACCURACY)
    assert found.answer == "better"
    assert found.difference == pytest.approx(differences.mean())
    # By hand: the variance over 100 patients, what overlapping training sets hide, and what folds
    # differ by more than patients explain; half as many degrees of freedom as patients.
    patients = drawn[1:].var(ddof=1)
    visible = max(0, differences.var(ddof=1) / 5 - patients)
    error = np.sqrt(patients * (1 + 0.4 * 5 * 60 / 240) + visible)
    assert found.p == pytest.approx(2 * stats.t.sf(differences.mean() / error, 50))
    reach = stats.t.isf(0.025, 50) * error
    assert (found.low, found.high) == pytest.approx(
        (differences.mean() - reach, differences.mean() + reach)
    )
    assert verdict_sentence(found) == (
        f"strong is better than weak: its accuracy is {100 * found.difference:.1f} points higher "
        f"(95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}; p < .001)."
    )


def test_two_copies_of_a_method_are_not_told_apart() -> None:
    given = evidence(one=1.0, two=1.01)
    (found,) = verdicts(given, AUC)
    assert found.answer == "undecided"
    by = f"{100 * found.difference:.1f}"
    assert verdict_sentence(found).startswith(
        f"Undecided between {found.first} and {found.second}: the macro AUC of {found.first} is "
        f"{by} points higher, but neither a difference nor equivalence (by less than 1 point) is "
        f"shown (95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}; p = "
    )


def test_methods_are_equivalent_if_the_interval_lies_within_the_margin() -> None:
    given = evidence(one=1.0, two=1.01)
    (open_,) = verdicts(given, AUC)
    reach = max(-open_.low, open_.high)
    just, barely_not = (
        verdicts(dataclasses.replace(given, margin=reach + by), AUC)[0] for by in (1e-6, -1e-6)
    )
    assert (just.answer, barely_not.answer) == ("equivalent", "undecided")
    assert just.is_small
    (wide,) = verdicts(dataclasses.replace(given, margin=0.2), AUC)
    ends = f"{100 * wide.low:.1f} to {100 * wide.high:.1f}"
    assert verdict_sentence(wide) == (
        f"{wide.first} and {wide.second} are practically equivalent: their macro AUC differs by "
        f"{100 * wide.difference:.1f} points, and by less than 20 points in any case (95 % "
        f"interval {ends})."
    )


def test_a_better_method_can_be_better_by_less_than_the_margin() -> None:
    given = dataclasses.replace(evidence(weak=0.5, strong=3.0), margin=0.9)
    (found,) = verdicts(given, ACCURACY)
    assert found.answer == "better"
    assert found.is_small
    assert " points higher, which is less than 90 points (95 % " in verdict_sentence(found)


def test_the_margin_of_plain_numbers_is_a_hundredth() -> None:
    (found,) = verdicts(evidence(one=1.02, two=1.04), NLL)
    assert found.margin == 0.01
    assert (found.answer, found.is_small) == ("undecided", False)
    assert "but neither a difference nor equivalence (by less than 0.01) is shown (95 %" in (
        verdict_sentence(found)
    )
    (copies,) = verdicts(evidence(one=1.02, two=1.02), NLL)
    assert copies.answer == "undecided"  # they differ nowhere, but on other slides they may


def test_p_values_and_intervals_hold_for_all_pairs_at_once() -> None:
    given = evidence(weak=0.5, middle=1.2, strong=1.4)
    found = verdicts(given, AUC)
    assert [v.pairs for v in found] == [3, 3, 3]
    differences = np.stack(
        [given.by_fold(v.first, AUC) - given.by_fold(v.second, AUC) for v in found]
    )
    draws = np.stack([given.bootstrap.fold_mean.difference(v.first, v.second, AUC) for v in found])
    patients = PatientSpread.of_draws(draws, 100)
    expected = compared(differences[:, None], 60 / 240, patients)
    assert [v.adjusted for v in found] == pytest.approx(expected.adjusted)
    assert [v.low for v in found] == pytest.approx(expected.joint_low)
    alone = verdicts(dataclasses.replace(given, pairs=(("middle", "strong"),)), AUC)
    among = [v for v in found if {v.first, v.second} == {"middle", "strong"}]
    assert alone[0].pairs == 1
    assert alone[0].adjusted == pytest.approx(alone[0].p) == pytest.approx(among[0].p)
    assert alone[0].high < among[0].high
    assert all("adjusted for 3 pairs)" in verdict_sentence(v) for v in found)


def test_only_the_pairs_that_were_asked_for_are_compared() -> None:
    asked = (("a", "b"), ("a", "missing"), ("c", "a"))
    given = dataclasses.replace(evidence(a=0.5, b=3.0, c=0.51), pairs=asked)
    found = verdicts(given, ACCURACY)
    assert [{v.first, v.second} for v in found] == [{"a", "b"}, {"a", "c"}]
    assert [v.pairs for v in found] == [2, 2]
    of_c = f"{found[1].first} and {found[1].second}"
    assert summary(given, found, ACCURACY)[0] == (
        f"Fine level: Accuracy, the 2 pairs that were asked for: b is better than a; undecided "
        f"between {of_c}."
    )
    nothing = dataclasses.replace(given, pairs=(("a", "missing"),))
    assert headline(verdicts(nothing, ACCURACY), nothing, ACCURACY) == (
        "None of the pairs that were asked for can be compared on accuracy."
    )


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
    error = np.sqrt(2 * drawn[1:].var(ddof=1))
    assert found.p == pytest.approx(2 * stats.t.sf(drawn[0] / error, 10))  # 20 patients
    assert verdict_sentence(found).endswith(
        "Single split: no two trainings can be compared, so the variance over test patients was "
        "doubled."
    )


def test_two_folds_are_too_few() -> None:
    (found,) = verdicts(evidence(folds=2, one=1.0, two=2.0), ACCURACY)
    assert (
        verdict_sentence(found)
        == "one and two cannot be compared on accuracy: only 2 folds, 3 are needed."
    )
    assert found.answer == "undecided"


def lacking_d(*folds: int) -> Evidence:
    """Two methods; no test slide of these folds has class d."""
    trials = {
        name: [trial(k, skill, classes=3 if k in folds else 4) for k in range(5)]
        for name, skill in (("one", 1.0), ("two", 2.0))
    }
    return dataclasses.replace(evidence(one=1.0, two=2.0), trained=trials)


def test_a_class_that_few_folds_lack_counts_by_its_mean_over_the_others() -> None:
    given = lacking_d(2)
    (found,) = verdicts(given, AUC)
    assert found.reason == ""
    by_class = [
        [
            np.nanmean([values.values[Measure("fine", "auc", c)] for values in of_method.values()])
            for c in "abcd"
        ]
        for of_method in (given.measured["two"], given.measured["one"])
    ]
    expected = np.mean(by_class[0]) - np.mean(by_class[1])
    assert found.difference == pytest.approx(expected)
    assert given.contributions("two", AUC).mean() == pytest.approx(np.mean(by_class[0]))
    # The draws are of the same quantity.
    drawn = given.bootstrap.fold_mean.difference("two", "one", AUC)
    assert drawn[0] == pytest.approx(expected)
    assert drawn[1:].mean() == pytest.approx(expected, abs=0.01)


def test_a_class_that_most_folds_lack_is_named() -> None:
    (found,) = verdicts(lacking_d(0, 2, 3), AUC)
    assert verdict_sentence(found) == (
        "one and two cannot be compared on macro AUC: undefined in fold 0: no test slide is d; "
        "fold 2: no test slide is d; fold 3: no test slide is d."
    )
    assert verdicts(lacking_d(0, 2, 3), ACCURACY)[0].reason == ""


def test_what_cannot_be_resampled_cannot_be_compared() -> None:
    (found,) = verdicts(evidence(one=1.0, two=2.0), Measure("fine", "ece"))
    assert found.reason == "calibration error cannot be resampled without bias"


def test_equal_methods_are_called_the_same() -> None:
    given = evidence(one=1.0, two=1.0)
    (found,) = verdicts(given, AUC)
    assert verdict_sentence(found) == (
        "one and two have the same macro AUC in every fold; other slides may tell them apart."
    )
    assert (found.p, found.difference, found.answer) == (1, 0, "undecided")


def test_a_difference_without_spread_is_judged_by_the_patients_alone() -> None:
    given = evidence(folds=3, one=1.0, two=1.0)
    always = [
        dataclasses.replace(t, predictions=flipped(t.predictions)) for t in given.trained["two"]
    ]
    given = dataclasses.replace(given, trained={**given.trained, "two": always})
    (found,) = verdicts(given, ACCURACY)
    drawn = given.bootstrap.fold_mean.difference("one", "two", ACCURACY)
    # Folds that do not differ add nothing to what patients and overlapping training sets explain.
    error = np.sqrt(drawn[1:].var(ddof=1) * (1 + 0.4 * 3 * 60 / 240))
    assert found.p == pytest.approx(2 * stats.t.sf(drawn[0] / error, 30))  # 60 patients
    assert found.answer == "undecided"  # one slide in each of three folds


def sure(t: TrainedFold, right: bool) -> TrainedFold:
    """The fold with all predictions right and sure, or all the same."""
    fine = np.eye(4)[t.predictions.labels] if right else np.full((60, 4), 0.25)
    return dataclasses.replace(t, predictions=dataclasses.replace(t.predictions, fine=fine))


def test_100_against_50_in_every_fold_is_decisive() -> None:
    given = evidence(folds=5, good=1.0, bad=1.0)
    trained = {m: [sure(t, m == "good") for t in done] for m, done in given.trained.items()}
    given = dataclasses.replace(given, trained=trained)
    (found,) = verdicts(given, AUC)
    assert found.answer == "better"
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
    assert found.answer == "undecided"
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
    given = evidence(lookup=0.99, **{f"m{n}": 1.0 + 0.05 * n for n in range(8)})
    found = verdicts(given, ACCURACY)
    first, *_, last = summary(given, found, ACCURACY)
    assert {pair.answer for pair in found} == {"undecided"}
    assert first.endswith("whether it is better than all 7 other methods is undecided.")
    assert "which uses no image: all 8 methods." in last
    few = evidence(lookup=0.99, **{f"m{n}": 1.0 + 0.05 * n for n in range(4)})
    assert "m0, m1, m2, m3." in summary(few, verdicts(few, ACCURACY), ACCURACY)[-1]


def test_a_yardstick_is_compared_with_and_never_called_best() -> None:
    given = evidence(lookup=3.0, strong=1.0, weak=0.5)
    found = verdicts(given, ACCURACY)
    assert headline(found, given, ACCURACY).startswith("strong has the best accuracy")
    lines = summary(given, found, ACCURACY)
    assert lines[-1] == "Fine level: Worse than lookup, which uses no image: strong, weak."
    close = evidence(lookup=1.0, strong=1.01, weak=1.02)
    pairs = verdicts(close, ACCURACY)
    ahead = [m for m in ("strong", "weak") if gap(close, "lookup", m) > 0]
    assert ahead
    assert summary(close, pairs, ACCURACY)[-1] == (
        "Fine level: Undecided whether better than lookup, which uses no image: strong, weak. It "
        f"is ahead of {', '.join(ahead)} in accuracy."
    )
    alone = evidence(lookup=0.1, strong=3.0)
    assert headline(verdicts(alone, ACCURACY), alone, ACCURACY).endswith(
        "there is no other method to compare with."
    )


def gap(given: Evidence, first: str, second: str) -> float:
    return float((given.by_fold(first, ACCURACY) - given.by_fold(second, ACCURACY)).mean())


def test_a_yardstick_that_cannot_be_tested_against_is_named_with_the_reason() -> None:
    given = evidence(folds=2, lookup=0.1, strong=3.0)
    lines = summary(given, verdicts(given, ACCURACY), ACCURACY)
    assert lines[-1] == (
        "Fine level: Not tested against lookup, which uses no image: strong (only 2 folds, 3 are "
        "needed)."
    )


def test_a_difference_that_is_printed_as_zero_is_said_to_be_small() -> None:
    found = Verdict(ACCURACY, "a", "b", 0.0, "undecided", -0.1, 0.1, adjusted=0.9, folds=3)
    assert "their accuracy differs by less than 0.1 points" in verdict_sentence(found)
    equal = dataclasses.replace(found, answer="equivalent", low=-0.004, high=0.003, margin=0.005)
    assert verdict_sentence(equal) == (
        "a and b are practically equivalent: their accuracy differs by less than 0.1 points, and "
        "by less than 0.5 points in any case (95 % interval -0.4 to 0.3)."
    )


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
    assert found.p == pytest.approx(corrected_t_test(differences, 60 / 240).p)
    assert verdict_sentence(found).endswith(
        "Only the t-test across folds was possible: "
        "5 centres are too few to draw from, 20 are needed."
    )
    # The same values in three folds of five centres do not show that methods are the same.
    same = dataclasses.replace(given, trained=dict.fromkeys(("one", "two"), given.trained["one"]))
    (equal,) = verdicts(same, ACCURACY)
    assert (equal.answer, equal.difference) == ("undecided", 0)
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
        f"{best} has the best accuracy ({value}); it is better than weak; whether it is better "
        f"than {level} is undecided."
    )
    wide = dataclasses.replace(given, margin=0.1)
    assert headline(verdicts(wide, ACCURACY), wide, ACCURACY) == (
        f"{best} has the best accuracy ({value}); it is better than weak; it is practically "
        f"equivalent to {level}."
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
    given = lacking_d(0, 2, 3)
    assert headline(verdicts(given, AUC), given, AUC).startswith(
        "No method can be compared on macro AUC: undefined in fold 0: no test slide is d; fold 2"
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
