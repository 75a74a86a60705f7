"""MLflow: one parent run a benchmark, one child a method, seed and fold.

A child is written from the stored result of its fold, never from the training itself, and only if it is not there
yet. So a resumed run completes what a killed one left out, and a repeated one doubles nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mil_bench import durable
from mil_bench.evaluation.metrics import measure
from mil_bench.running.listeners import Listener
from mil_bench.running.plan import Job, RunPlan
from mil_bench.running.result_store import FoldResult

# Hospital data stay quiet: MLflow's usage telemetry is off, whatever its default.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# A server that does not answer is given up after seconds, not after MLflow's minutes; whoever sets these keeps them.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

_EXPERIMENT = "mil-bench"
_RUN_TAG = "mil_bench.run"
_FOLD_TAG = "mil_bench.fold"


class MlflowTracker(Listener):
    """Logs a run to MLflow.

    The server is the one that ``MLFLOW_TRACKING_URI`` names, else a SQLite file beside the results. If MLflow fails,
    the run says so once and goes on without it.

    Args:
        folder: where the SQLite file and the artifacts lie when no server is named.
    """

    def __init__(self, folder: Path):
        self._folder = folder.resolve()
        self._client: Any = None
        self._parent = self._experiment = ""
        self._known: set[str] = set()
        self._plan: RunPlan | None = None

    def on_start(self, plan: RunPlan, done: int, total: int) -> None:
        """Open or find the parent run."""
        self._plan = plan
        self._guarded(self._open)

    def on_fold(self, job: Job, result: FoldResult) -> None:
        """Log a child."""
        self._guarded(lambda: self._log_fold(job, result))

    def on_stored_fold(self, job: Job, result: FoldResult) -> None:
        """Log a child that an earlier call did not get to."""
        self._guarded(lambda: self._log_fold(job, result))

    def on_end(self, report: Path | None) -> None:
        """Add tables to the parent run and close it."""

        def close() -> None:
            if report is not None:
                self._client.log_artifacts(self._parent, str(report.parent), "report")
            self._client.set_terminated(self._parent, "FINISHED" if report is not None else "KILLED")

        self._guarded(close)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do it, unless MLflow has failed before."""
        if self._plan is None:
            return
        try:
            act()
        except Exception as error:  # whatever a tracker throws, it must not cost a training
            self._plan = None
            print(f"MLflow is left out from here on: {type(error).__name__}: {error}", file=sys.stderr)

    def _open(self) -> None:
        import logging

        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        plan = self._plan
        assert plan is not None
        server = os.environ.get("MLFLOW_TRACKING_URI")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(server or self._local_database())
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        location = None if server else (self._folder / "mlartifacts").as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(_EXPERIMENT, location)
        mine = self._client.search_runs([self._experiment], f"tags.`{_RUN_TAG}` = '{plan.run_id}'", max_results=50_000)
        parents = [run for run in mine if _FOLD_TAG not in run.data.tags]
        if parents:
            self._parent = parents[0].info.run_id
            self._client.update_run(self._parent, status="RUNNING")
        else:
            self._parent = self._create(plan.run_id, {"mil_bench.caption": plan.caption})
            about = {"methods": ", ".join(plan.methods), "seeds": ", ".join(map(str, plan.seeds))}
            self._log_params(self._parent, about | {"folds": len(plan.splits.folds)})
        children = [run for run in mine if _FOLD_TAG in run.data.tags]
        self._known = {run.data.tags[_FOLD_TAG] for run in children if run.info.status == "FINISHED"}
        for run in children:
            if run.info.status == "RUNNING":  # half written when an earlier call was killed; written anew below
                self._client.delete_run(run.info.run_id)

    def _local_database(self) -> str:
        """The SQLite file's address; a new file gets its name when its tables are complete.

        MLflow cannot go on with a file whose first set-up was killed.
        """
        from mlflow import MlflowClient

        path = self._folder / "mlflow.db"
        if not path.exists():
            with durable.new_file(path) as temporary:
                MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
        return f"sqlite:///{path}"

    def _create(self, name: str, tags: dict[str, str]) -> str:
        plan = self._plan
        assert plan is not None
        common = {_RUN_TAG: plan.run_id, "mil_bench.dataset": plan.dataset_caption}
        common["mil_bench.protocol"] = plan.splits.protocol
        return self._client.create_run(self._experiment, run_name=name, tags=common | tags).info.run_id

    def _log_params(self, run: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        plan = self._plan
        assert plan is not None
        common = {"dataset": plan.dataset, "protocol": plan.splits.protocol, "split": plan.splits.digest}
        self._client.log_batch(run, params=[Param(k, str(v)[:6000]) for k, v in (common | params).items()])

    def _log_fold(self, job: Job, result: FoldResult) -> None:
        from mlflow.entities import Metric

        plan = self._plan
        assert plan is not None
        name = f"{job.key}/{result.fold}"
        if name in self._known:
            return
        title = f"{job.dataset} {job.method} seed {job.seed} fold {result.fold}"
        run = self._create(title, {_FOLD_TAG: name, "mlflow.parentRunId": self._parent, "mil_bench.method": job.method})
        about = {"method": job.method, "seed": job.seed, "fold": result.fold, "job": job.key}
        self._log_params(
            run, about | {"data": job.data_digest} | dict(job.recipe) | dict(job.params) | dict(result.environment)
        )
        now = int(1000 * time.time())
        points = [Metric(k, v, now, epoch) for k, curve in result.curves.items() for epoch, v in enumerate(curve)]
        points += [Metric(k, v, now, 0) for k, v in _final_metrics(plan, result).items() if v == v]
        for start in range(0, len(points), 1000):  # MLflow's limit for one call
            self._client.log_batch(run, metrics=points[start : start + 1000])
        self._client.log_text(run, result.predictions.frame(plan.hierarchy).to_csv(index=False), "predictions.csv")
        self._client.log_text(run, json.dumps(job.to_json(), indent=1), "job.json")
        self._client.set_terminated(run)
        self._known.add(name)


def _final_metrics(plan: RunPlan, result: FoldResult) -> dict[str, float]:
    """Every test figure, and what it cost; undefined ones are left out by the caller."""
    found = measure(result.predictions, plan.hierarchy).values
    values = {_plain("_".join(filter(None, ["test", *figure]))): value for figure, value in found.items()}
    return values | ({"best_epoch": result.best_epoch, "seconds": result.seconds} if result.curves else {})


def _plain(name: str) -> str:
    """A class name with the characters MLflow allows in metric names."""
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in name)
