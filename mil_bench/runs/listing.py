"""Stored runs as a table; needs neither torch nor a server."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import durable, registry
from mil_bench.datasets.catalogue import on_the_command_line
from mil_bench.errors import StorageError, UnknownNameError
from mil_bench.evaluation.metrics import Measure, name_of, named_values
from mil_bench.report.result_tables import ABSENT
from mil_bench.report.tables import Cell, ResultTable, rank_of, ranked, text_of
from mil_bench.results import ASKED
from mil_bench.wording import without_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore

_METRIC = "Macro AUC"
_MEASURE = Measure("fine", "macro_auc")
_DAMAGED = "damaged"
_NOTE = (
    "Best macro AUC: the highest mean ± sample standard deviation over trainings (%; of the fine "
    "classes if there are coarse ones) without yardsticks, once all trainings of the run are "
    "stored. It does not compare runs on different data or splits. Compare runs: mil-bench runs "
    "compare RUN OTHER; verdicts: mil-bench report RUN."
)


@dataclass(frozen=True)
class RunFilter:
    """Which runs are shown; None shows all.

    Args:
        dataset: a dataset, as it is called on the command line or in file names.
        method: a method, as tables call it or by its registered name.
        protocol: a protocol.
    """

    dataset: str | None = None
    method: str | None = None
    protocol: str | None = None

    def of(self, plans: Mapping[str, RunPlan]) -> dict[str, RunPlan]:
        """The runs that fit.

        Raises:
            UnknownNameError: no run has such a dataset, method or protocol.
        """
        chosen = dict(plans)
        kinds: dict[str, Callable[[RunPlan], set[str]]] = {
            "dataset": lambda plan: {plan.dataset, on_the_command_line(plan.dataset)},
            "method": lambda plan: {*plan.methods, *(job.method for job in plan.jobs)},
            "protocol": lambda plan: {plan.splits.protocol},
        }
        for kind, names in kinds.items():
            asked = getattr(self, kind)
            if asked is None:
                continue
            known = {name for plan in plans.values() for name in names(plan)}
            if asked not in known:
                raise UnknownNameError(f"run with the {kind}", asked, known)
            chosen = {run_id: plan for run_id, plan in chosen.items() if asked in names(plan)}
        return chosen


def run_table(
    store: ResultStore, plans: Mapping[str, RunPlan]
) -> tuple[ResultTable, tuple[str, ...]]:
    """One row per run; a run with a broken file is marked and does not hide the others.

    Args:
        store: where the runs lie.
        plans: run id to plan, in the order of the rows.

    Returns:
        The table, and one text per run with a broken file: which file it is, and what to do.
    """
    cells: dict[str, dict[str, Cell | str]] = {}
    damaged = {}
    for run_id, plan in plans.items():
        try:
            cells[run_id] = _row(store, plan)
        except StorageError as error:
            cells[run_id] = _row(store, plan, _DAMAGED)
            damaged[run_id] = str(error)
    table = ResultTable("runs", "Runs", "", cells, note=_NOTE, row_heading="run")
    return table, tuple(dict.fromkeys(damaged.values()))


def write_index(store: ResultStore, results: Results) -> Path:
    """Write the page over all runs, with links to their reports.

    A run whose plan or result is broken is left out or marked; ``mil-bench runs list`` says why.

    Args:
        store: where the runs lie.
        results: where their reports are, and the page will be.

    Returns:
        Path of the file.

    Raises:
        StorageError: the file cannot be written.
    """
    from mil_bench.report.render.page import index_page

    plans = {}
    for run_id in store.runs():
        with contextlib.suppress(StorageError):
            plans[run_id] = store.load_plan(run_id)
    listed, _ = run_table(store, plans)
    pages: dict[str, Path] = {}
    for pattern in (f"*/{ASKED}*/report.*", "*/report.*"):  # the usual question last: it counts
        for path in sorted(results.reports.glob(pattern), reverse=True):  # HTML after Markdown
            pages[path.relative_to(results.reports).parts[0]] = path
    relative = {name: path.relative_to(results.folder).as_posix() for name, path in pages.items()}
    cells: dict[str, dict[str, Cell | str]] = {}
    for run_id, row in listed.cells.items():
        plan = plans[run_id]
        first = {"Date": row["Date"], "Dataset": plan.dataset, "Protocol": plan.splits.protocol}
        cells[run_id] = first | {
            name: row[name] for name in ("Best macro AUC", "Trainings", "Methods")
        }
    table = replace(listed, cells=cells)
    links = {run_id: relative[run_id] for run_id in plans if run_id in relative}
    others = {name: page for name, page in sorted(relative.items()) if name not in plans}
    durable.replace(results.index, index_page(table, links, others))
    return results.index


def progress_of(store: ResultStore, plan: RunPlan) -> str:
    """Number of trainings that are stored, of those that are planned."""
    stored = _stored(store, plan)
    return f"{len(stored)} of {len(plan.trainings)}"


def date_of(store: ResultStore, run_id: str) -> str:
    """When a run was first asked for."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(store.planned(run_id)))


def _stored(store: ResultStore, plan: RunPlan) -> list[tuple[Job, int]]:
    finished = {job.key: store.done(job) for job in plan.jobs}
    return [(job, fold) for job, fold in plan.trainings if fold in finished[job.key]]


def _row(store: ResultStore, plan: RunPlan, best: str = "") -> dict[str, Cell | str]:
    return {
        "Methods": ", ".join(plan.methods),
        "Trainings": progress_of(store, plan),
        "Date": date_of(store, plan.run_id),
        "Best macro AUC": best or _best(store, plan),
    }


def _best(store: ResultStore, plan: RunPlan) -> str:
    """The method with the highest mean and its value; nothing while trainings are missing.

    Test values are not shown before: they could make somebody change the run.
    """
    values: dict[str, dict[tuple[int, int], float]] = {}
    stored = _stored(store, plan)
    if len(stored) < len(plan.trainings):
        return ABSENT
    for job, fold in stored:
        value = _value(store, plan, job, fold)
        values.setdefault(job.label, {})[job.seed, fold] = np.nan if value is None else 100 * value
    yardsticks = registry.yardsticks.names()
    ranked_rows = {label for label in values if without_source(label) not in yardsticks}
    cells = {label: {_METRIC: Cell.over(own)} for label, own in values.items()}
    best = {
        label: row[_METRIC]
        for label, row in ranked(cells, ranked_rows).items()
        if rank_of(row[_METRIC]) == 1
    }
    return "; ".join(f"{label} {text_of(cell)}" for label, cell in best.items()) or ABSENT


def _value(store: ResultStore, plan: RunPlan, job: Job, fold: int) -> float | None:
    """The metric of a stored fold: from its record or, if that is older, its predictions."""
    values = store.values(job, fold)
    if values is None:
        predictions = store.load_fold(job, fold).predictions
        values = named_values(predictions, plan.hierarchy, plan.ordered)
    return values.get(name_of(_MEASURE))
