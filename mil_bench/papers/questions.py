"""Our figures beside published ones, and a table's questions answered from the verdicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.report.sentences import amount, p_text, verdict_sentence
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Verdict

STANDINGS = ("read", "second-hand")
"""How we know a published figure: read by us in the publication, or quoted by somebody else."""
_NOT_AVAILABLE = "not available"
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Published:
    """Published figures of one row on one dataset.

    Args:
        row: label of the row.
        dataset: name of the real dataset.
        standing: one of ``STANDINGS``.
        source: where they stand.
        values: key of a metric to its figure, in the unit of the tables (percent mostly).
    """

    row: str
    dataset: str
    standing: str
    source: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Question:
    """What two rows of a table are compared for.

    Args:
        text: the question, such that "yes" means the row ``better`` is better.
        better: label of the row with what is asked about.
        than: label of the row without it.
    """

    text: str
    better: str
    than: str


def published_beside(
    table: ResultTable, columns: Mapping[str, str], published: Sequence[Published] | None
) -> ResultTable:
    """A table of ours with a column of published figures behind each metric that has any.

    Args:
        table: of a run.
        columns: headings to show, in their order, to keys of published values.
        published: of this dataset; None for a generated twin, whose figures are not comparable with
            any.
    """
    known = {(each.row, key): each for each in published or () for key in each.values}
    cells: dict[str, dict[str, Cell | str]] = {}
    for row, ours in table.cells.items():
        cells[row] = {}
        for heading, key in columns.items():
            cells[row][heading] = ours[heading]
            if any(key == k for _, k in known):
                cells[row][f"{heading}, published"] = _beside(
                    ours[heading], key, known.get((row, key))
                )
    return replace(table, cells=cells, note=f"{table.note} {_sources(published)}".strip())


def _beside(ours: Cell | str, key: str, published: Published | None) -> str:
    if published is None:
        return _NOT_AVAILABLE
    value = published.values[key]
    text = f"{value:g} {published.standing}"
    if isinstance(ours, str) or np.isnan(ours.mean):
        return text
    return f"{text} (ours {ours.mean - value:+.{ours.digits}f})"


def _sources(published: Sequence[Published] | None) -> str:
    if published is None:
        return "Published figures are not shown: not comparable, this is a generated twin."
    if not published:
        return "Published figures: not available, no source that we could read gives them."
    named = "; ".join(f"{each.row}: {each.standing}, {each.source}" for each in published)
    return f"Published figures of {named}. All others are not available: no source that we could read gives them."


@dataclass(frozen=True)
class Answer:
    """A question with what a run says on it.

    Args:
        question: what was asked.
        word: "Yes", "No" (the other way round), "Not shown" or "Cannot be said".
        reason: the verdict in words, or why there is none.
        figure: on what the rows were compared, None where they were not.
        difference: figure of the row ``better`` minus that of ``than``, positive where it is
            better; not a number where they were not compared.
        low: lower end of its 95 % interval.
        high: upper end.
        p: p value, adjusted as in the run's verdicts.
    """

    question: Question
    word: str
    reason: str
    figure: Measure | None = None
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")

    @property
    def text(self) -> str:
        """Question and answer in words."""
        return f"{self.question.text} {self.word}: {self.reason}"

    @property
    def pair(self) -> str:
        """The two rows."""
        return f"{self.question.better} against {self.question.than}"

    @property
    def shown(self) -> bool:
        """Whether a difference, either way, can be shown."""
        return self.word in ("Yes", "No")

    @property
    def numbers(self) -> str:
        """The difference with its interval: ``+3.1 (0.4 to 5.8)``."""
        if self.figure is None:
            return _UNKNOWN
        ends = f"{amount(self.low, self.figure)} to {amount(self.high, self.figure)}"
        return f"{_signed(self.difference, self.figure)} ({ends})"


def _signed(value: float, figure: Measure) -> str:
    text = amount(value, figure)
    return text if text.startswith("-") else f"+{text}"


def answer(question: Question, verdicts: Sequence[Verdict]) -> Answer:
    """What the verdicts of a run say on a question."""
    rows = {question.better, question.than}
    verdict = next((v for v in verdicts if {v.first, v.second} == rows), None)
    if verdict is None:
        reason = f"the run has no complete results of both {question.better} and {question.than}."
        return Answer(question, "Cannot be said", reason)
    if verdict.reason:
        return Answer(question, "Cannot be said", verdict_sentence(verdict))
    better_first = verdict.first == question.better
    sign = 1 if better_first == verdict.measure.metric.higher_is_better else -1
    low, high = sorted((sign * verdict.low, sign * verdict.high))
    word = {True: "Yes", False: "No"}[better_first] if verdict.is_significant else "Not shown"
    return Answer(
        question,
        word,
        verdict_sentence(verdict),
        verdict.measure,
        sign * verdict.difference,
        low,
        high,
        verdict.adjusted,
    )


def in_short(answers: Sequence[Answer]) -> str:
    """One sentence on which of several questions a run can answer, and where the difference is largest."""
    known = [each for each in answers if each.figure is not None]
    if not known:
        return "None of the questions can be answered."
    shown = [each.pair for each in known if each.is_significant]
    of = f"{len(shown)} of {len(answers)} questions"
    found = (
        f"A difference is shown for {of} ({'; '.join(shown)})"
        if shown
        else "No difference is shown for any question"
    )
    largest = max(known, key=lambda each: abs(each.difference))
    return f"{found}; the largest is {largest.numbers}, {largest.pair}{'' if largest.is_significant else ', not shown'}."


def across(answers: Mapping[str, Answer]) -> str:
    """How the answer to one question changes from dataset to dataset.

    Args:
        answers: name of the dataset to the answer there, two or more.
    """
    first, *others = answers
    differences = "; ".join(f"on {name} {each.numbers}" for name, each in answers.items())
    changes = []
    for name in others:
        one, other = answers[first], answers[name]
        change = _change(one, other)
        if change == _UNKNOWN:
            changes.append(f"{first} and {name} cannot be compared")
            continue
        overlap = "do not overlap" if one.low > other.high or other.low > one.high else "overlap"
        changes.append(
            f"from {first} to {name} it changes by {change}, and the intervals {overlap}"
        )
    return f"{answers[first].question.text} The difference is {differences}; {'; '.join(changes)}."


def _change(one: Answer, other: Answer) -> str:
    if one.figure is None or one.figure != other.figure:
        return _UNKNOWN
    return _signed(other.difference - one.difference, one.figure)


def questions_table(answers: Mapping[str, Sequence[Answer]]) -> ResultTable:
    """Every question with its answers.

    Args:
        answers: name of the dataset to the answers there, the same questions in the same order for
            each.
    """
    first, *others = answers
    cells: dict[str, dict[str, Cell | str]] = {}
    for same in zip(*answers.values(), strict=True):
        by_name = dict(zip(answers, same, strict=True))
        cells[same[0].question.text] = {
            "Rows": same[0].pair,
            **{name: _answered(each) for name, each in by_name.items()},
            **{f"Change to {name}": _change(by_name[first], by_name[name]) for name in others},
        }
    every = [each for same in answers.values() for each in same]
    words = dict.fromkeys(each.figure.words for each in every if each.figure is not None)
    reasons = dict.fromkeys(each.reason for each in every if each.figure is None)
    notes = [
        f"Differences of {each}: percentage points, positive where the first row is better."
        for each in words
    ]
    notes += ["95 % intervals and p values are those of the run's verdicts.", *reasons]
    return ResultTable(
        "questions", "Questions", "", cells, note=" ".join(notes), row_heading="question"
    )


def _answered(answer: Answer) -> str:
    return (
        answer.word
        if answer.figure is None
        else f"{answer.word}: {answer.numbers}, {p_text(answer.p)}"
    )
