"""What is asked of a run's results: margin, reference and pairs, and what is refused."""

from __future__ import annotations

import argparse

import pytest
from made_runs import run_result, trained_folds

from mil_bench.errors import InputError
from mil_bench.planning.asked import OPTIONS, Asked
from mil_bench.planning.options import add_options, from_arguments

METHODS = ["hmil", "hmil:align_bags=false", "abmil", "lookup"]


def test_nothing_asked_means_all_pairs() -> None:
    assert Asked().pairs_of(METHODS) is None
    assert Asked().again == ""
    assert Asked().margin == 1.0


def test_a_reference_is_compared_with_each_other_method() -> None:
    assert Asked(reference="abmil").pairs_of(METHODS) == (
        ("abmil", "hmil"),
        ("abmil", "hmil:align_bags=false"),
        ("abmil", "lookup"),
    )


def test_pairs_may_name_methods_with_settings_and_count_once() -> None:
    asked = Asked(pairs=("hmil:abmil", "hmil:align_bags=false:hmil", "abmil:hmil"))
    assert asked.pairs_of(METHODS) == (("abmil", "hmil"), ("hmil:align_bags=false", "hmil"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(reference="hmli"), "the run has no method 'hmli'; did you mean hmil"),
        (Asked(pairs=("abmil:hmli",)), "'abmil:hmli': the run has no method 'hmli'; did you mean"),
        (Asked(pairs=("abmil",)), "'abmil' is not a pair of two methods A:B"),
        (Asked(pairs=("abmil:abmil",)), "'abmil:abmil' names one method twice"),
    ],
)
def test_what_the_run_does_not_have_is_refused_with_its_methods(asked: Asked, message: str) -> None:
    with pytest.raises(InputError) as refused:
        asked.pairs_of(METHODS)
    assert message in str(refused.value)
    assert "Methods of the run: hmil, hmil:align_bags=false, abmil, lookup." in str(refused.value)


@pytest.mark.parametrize("margin", [0, -1, 100, float("nan"), "1"])
def test_a_margin_is_a_number_of_points(margin: float) -> None:
    with pytest.raises(InputError, match="margin must be more than 0 and less than 100"):
        Asked(margin=margin)


def test_reference_and_pairs_are_two_questions() -> None:
    with pytest.raises(InputError, match="give only one of them"):
        Asked(reference="abmil", pairs=("abmil:hmil",))


def test_options_and_the_command_for_them_agree() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Asked, *OPTIONS)
    words = ["--margin", "0.5", "--pairs", "abmil:hmil", "hmil:lookup", "--metric", "accuracy"]
    asked = from_arguments(Asked, parser.parse_args(words))
    assert asked == Asked(0.5, None, ("abmil:hmil", "hmil:lookup"), "accuracy")
    assert asked.again.split() == words


def test_a_result_compares_what_it_was_asked_for_and_its_report_repeats_the_options() -> None:
    methods = {name: trained_folds(k) for k, name in enumerate("abc")}
    every = run_result(methods)
    assert [(v.pairs, v.margin) for v in every.verdicts] == [(3, 0.01)] * 3
    asked = run_result(methods, asked=Asked(margin=2.5, reference="b"))
    assert [{v.first, v.second} for v in asked.verdicts] == [{"a", "b"}, {"b", "c"}]
    assert [(v.pairs, v.margin) for v in asked.verdicts] == [(2, 0.025)] * 2
    assert asked._report.command == "mil-bench run --dataset toy --margin 2.5 --reference b"
    notes = {table.name: table.note for table in asked.report_tables}
    assert "closer to 0 than 2.5 points" in notes["verdicts"]
    assert "hold for the 2 pairs that were asked for" in notes["verdicts"]


def test_a_question_has_a_name_for_a_folder() -> None:
    assert Asked().name == ""
    assert Asked(reference="hmil:align_bags=false").name == "reference-hmil_align_bags=false"
    assert Asked(metric="accuracy", margin=0.5).name == "margin-0.5-metric-accuracy"
    many = tuple(f"hmil:method-{i}" for i in range(30))
    long, other = Asked(pairs=many).name, Asked(pairs=many[:-1]).name
    assert long != other
    assert len(long) < 120
