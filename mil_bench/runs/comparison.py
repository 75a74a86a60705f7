"""Runs compared: values by method, and which settings differ."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING

from mil_bench.errors import InputError
from mil_bench.report.result_tables import result_tables
from mil_bench.report.tables import ABSENT, Cell, ResultTable
from mil_bench.runs.listing import date_of, progress_of
from mil_bench.runs.result import RunResult

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mil_bench.planning.plan import RunPlan
    from mil_bench.running.result_store import ResultStore

_METRICS = (
    ("fine", "Macro AUC"),
    ("fine", "Balanced accuracy"),
    ("fine", "Accuracy"),
    ("coarse", "Macro AUC"),
)
_NOTE = "Mean ± sample standard deviation over trainings (%)."


@dataclass(frozen=True)
class Comparison:
    """Tables, and what must be known to read them."""

    tables: Sequence[ResultTable]
    sentences: Sequence[str]


def named(store: ResultStore, text: str) -> str:
    """The run with this name or, if unambiguous, this part of its name; else the text itself."""
    runs = store.runs()
    fitting = [run_id for run_id in runs if text in run_id]
    return text if text in runs or len(fitting) != 1 else fitting[0]


def compare(store: ResultStore, run_ids: Sequence[str]) -> Comparison:
    """Compare runs.

    Args:
        store: where they are.
        run_ids: two or more names; a run is called A, B, C in this order.

    Raises:
        UnknownNameError: there is no such run.
        InputError: fewer than two runs, or more than there are letters.
    """
    chosen = list(dict.fromkeys(run_ids))
    if not 2 <= len(chosen) <= len(ascii_uppercase):
        problem = f"{len(chosen)} run{'s' * (len(chosen) != 1)} cannot be compared"
        raise InputError(
            "comparing runs",
            [problem],
            f"Name 2 to {len(ascii_uppercase)}; for a single run: mil-bench report.",
        )
    plans = {
        letter: store.load_plan(run_id)
        for letter, run_id in zip(ascii_uppercase, chosen, strict=False)
    }
    tables = [_overview(store, plans), *_metrics(store, plans)]
    differing = _differences(plans)
    if differing:
        tables.append(
            ResultTable("differences", "What differs", "", differing, row_heading="setting")
        )
    return Comparison(tables, _sentences(plans, bool(differing)))


def _overview(store: ResultStore, plans: Mapping[str, RunPlan]) -> ResultTable:
    cells: dict[str, dict[str, Cell | str]] = {
        letter: {
            "Run": plan.run_id,
            "Trainings": progress_of(store, plan),
            "Date": date_of(store, plan.run_id),
            "Command": plan.command,
        }
        for letter, plan in plans.items()
    }
    return ResultTable("runs", "Runs", "", cells, row_heading="")


def _metrics(store: ResultStore, plans: Mapping[str, RunPlan]) -> list[ResultTable]:
    """One table per metric: methods by runs."""
    found = {
        letter: {
            table.name: table.cells
            for table in result_tables(RunResult.collect(store, plan).evidence, "")
        }
        for letter, plan in plans.items()
    }
    methods = dict.fromkeys(method for tables in found.values() for method in tables["fine"])
    flat = all(plan.hierarchy.is_flat for plan in plans.values())
    shown = []
    for level, heading in _METRICS:
        of_level = {letter: tables[level] for letter, tables in found.items() if level in tables}
        cells = {
            method: {
                letter: _plain(of_level.get(letter, {}).get(method, {}).get(heading))
                for letter in plans
            }
            for method in methods
        }
        if of_level:
            title = f"{heading}{'' if flat else f', {level} level'} (%)"
            shown.append(ResultTable(f"{level}_{heading.lower()}", title, "", cells, note=_NOTE))
    return shown


def _plain(cell: Cell | str | None) -> Cell | str:
    """A value without its rank, which was among the methods of its own run."""
    return (
        Cell(cell.mean, cell.std, cell.undefined_folds, digits=cell.digits)
        if isinstance(cell, Cell)
        else ABSENT
    )


def _differences(plans: Mapping[str, RunPlan]) -> dict[str, dict[str, Cell | str]]:
    """Settings that are not the same in all runs; only methods that all runs have count."""
    common = set.intersection(*({job.label for job in plan.jobs} for plan in plans.values()))
    settings = {letter: _settings(plan, common) for letter, plan in plans.items()}
    names = dict.fromkeys(name for own in settings.values() for name in own)
    rows = {
        name: {letter: own.get(name, ABSENT) for letter, own in settings.items()} for name in names
    }
    return {name: dict(row) for name, row in rows.items() if len(set(row.values())) > 1}


def _settings(plan: RunPlan, methods: Collection[str]) -> dict[str, str]:
    """What decides a run's results, by name; with settings of ``methods`` only."""
    settings = {
        "dataset": plan.dataset_caption,
        "bags": next((job.data_digest for job in plan.jobs), ABSENT),
        "protocol": plan.splits.protocol,
        "split": plan.splits.digest,
        "folds": str(len(plan.splits.folds)),
        "repeats": str(plan.splits.repeats),
        "seeds": ", ".join(map(str, plan.seeds)),
        "methods": ", ".join(plan.methods),
        "slides of a patient": plan.combine or "each with a label",
    }
    settings["settings"] = plan.tuning.sentence if plan.tuning else "not tuned"
    own: dict[str, dict[str, None]] = {}  # folds of a tuned method may differ in their settings
    for job in (job for job in plan.jobs if job.label in methods):
        about = {
            "version": job.method_version,
            **job.recipe,
            **job.params,
            "training code": job.training_version,
        }
        for name, value in about.items():
            own.setdefault(f"{job.label}: {name}", {})[str(value)] = None
    return settings | {name: ", ".join(values) for name, values in own.items()}


def _sentences(plans: Mapping[str, RunPlan], differ: bool) -> list[str]:
    own = list(plans.values())
    sentences = []
    same_splits = len({plan.splits.digest for plan in own}) == 1
    same_bags = len({next((job.data_digest for job in plan.jobs), "") for plan in own}) == 1
    if not same_splits:
        sentences.append(f"! The runs have different splits: {_tests_compared(own)}.")
    elif not same_bags:
        sentences.append("! The runs use different features of the same slides and splits.")
    if not differ:
        sentences.append("No setting differs.")
    together = ", on the same features and splits" if not (same_splits and same_bags) else ""
    return [
        *sentences,
        "Differences between runs are not tested here. For a verdict, run the methods together"
        f"{together}.",
    ]


def _tests_compared(plans: Sequence[RunPlan]) -> str:
    """What the test slides of runs with different splits have in common."""
    folds = [tuple(sorted(tuple(sorted(f.test)) for f in plan.splits.folds)) for plan in plans]
    if len(set(folds)) == 1:
        return "the test slides of every fold are the same, training or validation slides are not"
    if len({frozenset(slide for test in tests for slide in test) for tests in folds}) == 1:
        return "they test the same slides in other folds"
    return "their test slides are not the same"
