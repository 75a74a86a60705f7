"""Questions answered from verdicts, on made-up values."""

from __future__ import annotations

import dataclasses

import pytest

from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.verdicts import Verdict
from mil_bench.papers.questions import (
    Answer,
    Question,
    answer,
    in_short,
    over_datasets,
    questions_table,
)
from mil_bench.report.tables import text_of

AUC, NLL = Measure("fine", "macro_auc"), Measure("fine", "nll")
QUESTION = Question(text="Does it help?", better="with", than="without")
OTHER_QUESTION = Question(text="And that?", better="a", than="b")


def verdict(
    first: str, second: str, difference: float, adjusted: float, measure: Measure = AUC
) -> Verdict:
    return Verdict(
        measure,
        first,
        second,
        difference,
        "better" if adjusted < 0.05 else "undecided",
        difference - 0.02,
        difference + 0.02,
        margin=0.01,
        p=adjusted,
        adjusted=adjusted,
        pairs=1,
        folds=10,
    )


def test_answers_follow_the_verdict_and_not_the_wish() -> None:
    yes = answer(
        QUESTION, [verdict("other", "with", 0.5, 0.001), verdict("with", "without", 0.031, 0.01)]
    )
    no = answer(QUESTION, [verdict("without", "with", 0.031, 0.01)])
    unclear = answer(QUESTION, [verdict("without", "with", 0.031, 0.2)])
    assert [each.text for each in (yes, no, unclear)] == [
        "Does it help? Yes: with is better than without: its macro AUC is 3.1 points higher "
        "(95 % interval 1.1 to 5.1; p = .010).",
        "Does it help? No: without is better than with: its macro AUC is 3.1 points higher "
        "(95 % interval 1.1 to 5.1; p = .010).",
        "Does it help? Undecided: Undecided between without and with: the macro AUC of without is "
        "3.1 points higher, but neither a difference nor equivalence (by less than 1 point) is "
        "shown (95 % interval 1.1 to 5.1; p = .20).",
    ]
    assert [each.numbers for each in (yes, no, unclear)] == [
        "+3.1 (1.1 to 5.1)",
        "-3.1 (-5.1 to -1.1)",
        "-3.1 (-5.1 to -1.1)",
    ]
    assert [each.is_better for each in (yes, no, unclear)] == [True, True, False]


def test_practical_equivalence_is_an_answer() -> None:
    given = dataclasses.replace(
        verdict("without", "with", 0.002, 0.6),
        answer="equivalent",
        low=-0.004,
        high=0.008,
    )
    equal = answer(QUESTION, [given])
    assert equal.text == (
        "Does it help? Practically equivalent: without and with are practically equivalent: their "
        "macro AUC differs by 0.2 points, and by less than 1 point in any case (95 % interval -0.4 "
        "to 0.8)."
    )
    assert not equal.is_better
    assert in_short([equal]).endswith("with vs without, practically equivalent.")


def test_where_lower_is_better_a_positive_difference_still_means_better() -> None:
    given = answer(QUESTION, [verdict("with", "without", -0.25, 0.01, NLL)])
    assert given.text.startswith("Does it help? Yes")
    assert given.numbers == "+0.250 (0.230 to 0.270)"


def test_what_cannot_be_compared_is_said() -> None:
    missing = answer(QUESTION, [verdict("with", "other", 0.1, 0.01)])
    assert missing.text == ("Does it help? No answer: the run lacks results of with or of without.")
    undefined = answer(QUESTION, [Verdict(AUC, "with", "without", reason="only 2 folds")])
    assert undefined.text == (
        "Does it help? No answer: with and without cannot be compared on macro AUC: only 2 folds."
    )
    assert missing.numbers == undefined.numbers == "unknown"
    assert in_short([missing, undefined]) == "None of the questions can be answered."


def test_in_short_counts_the_answers_and_names_the_largest_difference() -> None:
    small = answer(QUESTION, [verdict("with", "without", 0.03, 0.01)])
    large = answer(OTHER_QUESTION, [verdict("b", "a", 0.05, 0.3)])
    assert in_short([small, large]) == (
        "Of 2 questions, one row is better in 1 (with vs without), undecided in 1; the largest "
        "difference is -5.0 (-7.0 to -3.0), a vs b, undecided."
    )
    assert in_short([large, answer(QUESTION, [])]).startswith(
        "Of 2 questions, one row is better in none, undecided in 1, no answer in 1; the largest "
    )


def test_over_datasets_the_change_is_computed_from_the_answers() -> None:
    def given(difference: float) -> Answer:
        return answer(QUESTION, [verdict("with", "without", difference, 0.01)])

    assert over_datasets({"A": given(0.06), "B": given(0.01)}) == (
        "Does it help? The difference is on A +6.0 (4.0 to 8.0); on B +1.0 (-1.0 to 3.0); from A "
        "to B it changes by -5.0, and the intervals do not overlap."
    )
    assert over_datasets({"A": given(0.06), "B": given(0.03)}).endswith(
        "it changes by -3.0, and the intervals overlap."
    )
    unknown = answer(QUESTION, [])
    assert over_datasets({"A": given(0.06), "B": unknown}).endswith(
        "on B unknown; A and B cannot be compared."
    )


def test_questions_are_in_one_table_with_their_change() -> None:
    table = questions_table(
        {
            "A": [
                answer(QUESTION, [verdict("with", "without", 0.06, 0.012)]),
                answer(OTHER_QUESTION, []),
            ],
            "B": [
                answer(QUESTION, [verdict("without", "with", 0.01, 0.6)]),
                answer(OTHER_QUESTION, []),
            ],
        }
    )
    assert {name: text_of(cell) for name, cell in table.cells["Does it help?"].items()} == {
        "Rows": "with vs without",
        "A": "Yes",
        "A, difference": "+6.0 (4.0 to 8.0)",
        "A, p": ".012",
        "B": "Undecided",
        "B, difference": "-1.0 (-3.0 to 1.0)",
        "B, p": ".60",
        "Change to B": "-7.0",
    }
    numbers = table.frame.loc["Does it help?"]
    assert numbers["A, difference"].tolist() == pytest.approx([6, 4, 8])
    assert numbers["B, p", "value"] == 0.6
    assert numbers["Change to B", "value"] == pytest.approx(-7)
    assert table.cells["And that?"]["A"] == "No answer"
    assert table.cells["And that?"]["A, difference"].text() == "–"
    assert table.cells["And that?"]["Change to B"].text() == "unknown"
    assert "lacks results of a or of b" in table.note
