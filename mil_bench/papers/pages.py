"""What a reproduction shows: a page an item, and an overview of all."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.papers.questions import (
    Answer,
    across,
    answer,
    in_short,
    published_beside,
    questions_table,
)
from mil_bench.report.render import write_report
from mil_bench.report.render.markdown import markdown
from mil_bench.report.tables import ResultTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.papers.items import Item
    from mil_bench.papers.reproduce import Part, PartResult
    from mil_bench.runs.result import RunResult

_QUICK = "Preset quick: a first look, not a verdict. Few folds and epochs, by the same rule for every method."


@dataclass(frozen=True)
class Page:
    """An item's page.

    Args:
        name: of the item; its folder.
        title: heading.
        facts: lines before the tables: answers, what is missing, notes.
        tables: one a dataset that was run, and the questions with their answers.
    """

    name: str
    title: str
    facts: tuple[str, ...]
    tables: tuple[ResultTable, ...]


def page_of(item: Item, outcomes: Sequence[PartResult]) -> Page:
    """The page of an item from what became of it on each of its datasets."""
    done = {each.part.name: each.result for each in outcomes if each.result is not None}
    answers = {
        name: [answer(question, result.verdicts) for question in item.questions]
        for name, result in done.items()
    }
    facts = []
    for outcome in outcomes:
        where = f"{outcome.part.name}: " if len(outcomes) > 1 else ""
        facts += [where + line for line in _lines(outcome, answers.get(outcome.part.name, []))]
    if item.questions and len(done) > 1:
        facts.append(across({name: each[0] for name, each in answers.items()}))
    if done and outcomes[0].part.request.preset == "quick":
        facts += [_QUICK, *dict.fromkeys(_steps(result) for result in done.values())]
    tables = [
        table
        for each in outcomes
        if each.result is not None
        for table in _tables(each.part, each.result)
    ]
    if item.questions and done:
        tables.append(questions_table(answers))
    return Page(item.name, item.title, (*facts, *item.notes), tuple(tables))


def _lines(outcome: PartResult, answers: Sequence[Answer]) -> list[str]:
    """What a run says, first on the item's first question, and what must be known of it."""
    result = outcome.result
    if result is None:
        return [f"Could not be run: {_one_line(outcome.reason)}"]
    said = [answers[0].text, in_short(answers)] if answers else result.summary
    return [*said, *result.facts, f"Everything about this run: mil-bench report {result.run_id}"]


def _tables(part: Part, result: RunResult) -> list[ResultTable]:
    """The item's table and, where settings were tuned, what that brought and cost."""
    tuning = [table for table in result.report_tables if table.name in ("tuning_gain", "tuning")]
    named = [
        replace(t, name=f"{result.run_id}_{t.name}", title=f"{t.title}, {part.name}")
        for t in tuning
    ]
    return [_table(part, result), *named]


def _table(part: Part, result: RunResult) -> ResultTable:
    item = part.item
    table = next(table for table in result.report_tables if table.name == item.table)
    table = replace(table, name=result.run_id, title=f"{item.title}, {part.name} (%)")
    columns = (
        {c: c for c in table.columns}
        if item.is_classwise
        else {BUILT_IN[k].heading: k for k in item.metrics}
    )
    published = (
        None
        if part.spec.simulates
        else [each for each in item.published if each.dataset == part.spec.name]
    )
    return published_beside(table, columns, published)


def _steps(result: RunResult) -> str:
    """How many optimizer steps each method may take: what a small budget means for it."""
    slides = [len(fold.train) for fold in result.plan.splits.folds]
    methods: dict[int, dict[str, None]] = {}
    for job in result.plan.jobs:
        if job.recipe:
            steps = job.recipe["epochs"] * math.ceil(
                sum(slides) / len(slides) / job.recipe["batch_size"]
            )
            methods.setdefault(steps, {})[job.label] = None
    counts = (f"{steps:,} for {', '.join(names)}" for steps, names in sorted(methods.items()))
    return f"Optimizer steps of a training, at most: {'; '.join(counts)}."


def _one_line(reason: str) -> str:
    return "; ".join(line.strip().rstrip(".") for line in reason.splitlines()) + "."


def write_page(page: Page, folder: Path) -> Path:
    """Write an item's page, its tables as CSV and LaTeX; the path of the page."""
    return write_report(folder / page.name, page.title, page.facts, page.tables)


class Overview:
    """What was done, what not and why, and where the pages are; keeps no result.

    Args:
        command: what was typed.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._rows: dict[str, dict[str, str]] = {}
        self.missing: dict[str, list[str]] = {}
        """Each reason for which something could not be run or finished, to the names of the items it holds back."""

    def add(self, outcome: PartResult) -> None:
        """Take in what became of a part."""
        item = outcome.part.item.name
        self._rows[f"{item} on {outcome.part.name}"] = _row(outcome)
        reason = outcome.reason if outcome.result is None else "\n".join(outcome.result.failures)
        if reason:
            self.missing.setdefault(reason, []).append(item)

    def write(self, folder: Path) -> Path:
        """Write ``overview.md``; its path."""
        table = ResultTable("overview", "What was asked for", "", self._rows, row_heading="what")
        missing = [
            f"Not done: {', '.join(names)}. {_one_line(reason)}"
            for reason, names in self.missing.items()
        ]
        durable.replace(
            folder / "overview.md",
            markdown("Reproduction", [f"`{self._command}`", *missing], [table]),
        )
        return folder / "overview.md"


def _row(outcome: PartResult) -> dict[str, str]:
    result, name = outcome.result, outcome.part.item.name
    if result is None:
        return {
            "Trainings": "could not be run",
            "In short": "",
            "Page": f"[{name}]({name}/report.md)",
        }
    asked = len(result.plan.trainings)
    done = sum(map(len, result.trained.values()))
    answers = [answer(question, result.verdicts) for question in outcome.part.item.questions]
    said = in_short(answers) if answers else result.summary[0]
    return {
        "Trainings": f"{done} of {asked}",
        "In short": said,
        "Page": f"[{name}]({name}/report.md)",
    }
