"""A table's questions, answered from the verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from mil_bench.papers.published import Text
from mil_bench.report.pair_sentences import amount, verdict_sentence
from mil_bench.report.tables import ABSENT, Cell, ResultTable
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Verdict

_UNKNOWN = "unknown"


class Question(BaseModel):
    """What two rows of a table are compared for.

    Args:
        text: the question; the answer is yes if the row ``better`` is better.
        better: label of the row with what the question is about.
        than: label of the row without it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Text
    better: str
    than: str


@dataclass(frozen=True)
class Answer:
    """A question with the answer of a run.

    Args:
        question: the question.
        word: "Yes", "No" (the other row is better), "Practically equivalent", "Undecided" or "No
            answer".
        reason: the verdict in words, or why there is none.
        measure: on what the rows are compared, None if they are not.
        difference: value of the row ``better`` minus that of ``than``, with the sign changed if
            lower values are better; not a number if the rows are not compared.
        low: lower end of its 95 % interval, which holds for all pairs of the run at once.
        high: upper end.
        p: p-value, adjusted as in the run's verdicts.
    """

    question: Question
    word: str
    reason: str
    measure: Measure | None = None
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
        return f"{self.question.better} vs {self.question.than}"

    @property
    def is_better(self) -> bool:
        """Whether one of the two rows is better."""
        return self.word in ("Yes", "No")

    @property
    def numbers(self) -> str:
        """The difference with its interval: ``+3.1 (0.4 to 5.8)``."""
        if self.measure is None:
            return _UNKNOWN
        ends = f"{amount(self.low, self.measure)} to {amount(self.high, self.measure)}"
        return f"{_signed(self.difference, self.measure)} ({ends})"


def _signed(value: float, measure: Measure) -> str:
    text = amount(value, measure)
    return text if text.startswith("-") else f"+{text}"


def answer(question: Question, verdicts: Sequence[Verdict]) -> Answer:
    """What the verdicts of a run say on a question."""
    rows = {question.better, question.than}
    verdict = next((v for v in verdicts if {v.first, v.second} == rows), None)
    if verdict is None:
        reason = f"the run lacks results of {question.better} or of {question.than}."
        return Answer(question, "No answer", reason)
    if verdict.reason:
        return Answer(question, "No answer", verdict_sentence(verdict))
    better_first = verdict.first == question.better
    sign = verdict.measure.metric.sign * (1 if better_first else -1)
    low, high = sorted((sign * verdict.low, sign * verdict.high))
    words = {
        "better": "Yes" if better_first else "No",
        "equivalent": "Practically equivalent",
        "undecided": "Undecided",
    }
    return Answer(
        question,
        words[verdict.answer],
        verdict_sentence(verdict),
        verdict.measure,
        sign * verdict.difference,
        low,
        high,
        verdict.adjusted,
    )


def in_short(answers: Sequence[Answer]) -> str:
    """One sentence: how often each answer is given, and the largest difference."""
    compared = [answer for answer in answers if answer.measure is not None]
    if not compared:
        return "None of the questions can be answered."
    better = [answer.pair for answer in compared if answer.is_better]
    parts = [f"{len(better)} ({'; '.join(better)})" if better else "none"]
    for word in ("Practically equivalent", "Undecided", "No answer"):
        if count := sum(answer.word == word for answer in answers):
            parts.append(f"{word.lower()} in {count}")
    largest = max(compared, key=lambda answer: abs(answer.difference))
    end = "" if largest.is_better else f", {largest.word.lower()}"
    return (
        f"Of {plural(len(answers), 'question')}, one row is better in {', '.join(parts)}; the "
        f"largest difference is {largest.numbers}, {largest.pair}{end}."
    )


def over_datasets(answers: Mapping[str, Answer]) -> str:
    """How the answer to one question changes from dataset to dataset.

    Args:
        answers: name of the dataset to the answer there, two or more.
    """
    first, *others = answers
    differences = "; ".join(f"on {name} {answer.numbers}" for name, answer in answers.items())
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
    if one.measure is None or one.measure != other.measure:
        return _UNKNOWN
    return _signed(other.difference - one.difference, one.measure)


def questions_table(answers: Mapping[str, Sequence[Answer]]) -> ResultTable:
    """Every question with its answers.

    Args:
        answers: name of the dataset to the answers there, the same questions in the same order for
            each.
    """
    first, *others = answers
    alone = not others
    cells: dict[str, dict[str, Cell | str]] = {}
    for of_question in zip(*answers.values(), strict=True):
        by_name = dict(zip(answers, of_question, strict=True))
        cells[of_question[0].question.text] = {
            "Rows": of_question[0].pair,
            **{h: c for name, a in by_name.items() for h, c in _answered(name, a, alone).items()},
            **{f"Change to {name}": _change_cell(by_name[first], by_name[name]) for name in others},
        }
    every = [answer for of_dataset in answers.values() for answer in of_dataset]
    measures = dict.fromkeys(answer.measure for answer in every if answer.measure is not None)
    reasons = dict.fromkeys(answer.reason for answer in every if answer.measure is None)
    notes = [
        f"Differences of {measure.words}{' in percentage points' * measure.metric.percent}; they "
        "are positive if the first row is better."
        for measure in measures
    ]
    notes += ["95 % intervals and p-values are those of the run's verdicts.", *reasons]
    return ResultTable(
        "questions", "Questions", "", cells, note=" ".join(notes), row_heading="question"
    )


def _answered(name: str, answer: Answer, alone: bool) -> dict[str, Cell | str]:
    """The answer on one dataset: in a word, the difference with its interval, the p-value.

    Args:
        name: of the dataset.
        answer: the answer there.
        alone: whether it is the only dataset; then headings do not name it.
    """
    scale = 100 if answer.measure is not None and answer.measure.metric.percent else 1
    difference = Cell(
        scale * answer.difference,
        interval=(scale * answer.low, scale * answer.high),
        words=ABSENT if answer.measure is None else answer.numbers,
    )
    word, of_difference, of_p = ("Answer", "Difference", "p, adjusted")
    if not alone:
        word, of_difference, of_p = name, f"{name}, difference", f"{name}, p"
    return {word: answer.word, of_difference: difference, of_p: Cell.p_value(answer.p)}


def _change_cell(one: Answer, other: Answer) -> Cell:
    words = _change(one, other)
    if words == _UNKNOWN:
        return Cell.absent(words)
    scale = 100 if one.measure is not None and one.measure.metric.percent else 1
    return Cell.single(scale * (other.difference - one.difference), words)
