"""What was run, as a table; needs neither torch nor a server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.datasets.catalogue import on_the_command_line
from mil_bench.errors import UnknownNameError
from mil_bench.report.result_tables import ABSENT, result_tables
from mil_bench.report.tables import Cell, ResultTable, rank_of
from mil_bench.runs.result import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mil_bench.planning.plan import RunPlan
    from mil_bench.running.result_store import ResultStore

_FIGURE = "Macro AUC"
_NOTE = (
    "Best macro AUC: of the fine level (%), mean ± sample standard deviation over trainings, of the method that looks "
    "best among those with all their trainings. Runs on other data or splits cannot be compared by it. "
    "Compare runs: mil-bench runs RUN OTHER; verdicts: mil-bench report RUN."
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


def run_table(store: ResultStore, plans: Mapping[str, RunPlan]) -> ResultTable:
    """One row a run.

    Args:
        store: where the runs lie.
        plans: run id to plan, in the order of the rows.
    """
    cells = {run_id: _row(store, plan) for run_id, plan in plans.items()}
    return ResultTable("runs", "Runs", "", cells, note=_NOTE, row_heading="run")


def progress_of(store: ResultStore, plan: RunPlan) -> str:
    """Trainings that are stored, of those that were planned."""
    stored = {job.key: store.done(job) for job in plan.jobs}
    done = sum(fold in stored[job.key] for job, fold in plan.trainings)
    return f"{done} of {len(plan.trainings)}"


def date_of(store: ResultStore, run_id: str) -> str:
    """When a run was first asked for."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(store.planned(run_id)))


def _row(store: ResultStore, plan: RunPlan) -> dict[str, Cell | str]:
    return {
        "Methods": ", ".join(plan.methods),
        "Trainings": progress_of(store, plan),
        "Date": date_of(store, plan.run_id),
        "Best macro AUC": _best(store, plan),
    }


def _best(store: ResultStore, plan: RunPlan) -> str:
    """The best-looking complete method with its figure."""
    fine = result_tables(RunResult.collect(store, plan).evidence, "")[0]
    best = [(name, row[_FIGURE]) for name, row in fine.cells.items() if rank_of(row[_FIGURE]) == 1]
    return (
        "; ".join(f"{name} {cell.text()}" for name, cell in best if isinstance(cell, Cell))
        or ABSENT
    )
