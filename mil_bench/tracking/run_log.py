"""A benchmark in MLflow: finds what is there, adds what is missing."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from mil_bench import durable
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.tracking import entries
from mil_bench.tracking.entries import FOLD, METHOD, TRIAL, Entry, Point
from mil_bench.tracking.views import EXPERIMENT_TAGS, address
from mil_bench.tuning.trial_store import TrialStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.trials import Trial
    from mil_bench.planning.plan import Job, RunPlan

# Hospital data stay quiet: MLflow's usage telemetry is off, whatever its default.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# A server that does not answer is given up after seconds, not after MLflow's minutes; whoever sets
# these keeps them.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

_Place = tuple[str, str]
"""Method and fold or trial; "" where a run is about neither: ("", "") is the benchmark."""
_TRAININGS, _FAILED = "mil_bench.trainings", "mil_bench.failed"
_PARENT = "mlflow.parentRunId"


class RunLog:
    """One benchmark's runs in MLflow. Every call may raise whatever MLflow raises.

    The server is the one that ``MLFLOW_TRACKING_URI`` names, else a SQLite file beside the results.

    Args:
        results: folder of the results; the SQLite file and its artifacts lie there.
        plan: the benchmark.
    """

    def __init__(self, results: Results, plan: RunPlan) -> None:
        self._folder, self._plan = Results(results.folder.resolve()), plan
        self._store, self._trials = ResultStore(results.runs), TrialStore(results.studies)
        self._client: Any = None
        self._experiment = ""
        self._known: dict[_Place, Any] = {}
        self._figures: dict[str, dict[str, Mapping[str, float]]] = {}
        self._failures: dict[str, list[str]] = {}
        self._changed = False

    @property
    def run_id(self) -> str:
        """Name of the benchmark."""
        return self._plan.run_id

    def open(self) -> None:
        """Find the benchmark's runs, or begin it; drop what an earlier call left half written."""
        # MLflow brings a second of imports: whoever is not tracked does not wait for them.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        server = os.environ.get("MLFLOW_TRACKING_URI")
        self._folder.folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(server or self._local_database())
        name = f"mil-bench/{self._plan.dataset}"
        found = self._client.get_experiment_by_name(name)
        location = None if server else self._folder.artifacts.as_uri()
        self._experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(name, location, EXPERIMENT_TAGS)
        )
        self._find()
        if ("", "") not in self._known:
            self._create(
                ("", ""),
                entries.benchmark_entry(self._plan, self._store.planned(self._plan.run_id)),
            )
        elif any(place not in self._known for place in self._places):
            self._client.update_run(self._known["", ""].info.run_id, status="RUNNING")
            self._changed = True

    @property
    def where(self) -> str:
        """How to look at it in a browser."""
        server = os.environ.get("MLFLOW_TRACKING_URI", "")
        if server.startswith(("http://", "https://")):
            return address(server, self._experiment)
        start = f"mlflow ui --backend-store-uri {server or f'sqlite:///{self._folder.database}'}"
        return f"{start}, then {address('http://127.0.0.1:5000', self._experiment)}"

    @property
    def is_current(self) -> bool:
        """Whether an earlier call has logged everything, and this one found nothing to add."""
        return not self._changed and self._known["", ""].info.status == "FINISHED"

    @property
    def _places(self) -> list[_Place]:
        """Where the folds of a complete benchmark stand, and the trials behind it."""
        folds = [(job.label, entries.fold_name(job, fold)) for job, fold in self._plan.trainings]
        return folds + [
            (trial.label, entries.trial_name(trial)) for trial in self._trials.of_plan(self._plan)
        ]

    def log_stored(self) -> int:
        """Log every stored fold and trial that is not there yet; how many folds these were."""
        for trial in self._trials.of_plan(self._plan):
            self._log_trial(trial)
        return sum(self.log_fold(job, fold) for job, fold in self._stored)

    @property
    def _stored(self) -> list[tuple[Job, int]]:
        """The folds of the benchmark that the result store has."""
        done = {job.key: self._store.done(job) for job in self._plan.jobs}
        return [(job, fold) for job, fold in self._plan.trainings if fold in done[job.key]]

    def log_fold(self, job: Job, fold: int) -> bool:
        """Log a stored fold; False if it is there already."""
        place = (job.label, entries.fold_name(job, fold))
        if place in self._known:
            return False
        result, ended = self._store.load_fold(job, fold), self._store.finished(job, fold)
        figures = self._measured(job, result)
        method = self._method(job.label, ended - result.seconds)
        entry = entries.fold_entry(self._plan, job, result, figures, ended)
        run = self._create(place, entry, method)
        frame = result.predictions.frame(self._plan.hierarchy)
        self._client.log_text(run, frame.to_csv(index=False), "predictions.csv")
        self._client.log_artifact(run, str(self._store.folder(job) / "job.json"))
        if result.in_dim is not None:
            self._client.log_artifact(run, str(self._store.weights_path(job, fold)))
        self._end(run, entry)
        return True

    def _log_trial(self, trial: Trial) -> None:
        """Log a stored trial, unless it is there already."""
        place = (trial.label, entries.trial_name(trial))
        if place not in self._known:
            ended = self._trials.finished(self._plan.dataset, trial)
            entry = entries.trial_entry(self._plan, trial, ended)
            self._end(self._create(place, entry, self._method(trial.label, entry.started)), entry)

    def log_failure(self, job: Job, folds: Sequence[int], reason: str) -> None:
        """Note why a training failed, at its method."""
        self._changed = True
        lines = self._failures.setdefault(job.label, [])
        lines.append(f"seed {job.seed} fold {', '.join(map(str, folds))}: {reason}")
        self._client.set_tag(
            self._method(job.label, time.time()), _FAILED, "\n".join(lines)[-5000:]
        )

    def close(self, report: Path | None) -> None:
        """Add what is known when a run is over: means over folds, tables, figures, the report; and end its runs.

        Args:
            report: a file in the report's folder, None if the run was interrupted.
        """
        self.log_stored()
        if self.is_current:
            return
        ends = [self._store.planned(self._plan.run_id)]
        means: list[Point] = []
        complete = True
        stored = self._stored
        for label in dict.fromkeys(job.label for job in self._plan.jobs):
            done = [(job, fold) for job, fold in stored if job.label == label]
            whole = len(done) == sum(job.label == label for job, _ in self._plan.trainings)
            complete &= whole
            ends.append(max((self._store.finished(*each) for each in done), default=ends[0]))
            if (label, "") in self._known:
                means += self._close_method(label, done, ends[-1], whole)
        parent = self._known["", ""]
        if report is not None:
            self._client.log_artifacts(parent.info.run_id, str(report.parent), "report")
            text = entries.description(
                self._plan, (report.parent / "report.md").read_text(encoding="utf-8")
            )
            self._client.set_tag(parent.info.run_id, entries.DESCRIPTION, text)
        self._log(parent.info.run_id, {}, means)
        status = (
            "FAILED"
            if self._failures
            else "FINISHED"
            if complete and report is not None
            else "KILLED"
        )
        self._client.set_terminated(parent.info.run_id, status, _milliseconds(max(ends)))

    def _close_method(
        self, label: str, done: Sequence[tuple[Job, int]], end: float, whole: bool
    ) -> list[Point]:
        """Give a method its means and its end, unless it has them; what the benchmark itself says of it."""
        run, count = self._known[label, ""], str(len(done))
        if (
            run.data.tags.get(_TRAININGS) == count
            and run.info.status != "RUNNING"
            and label not in self._failures
        ):
            values = run.data.metrics
            return entries.headline_points(label, {k: (values[k], len(done), end) for k in values})
        known = self._figures.setdefault(label, {})
        for job, fold in done:
            if entries.fold_name(job, fold) not in known:
                self._measured(job, self._store.load_fold(job, fold))
        points = entries.summary_points(list(known.values()), end)
        self._log(run.info.run_id, {_TRAININGS: count}, points)
        status = "FINISHED" if whole else "FAILED" if label in self._failures else "KILLED"
        self._client.set_terminated(run.info.run_id, status, _milliseconds(end))
        return entries.headline_points(label, {p.name: (p.value, p.step, p.time) for p in points})

    def _measured(self, job: Job, result: TrainedFold) -> Mapping[str, float]:
        known = self._figures.setdefault(job.label, {})
        known[entries.fold_name(job, result.fold)] = figures = entries.test_figures(
            self._plan, result
        )
        return figures

    def _method(self, label: str, started: float) -> str:
        """The run of a method, made if it is not there."""
        place = (label, "")
        if place not in self._known:
            parent = self._known["", ""].info.run_id
            self._create(place, entries.method_entry(self._plan, label, started), parent)
        return self._known[place].info.run_id

    def _find(self) -> None:
        """Read what is there. Half of a run, a second one, and what hangs under neither is dropped, to be made anew."""
        where, page = f"tags.`{entries.RUN}` = '{self._plan.run_id}'", None
        runs: list[Any] = []
        while page != "":
            found = self._client.search_runs(
                [self._experiment],
                where,
                max_results=5000,
                order_by=["start_time"],
                page_token=page,
            )
            runs, page = [*runs, *found], found.token or ""
        for depth in range(3):
            for run in (run for run in runs if _depth(run) == depth):
                tags = run.data.tags
                place = (tags.get(METHOD, ""), tags.get(FOLD) or tags.get(TRIAL, ""))
                above = self._known.get((place[0], "") if depth == 2 else ("", ""))
                lost = depth > 0 and (above is None or tags.get(_PARENT) != above.info.run_id)
                if place in self._known or lost or (depth == 2 and run.info.status == "RUNNING"):
                    self._client.delete_run(run.info.run_id)
                else:
                    self._known[place] = run

    def _create(self, place: _Place, entry: Entry, parent: str | None = None) -> str:
        """Begin a run of MLflow with all its tags, parameters, metrics."""
        from mlflow.entities import Dataset, DatasetInput

        tags = dict(entry.tags) | ({_PARENT: parent} if parent else {})
        start = _milliseconds(entry.started)
        run = self._client.create_run(self._experiment, start, tags, entry.name)
        self._log(run.info.run_id, {}, entry.points, entry.params)
        if not place[1]:  # of a fold's many calls this one is spared: its method has it
            digest = entries.data_digest(self._plan)
            source = f'{{"digest": "{digest}"}}'
            data = Dataset(self._plan.dataset, digest[:36], "mil-bench", source)
            self._client.log_inputs(run.info.run_id, [DatasetInput(data)])
        self._known[place] = run
        self._changed = True
        return run.info.run_id

    def _end(self, run: str, entry: Entry) -> None:
        self._client.set_terminated(run, entry.status, _milliseconds(entry.ended or time.time()))

    def _log(
        self,
        run: str,
        tags: Mapping[str, str],
        points: Sequence[Point],
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Tags, parameters and metrics in as few calls as MLflow's limits allow: 100, 100, and 1000 in all."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.name, p.value, _milliseconds(p.time), p.step) for p in points]
        chosen = [
            Param(entries.plain(name), str(value)[:6000]) for name, value in (params or {}).items()
        ]
        labels = [RunTag(name, value) for name, value in tags.items()]
        while metrics or chosen or labels:
            self._client.log_batch(run, metrics[:800], chosen[:100], labels[:100])
            metrics, chosen, labels = metrics[800:], chosen[100:], labels[100:]

    def _local_database(self) -> str:
        """The SQLite file's address; a new file gets its name when its tables are complete.

        MLflow cannot go on with a file whose first set-up was killed.
        """
        from mlflow import MlflowClient

        path = self._folder.database
        if not path.exists():
            with durable.new_file(path) as temporary:
                MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
        return f"sqlite:///{path}"


def _depth(run: Any) -> int:
    """0 for a benchmark, 1 for a method, 2 for a fold or a trial."""
    tags = run.data.tags
    return 2 if FOLD in tags or TRIAL in tags else 1 if METHOD in tags else 0


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
