"""What a reproduction shows: one page per item, and an overview."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.methods.recipe import takes_steps
from mil_bench.papers.published import alone, published_beside
from mil_bench.papers.questions import (
    Answer,
    answer,
    in_short,
    over_datasets,
    questions_table,
)
from mil_bench.report.render import check_folder, write_report
from mil_bench.report.render.markdown import markdown
from mil_bench.report.tables import ResultTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.papers.items import Item
    from mil_bench.papers.reproduce import Part, PartResult
    from mil_bench.runs.result import RunResult

_QUICK = (
    "Preset quick: a first look with few folds and epochs, by the same rule for every method. It "
    "is too small for a conclusion."
)


@dataclass(frozen=True)
class Page:
    """An item's page.

    Args:
        name: of the item; its folder.
        title: heading.
        facts: lines before the tables: answers, what is missing, notes.
        tables: one per dataset that was run, and the questions with their answers.
    """

    name: str
    title: str
    facts: tuple[str, ...]
    tables: tuple[ResultTable, ...]


def page_of(item: Item, part_results: Sequence[PartResult], again: str = "") -> Page:
    """The page of an item from its result on each of its datasets.

    Args:
        item: the item.
        part_results: one per dataset.
        again: the options with which commands find the results, quoted.
    """
    results = {p.part.name: p.result for p in part_results if p.result is not None}
    answers = {
        name: [answer(question, result.verdicts) for question in item.questions]
        for name, result in results.items()
    }
    facts = []
    for part_result in part_results:
        name = part_result.part.name
        prefix = f"{name}: " if len(part_results) > 1 else ""
        facts += [prefix + line for line in _lines(part_result, answers.get(name, []), again)]
    if item.questions and len(results) > 1:
        facts.append(over_datasets({name: of_item[0] for name, of_item in answers.items()}))
    if results and part_results[0].part.request.preset == "quick":
        facts += [_QUICK, *dict.fromkeys(_steps(result) for result in results.values())]
    tables = [table for p in part_results if p.result for table in _tables(p.part, p.result)]
    if item.questions and results:
        tables.append(questions_table(answers))
    return Page(item.name, item.title, (*facts, *item.notes), tuple(tables))


def _lines(part_result: PartResult, answers: Sequence[Answer], again: str) -> list[str]:
    """What a run says, first on the item's first question, and what is missing in it."""
    result = part_result.result
    if result is None:
        return [f"Could not be run: {_one_line(part_result.reason)}"]
    sentences = [answers[0].text, in_short(answers)] if answers else result.summary
    return [
        *sentences,
        *result.facts,
        f"To see everything about this run: mil-bench report {result.run_id}{again}",
    ]


def _tables(part: Part, result: RunResult) -> list[ResultTable]:
    """The item's table and, if settings were tuned, the gain and the cost of tuning."""
    tuning = [
        replace(table, name=f"{result.run_id}_{table.name}", title=f"{table.title}, {part.name}")
        for table in result.report_tables
        if table.name in ("tuning_gain", "tuning")
    ]
    return [_table(part, result), *tuning]


def _table(part: Part, result: RunResult) -> ResultTable:
    item = part.item
    table = next(table for table in result.report_tables if table.name == item.table)
    table = replace(table, name=result.run_id, title=f"{item.title}, {part.name} (%)")
    columns = (
        {c: c for c in table.columns}
        if item.is_classwise
        else {BUILT_IN[k].heading: k for k in item.metrics}
    )
    if part.spec.simulates:
        return alone(table, [*columns])
    published = [source for source in item.published if source.dataset == part.spec.name]
    return published_beside(table, columns, published, item.named)


def _steps(result: RunResult) -> str:
    """How many optimizer steps each method takes at most: what a small budget means for it."""
    slides = [len(fold.train) for fold in result.plan.splits.folds]
    methods: dict[int, dict[str, None]] = {}
    for job in result.plan.jobs:
        if takes_steps(job.recipe):
            steps = job.recipe["epochs"] * math.ceil(
                sum(slides) / len(slides) / job.recipe["batch_size"]
            )
            methods.setdefault(steps, {})[job.label] = None
    counts = (f"{steps:,} for {', '.join(names)}" for steps, names in sorted(methods.items()))
    return f"Maximum of optimizer steps per training: {'; '.join(counts)}."


def _one_line(reason: str) -> str:
    return "; ".join(line.strip().rstrip(".") for line in reason.splitlines()) + "."


def write_page(page: Page, folder: Path) -> Path:
    """Write an item's page, its tables as CSV and LaTeX; the path of the page."""
    check_folder(folder)
    return write_report(folder / page.name, page.title, page.facts, page.tables)


class Overview:
    """What was run, what could not be and why, and where the pages are; keeps no result.

    Args:
        command: what the user typed.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._rows: dict[str, dict[str, str]] = {}
        self._items: dict[str, str] = {}
        self.missing: dict[str, list[str]] = {}
        """Why something could not be run or finished, to the names of the items concerned."""

    def add(self, part_result: PartResult) -> None:
        """Add the result of a part."""
        item = part_result.part.item.name
        row = f"{item} on {part_result.part.name}"
        self._rows[row], self._items[row] = _row(part_result), item
        result = part_result.result
        reason = part_result.reason if result is None else "\n".join(result.failures)
        if reason:
            self.missing.setdefault(reason, []).append(item)

    def write(self, folder: Path) -> Path:
        """Write ``overview.md``; its path."""
        table = ResultTable("overview", "Items", "", self._rows, row_heading="item")
        missing = [
            f"Not done: {', '.join(names)}. {_one_line(reason)}"
            for reason, names in self.missing.items()
        ]
        links = {row: f"{item}/report.md" for row, item in self._items.items()}
        page = markdown("Reproduction", [self._command, *missing], [table], links)
        durable.replace(folder / "overview.md", page)
        return folder / "overview.md"


def _row(part_result: PartResult) -> dict[str, str]:
    result = part_result.result
    if result is None:
        return {"Trainings": "could not be run", "In short": ""}
    planned = len(result.plan.trainings)
    stored = sum(map(len, result.trained.values()))
    answers = [answer(question, result.verdicts) for question in part_result.part.item.questions]
    sentence = in_short(answers) if answers else result.summary[0]
    return {"Trainings": f"{stored} of {planned}", "In short": sentence}
