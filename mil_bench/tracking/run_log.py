"""A benchmark in MLflow: find what is logged, and log what is missing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.errors import TrackingError
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.fold_table import prediction_frames
from mil_bench.tracking import entries, local_file, words
from mil_bench.tracking.entries import FOLD, HELD, LOGGED, METHOD, TEST, TRIAL, Entry, Point
from mil_bench.tracking.names import plain_names
from mil_bench.tracking.views import EXPERIMENT_TAGS, address
from mil_bench.tuning.trial_store import TrialStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.trials import Trial
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.report.tables import ResultTable

_RunKey = tuple[str, str]
"""What a run in MLflow is about: method, and fold or trial; ("", "") is the benchmark itself."""
_BENCHMARK: _RunKey = ("", "")
_TRAININGS, _FAILED = "mil_bench.trainings", "mil_bench.failed"
_PARENT = "mlflow.parentRunId"


class RunLog:
    """One benchmark's runs in MLflow. Every call may raise whatever MLflow raises.

    Values on test slides and test predictions are held back until all trainings of the plan are
    stored or its report is written, so that nobody stops or changes a run because of them.

    The server is the one that ``MLFLOW_TRACKING_URI`` names, or else a SQLite file in the folder of
    results.

    Args:
        results: folder of results, with the SQLite file and its artifacts.
        plan: the benchmark.
    """

    def __init__(self, results: Results, plan: RunPlan) -> None:
        self._results, self._plan = Results(results.folder.resolve()), plan
        self._is_stopped, self.last_step = False, time.monotonic()
        self._store, self._trials = ResultStore(results.runs), TrialStore(results.studies)
        self._client: Any = None
        self._experiment = ""
        self._runs: dict[_RunKey, Any] = {}
        self._values: dict[str, dict[str, Mapping[str, float]]] = {}
        self._failures: dict[str, list[str]] = {}
        self._changed, self._has_report = False, False
        self._held: set[_RunKey] = set()

    @property
    def run_id(self) -> str:
        """Name of the benchmark."""
        return self._plan.run_id

    def open(self) -> None:
        """Find the benchmark's runs, or begin it; delete what an earlier call left incomplete."""
        # Importing MLflow takes a second, which runs without tracking need not spend.
        from mlflow import MlflowClient

        server = words.tracking_server()
        self._results.folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(server) if server else local_file.opened(self._results)
        self._step()
        self._experiment = self._found_experiment(None if server else self._results.artifacts)
        self._find()
        if _BENCHMARK not in self._runs:
            started = self._store.planned(self._plan.run_id)
            self._create(_BENCHMARK, entries.benchmark_entry(self._plan, started))
        elif any(key not in self._runs for key in self._expected):
            self._client.update_run(self._parent, status="RUNNING")
            self._changed = True

    def _found_experiment(self, artifacts: Path | None) -> str:
        """MLflow's name of the dataset's experiment, created if it does not exist.

        Args:
            artifacts: where its files go, None for the server's place.
        """
        name = f"{local_file.EXPERIMENTS}{self._plan.dataset}"
        place = artifacts and artifacts.as_uri()
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return self._client.create_experiment(name, place, EXPERIMENT_TAGS)
            except Exception:  # another run may have created it in the meantime
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return experiment.experiment_id

    def stop(self) -> None:
        """Let the next step fail, so that an abandoned thread does not go on."""
        self._is_stopped = True

    def _step(self) -> None:
        """Something was done, and something follows."""
        self.last_step = time.monotonic()
        if self._is_stopped:
            raise TrackingError("it was abandoned")

    @property
    def where(self) -> str:
        """What to start and which address to open in a browser."""
        server = words.tracking_server()
        if server.startswith(("http://", "https://")):
            return address(words.without_password(server), self._experiment)
        start = words.page_command(server, local_file.address(self._results.database))
        return f"{start}, then {address('http://127.0.0.1:5000', self._experiment)}"

    @property
    def lock_file(self) -> Path:
        """What a process locks while it logs this benchmark."""
        return self._store.root / self._plan.dataset / f".{self.run_id}.tracking.lock"

    @property
    def is_current(self) -> bool:
        """Whether an earlier call has logged everything, and this one found nothing to add."""
        return not self._changed and self._runs[_BENCHMARK].info.status == "FINISHED"

    @property
    def _parent(self) -> str:
        """MLflow's name of the benchmark."""
        return self._runs[_BENCHMARK].info.run_id

    @property
    def _expected(self) -> list[_RunKey]:
        """The folds of the complete benchmark, and the trials of its settings."""
        folds = [(job.label, entries.fold_name(job, fold)) for job, fold in self._plan.trainings]
        return folds + [
            (trial.label, entries.trial_name(trial)) for trial in self._trials.of_plan(self._plan)
        ]

    def log_stored(self) -> int:
        """Log every stored fold and trial that is not logged yet; the number of these folds."""
        for trial in self._trials.of_plan(self._plan):
            self._log_trial(trial)
        return sum(self.log_fold(job, fold) for job, fold in self._stored)

    @property
    def _stored(self) -> list[tuple[Job, int]]:
        """The folds of the benchmark that the result store has."""
        folds = {job.key: self._store.done(job) for job in self._plan.jobs}
        return [(job, fold) for job, fold in self._plan.trainings if fold in folds[job.key]]

    def log_fold(self, job: Job, fold: int) -> bool:
        """Log a stored fold; False if it is logged already."""
        key = (job.label, entries.fold_name(job, fold))
        if key in self._runs:
            return False
        result, ended = self._store.load_fold(job, fold), self._store.finished(job, fold)
        values = self._measured(job, result) if self._is_open else None
        method = self._method(job.label, ended - result.seconds)
        entry = entries.fold_entry(self._plan, job, result, values, ended)
        run = self._create(key, entry, method)
        self._step()
        if values is None:
            self._held.add(key)
        else:
            self._log_predictions(run, result)
        self._client.log_artifact(run, str(self._store.folder(job) / "job.json"))
        if result.in_dim is not None:
            self._client.log_artifact(run, str(self._store.weights_path(job, fold)))
        self._end(run, entry)
        return True

    @property
    def _is_open(self) -> bool:
        """Whether values on test slides may be seen."""
        return self._has_report or len(self._stored) == len(self._plan.trainings)

    def _log_predictions(self, run: str, result: TrainedFold) -> None:
        for name, frame in prediction_frames(self._plan, result).items():
            self._client.log_text(run, frame.to_csv(index=False), f"{name}.csv")

    def _log_held(self) -> None:
        """Log the values on test slides that were held back, and the predictions."""
        for job, fold in self._stored:
            key = (job.label, entries.fold_name(job, fold))
            if key in self._held:
                self._changed = True
                run, result = self._runs[key].info.run_id, self._store.load_fold(job, fold)
                values = self._measured(job, result)
                self._log(run, entries.value_points(values, self._store.finished(job, fold)))
                self._log_predictions(run, result)
                self._client.set_tag(run, TEST, LOGGED)
                self._held.remove(key)

    def _log_trial(self, trial: Trial) -> None:
        """Log a stored trial, unless it is logged already."""
        key = (trial.label, entries.trial_name(trial))
        if key not in self._runs:
            ended = self._trials.finished(self._plan.dataset, trial)
            entry = entries.trial_entry(self._plan, trial, ended)
            self._end(self._create(key, entry, self._method(trial.label, entry.started)), entry)

    def log_failure(self, job: Job, folds: Sequence[int], reason: str) -> None:
        """Log why a training failed, with its method."""
        self._changed = True
        lines = self._failures.setdefault(job.label, [])
        lines.append(f"seed {job.seed} fold {', '.join(map(str, folds))}: {reason}")
        self._client.set_tag(
            self._method(job.label, time.time()), _FAILED, "\n".join(lines)[-5000:]
        )

    def log_report(
        self, folder: Path, sentences: Sequence[str], tables: Sequence[ResultTable]
    ) -> None:
        """Log a report: its files, and its first tables as the benchmark's description.

        Args:
            folder: of the report.
            sentences: verdicts and facts.
            tables: all tables.
        """
        self.log_stored()
        self._log_held()
        if not self.is_current:
            for file in (path for path in sorted(folder.rglob("*")) if path.is_file()):
                self._step()
                place = Path("report", file.relative_to(folder)).parent.as_posix()
                self._client.log_artifact(self._parent, str(file), place)
            text = entries.description(self._plan, sentences, tables)
            self._client.set_tag(self._parent, entries.DESCRIPTION, text)
            self._has_report = True

    def close(self) -> None:
        """Log the means over folds, and end the runs; without a report, as interrupted."""
        self.log_stored()
        if self._is_open:
            self._log_held()
        if self.is_current:
            return
        ends = [self._store.planned(self._plan.run_id)]
        means: list[Point] = []
        is_complete, stored = True, self._stored
        for label in dict.fromkeys(job.label for job in self._plan.jobs):
            folds = [(job, fold) for job, fold in stored if job.label == label]
            has_all = len(folds) == sum(job.label == label for job, _ in self._plan.trainings)
            is_complete &= has_all
            finished = (self._store.finished(job, fold) for job, fold in folds)
            ends.append(max(finished, default=ends[0]))
            if (label, "") in self._runs:
                means += self._close_method(label, folds, ends[-1], has_all)
        self._log(self._parent, means)
        finished_status = "FINISHED" if is_complete and self._has_report else "KILLED"
        status = "FAILED" if self._failures else finished_status
        self._client.set_terminated(self._parent, status, _milliseconds(max(ends)))

    def _close_method(
        self, label: str, folds: Sequence[tuple[Job, int]], end: float, has_all: bool
    ) -> list[Point]:
        """Log a method's means and end its run, unless that is done; its points in the benchmark.

        Args:
            label: the method.
            folds: its stored folds.
            end: when the last of them was stored.
            has_all: whether they are all its folds.
        """
        run, count = self._runs[label, ""], str(len(folds))
        if (
            run.data.tags.get(_TRAININGS) == count
            and run.info.status != "RUNNING"
            and label not in self._failures
        ):
            means = run.data.metrics
            return entries.headline_points(
                self._plan, label, {k: (means[k], len(folds), end) for k in means}
            )
        status = "FINISHED" if has_all else "FAILED" if label in self._failures else "KILLED"
        if not self._is_open:
            self._client.set_terminated(run.info.run_id, status, _milliseconds(end))
            return []
        values = self._values.setdefault(label, {})
        for job, fold in folds:
            if entries.fold_name(job, fold) not in values:
                self._measured(job, self._store.load_fold(job, fold))
        points = entries.summary_points(list(values.values()), end)
        self._client.set_tag(run.info.run_id, _TRAININGS, count)
        self._log(run.info.run_id, points)
        self._client.set_terminated(run.info.run_id, status, _milliseconds(end))
        return entries.headline_points(
            self._plan, label, {p.name: (p.value, p.step, p.time) for p in points}
        )

    def _measured(self, job: Job, result: TrainedFold) -> Mapping[str, float]:
        values = entries.values_on_test(self._plan, result)
        self._values.setdefault(job.label, {})[entries.fold_name(job, result.fold)] = values
        return values

    def _method(self, label: str, started: float) -> str:
        """The run of a method, created if it does not exist."""
        key = (label, "")
        if key not in self._runs:
            self._create(key, entries.method_entry(self._plan, label, started), self._parent)
        return self._runs[key].info.run_id

    def _find(self) -> None:
        """Read which runs exist.

        Delete those to be logged again: incomplete ones, duplicates, and those without a parent.
        """
        condition, page = f"tags.`{entries.RUN}` = '{self._plan.run_id}'", None
        runs: list[Any] = []
        while page != "":
            batch = self._client.search_runs(
                [self._experiment],
                condition,
                max_results=5000,
                order_by=["start_time"],
                page_token=page,
            )
            runs, page = [*runs, *batch], batch.token or ""
        for depth in range(3):
            for run in (run for run in runs if _depth(run) == depth):
                tags = run.data.tags
                key = (tags.get(METHOD, ""), tags.get(FOLD) or tags.get(TRIAL, ""))
                parent = self._runs.get((key[0], "") if depth == 2 else _BENCHMARK)
                is_orphan = depth > 0 and (
                    parent is None or tags.get(_PARENT) != parent.info.run_id
                )
                is_incomplete = depth == 2 and run.info.status == "RUNNING"
                if key in self._runs or is_orphan or is_incomplete:
                    self._client.delete_run(run.info.run_id)
                    continue
                self._runs[key] = run
                if tags.get(TEST) == HELD:
                    self._held.add(key)

    def _create(self, key: _RunKey, entry: Entry, parent: str | None = None) -> str:
        """Begin a run in MLflow with all its tags, parameters and metrics; MLflow's name of it."""
        from mlflow.entities import Dataset, DatasetInput

        self._step()
        tags = dict(entry.tags) | ({_PARENT: parent} if parent else {})
        start = _milliseconds(entry.started)
        run = self._client.create_run(self._experiment, start, tags, entry.name[:250])
        self._log(run.info.run_id, entry.points, entry.params)
        if not key[1]:  # a fold's dataset is logged with its method, which saves a call per fold
            digest = entries.data_digest(self._plan)
            source = f'{{"digest": "{digest}"}}'
            data = Dataset(self._plan.dataset, digest[:36], "mil-bench", source)
            self._client.log_inputs(run.info.run_id, [DatasetInput(data)])
        self._runs[key] = run
        self._changed = True
        return run.info.run_id

    def _end(self, run: str, entry: Entry) -> None:
        self._client.set_terminated(run, entry.status, _milliseconds(entry.ended or time.time()))

    def _log(
        self, run: str, points: Sequence[Point], params: Mapping[str, Any] | None = None
    ) -> None:
        """Log metrics and parameters in few calls; MLflow allows 1000 per call, 100 parameters."""
        from mlflow.entities import Metric, Param

        metrics = [Metric(p.name, p.value, _milliseconds(p.time), p.step) for p in points]
        names = plain_names(params or {})
        settings = [Param(names[name], str(value)[:6000]) for name, value in (params or {}).items()]
        while metrics or settings:
            self._client.log_batch(run, metrics[:900], settings[:100])
            self._step()
            metrics, settings = metrics[900:], settings[100:]


def _depth(run: Any) -> int:
    """0 for a benchmark, 1 for a method, 2 for a fold or a trial."""
    tags = run.data.tags
    return 2 if FOLD in tags or TRIAL in tags else 1 if METHOD in tags else 0


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
