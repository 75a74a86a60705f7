"""What a run gave, made from stored results alone; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mil_bench.evaluation.report import write_report
from mil_bench.evaluation.report.html import html_table
from mil_bench.evaluation.tables import Table, Trial, result_tables
from mil_bench.running.plan import RunPlan
from mil_bench.running.result_store import ResultStore


@dataclass(frozen=True, eq=False, repr=False)
class RunResult:
    """Tables and predictions of a run.

    Args:
        plan: what was to be trained.
        trials: method to its trained folds.
        failures: what could not be trained, and why, one line each.
    """

    plan: RunPlan
    trials: Mapping[str, tuple[Trial, ...]]
    failures: tuple[str, ...] = ()
    _tables: list[Table] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        plan = self.plan
        expected = len(plan.splits.folds) * len(plan.seeds)
        object.__setattr__(self, "_tables", result_tables(self.trials, expected, plan.hierarchy, plan.caption))

    @classmethod
    def collect(cls, store: ResultStore, plan: RunPlan, failures: tuple[str, ...] = ()) -> RunResult:
        """Everything that is stored of a plan."""
        trials: dict[str, list[Trial]] = {method: [] for method in plan.methods}
        for job in plan.jobs:
            for fold in sorted(store.done(job) & set(range(len(plan.splits.folds)))):
                trial = Trial(job.seed, fold, job.key, store.load_fold(job, fold).predictions)
                trials[job.method].append(trial)
        return cls(plan, {method: tuple(done) for method, done in trials.items()}, failures)

    @property
    def run_id(self) -> str:
        """Name of the run, for ``mil-bench report``."""
        return self.plan.run_id

    @property
    def report_tables(self) -> list[Table]:
        """The tables with captions and marks, as they are printed."""
        return self._tables

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Table name ("fine", "coarse", "classwise_auc", ...) to a frame of mean and std in percent."""
        return {table.name: table.frame for table in self._tables}

    @property
    def predictions(self) -> pd.DataFrame:
        """All test predictions: one row a method, seed, fold and slide."""
        frames = [
            trial.predictions.frame(self.plan.hierarchy).assign(method=method, seed=trial.seed, fold=trial.fold)
            for method, done in self.trials.items()
            for trial in done
        ]
        if not frames:
            return pd.DataFrame(columns=["method", "seed", "fold", "slide", "label", "predicted"])
        frame = pd.concat(frames, ignore_index=True)
        return frame[["method", "seed", "fold", *frames[0].columns[:-3]]]

    @property
    def facts(self) -> list[str]:
        """What is missing, one line each; empty for a complete run."""
        expected = len(self.plan.splits.folds) * len(self.plan.seeds)
        missing = [
            f"{method}: {len(done)} of {expected} trainings are stored; not ranked"
            for method, done in self.trials.items()
            if len(done) < expected and method not in self.plan.skipped
        ]
        return [*self.failures, *missing, *(f"{name} was left out: {why}" for name, why in self.plan.skipped.items())]

    def write(self, folder: Path) -> Path:
        """Write the report into ``folder``; the path of its Markdown page."""
        return write_report(folder, self.run_id, self.facts, self._tables)

    def __repr__(self) -> str:
        return f"<RunResult {self.run_id}: {', '.join(self.plan.methods)}; tables: {', '.join(self.tables)}>"

    def _repr_html_(self) -> str:
        """The tables as printed, for notebooks."""
        return "".join(map(html_table, self._tables))
