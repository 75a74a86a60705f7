"""Results as one JSON document, for programs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from mil_bench import __version__
from mil_bench.report.pair_sentences import verdict_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.evaluation.verdicts import Verdict
    from mil_bench.report.tables import Cell, ResultTable
    from mil_bench.runs.plan_records import PlanStatus
    from mil_bench.runs.result import RunResult

FORMAT = 1
"""Version of the document; a key that is renamed or removed raises it."""


def text_of_document(content: Mapping[str, Any]) -> str:
    """A document as text, in ASCII; its first keys say what made it."""
    head = {"mil_bench": __version__, "format": FORMAT}
    return json.dumps(head | dict(content), indent=1, allow_nan=False)


def run_document(result: RunResult, report: Path) -> dict[str, Any]:
    """Everything that a run's report says.

    Numbers of verdicts are fractions or plain numbers, those of tables are in the unit that the
    table shows, mostly percent. What is not a number is None.

    Args:
        result: of the run.
        report: path of its report.
    """
    plan, measure, asked = result.plan, result.measure, result.asked
    return {
        **_start(result),
        "splits": plan.splits.digest,
        "seeds": plan.seeds,
        "command": plan.command and f"{plan.command}{asked.again}",
        "report": str(report),
        "question": {
            "metric": result.evidence.main.key,
            "margin": asked.margin,
            "reference": asked.reference,
            "pairs": list(asked.pairs),
        },
        "metric": {
            "key": measure.key,
            "level": measure.level,
            "name": measure.words,
            "percent": measure.metric.percent,
            "higher_is_better": measure.metric.higher_is_better,
        },
        "plan": None if result.planned is None else _plan(result.planned),
        "summary": result.summary,
        "facts": result.facts,
        "verdicts": [_verdict(verdict) for verdict in result.verdicts],
        "tables": {table.name: table_document(table) for table in result.report_tables},
    }


def waiting_document(result: RunResult, waiting: str) -> dict[str, Any]:
    """What is said of a run whose trainings others do: nothing about test slides.

    Args:
        result: of the run.
        waiting: what is missing, in words.
    """
    return _start(result) | {"waiting": waiting}


def comparison_document(
    sentences: Sequence[str], tables: Sequence[ResultTable], report: Path
) -> dict[str, Any]:
    """What is said of several runs together: a ranking over datasets, encoders side by side."""
    return {
        "sentences": list(sentences),
        "tables": {table.name: table_document(table) for table in tables},
        "report": str(report),
    }


def table_document(table: ResultTable) -> dict[str, Any]:
    """A table: per row and column a text, or the numbers of a cell by name."""
    return {
        "title": table.title,
        "note": table.note,
        "row": table.row_heading,
        "rows": {
            row: {column: _value(cell) for column, cell in cells.items()}
            for row, cells in table.cells.items()
        },
    }


def _start(result: RunResult) -> dict[str, Any]:
    plan = result.plan
    return {
        "run": result.run_id,
        "dataset": plan.dataset,
        "protocol": plan.splits.protocol,
        "folds": len(plan.splits.folds),
        "methods": plan.methods,
        "imported": {job.label: job.source for job in plan.jobs if job.source},
        "trainings": {
            "stored": sum(map(len, result.trained.values())),
            "planned": len(plan.trainings),
        },
    }


def _plan(planned: PlanStatus) -> dict[str, Any]:
    record, shown = planned.record, planned.shown
    return {
        "digest": record and record.digest,
        "time": record and record.time,
        "before_results": planned.is_before_results,
        "changes": [vars(change) for change in planned.changes],
        "shown_before_complete": shown and vars(shown),
        "sentence": planned.sentence,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "first": verdict.first,
        "second": verdict.second,
        "answer": None if verdict.reason else verdict.answer,
        "difference": _number(verdict.difference),
        "interval": [_number(verdict.low), _number(verdict.high)],
        "p": _number(verdict.p),
        "p_adjusted": _number(verdict.adjusted),
        "margin": verdict.margin,
        "reason": verdict.reason,
        "sentence": verdict_sentence(verdict),
    }


def _value(cell: Cell | str) -> str | dict[str, float | None]:
    if isinstance(cell, str):
        return cell
    return {name: _number(value) for name, value in cell.parts.items()}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
