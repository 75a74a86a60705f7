"""The runner: plan, train what is missing, store, tell the listeners, make the tables."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.errors import InputError, StorageError, UnknownNameError
from mil_bench.planning.make import make_plan
from mil_bench.planning.request import RunRequest
from mil_bench.planning.rows import MethodRow
from mil_bench.running.pool import TaskResult, train_all
from mil_bench.running.result_store import Failure, ResultStore
from mil_bench.runs.result import RunResult
from mil_bench.tuning.trial_store import TrialStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mil_bench.bags.bag import Bag
    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.running.listeners import Listener
    from mil_bench.running.worker import Task
    from mil_bench.tuning.studies import StudyPlan


@dataclass(frozen=True)
class Workplace:
    """Where things lie and how much of the machine is used; nothing here changes a result on a CPU.

    Args:
        results: folder of results, reports and the MLflow file.
        data: folder of the bag stores.
        workers: trainings at the same time; None: one a core on a CPU, one on a GPU.
        device: "auto", "cpu" or "cuda".
        tracking: log to MLflow.
        progress: show progress.
    """

    results: Path = Path("results")
    data: Path = field(default_factory=lambda: Path(os.environ.get("MIL_BENCH_DATA", "data")))
    workers: int | None = None
    device: str = "auto"
    tracking: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        problems = []
        if self.device not in ("auto", "cpu", "cuda"):
            problems.append(f"device must be auto, cpu or cuda, not {self.device!r}")
        if self.workers is not None and not (isinstance(self.workers, int) and self.workers >= 1):
            problems.append(f"workers must be a whole number from 1 on, not {self.workers!r}")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")

    @property
    def store(self) -> ResultStore:
        """The result store."""
        return ResultStore(Path(self.results) / "runs")

    @property
    def trials(self) -> TrialStore:
        """The trials of tuning."""
        return TrialStore(Path(self.results) / "studies")

    @property
    def dashboard_file(self) -> Path:
        """What Optuna's dashboard reads."""
        return Path(self.results) / "optuna.log"

    def report_folder(self, plan: RunPlan) -> Path:
        """Where the plan's report goes."""
        return Path(self.results) / "reports" / plan.run_id

    def listeners(self) -> list[Listener]:
        """Progress and tracking, as asked for."""
        chosen: list[Listener] = []
        if self.progress:
            from mil_bench.running.display import ProgressDisplay

            chosen.append(ProgressDisplay())
        if self.tracking:
            from mil_bench.tracking.tracker import MlflowTracker

            chosen.append(MlflowTracker(Path(self.results)))
        return chosen

    def tuning_listeners(self, plans: Sequence[StudyPlan]) -> list[Listener]:
        """Progress as asked for, and the file for Optuna's dashboard."""
        from mil_bench.tuning.display import DashboardFile, TuningDisplay

        return [
            *([TuningDisplay()] if self.progress else []),
            DashboardFile(self.dashboard_file, plans),
        ]

    def resolve(self, tasks: int) -> tuple[str, int]:
        """Device and number of workers for so many tasks."""
        import torch

        device = self.device
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "the request",
                ["device=cuda, but torch finds no GPU here"],
                "Leave it at auto, or say cpu.",
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        cores = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
        workers = self.workers or (1 if device == "cuda" else cores)
        return device, max(1, min(workers, tasks))


def run(
    methods: str | MethodRow | Sequence[str | MethodRow] = "all",
    dataset: str = "digits",
    **options: Any,
) -> RunResult:
    """Train methods by seeded cross-validation and compare them. Repeating a call trains only what is missing.

    Args:
        methods: "all", a name, or names; with settings as ``"hmil:align_bags=false"``.
        dataset: a dataset's name, with settings if it is generated (``"bracs-sim:slides=200"``).
        options: fields of ``RunRequest`` (protocol, folds, splits, seeds, preset, epochs, tune,
            select) and of ``Workplace`` (results, data, workers, device, tracking, progress).

    Returns:
        A ``RunResult``: ``.tables`` holds pandas frames, ``.predictions`` every test prediction.

    Raises:
        MilBenchError: anything that is wrong with what was asked for; its text says what to do.

    In a script that uses more than one worker, call it under ``if __name__ == "__main__":``.
    """
    request_fields = {f.name for f in dataclasses.fields(RunRequest)}
    place_fields = {f.name for f in dataclasses.fields(Workplace)}
    for name in options:
        if name not in request_fields | place_fields:
            raise UnknownNameError("option", name, request_fields | place_fields)
    names = (methods,) if isinstance(methods, str | MethodRow) else tuple(methods)
    asked = {name: value for name, value in options.items() if name in request_fields}
    for name in ("seeds", "plugins"):
        if name in asked:
            value = asked[name]
            asked[name] = (value,) if isinstance(value, int | str | Path) else tuple(value)
    place = Workplace(**{name: value for name, value in options.items() if name in place_fields})
    return execute(prepare(RunRequest(dataset=dataset, methods=names, **asked), place), place)


@dataclass(frozen=True)
class Prepared:
    """A plan together with the bags it is about and the request behind it."""

    plan: RunPlan
    bags: BagStore
    request: RunRequest

    @property
    def plugins(self) -> tuple[Path, ...]:
        """The files its methods may come from."""
        return self.request.plugins


def prepare(request: RunRequest, place: Workplace) -> Prepared:
    """Check a request and plan it; trains nothing. A generated dataset is made if it is not there."""
    if request.plugins:
        from mil_bench.methods import Method

        for plugin in request.plugins:
            registry.methods.add_file(plugin, Method)
    request.variants  # noqa: B018 - unknown names are reported before any data are made
    spec = find_dataset(request.dataset)
    bags = open_store(spec, Path(place.data), _watch(spec) if place.progress else None)
    return Prepared(make_plan(request, spec, bags), bags, request)


def _watch(spec: DatasetSpec) -> Any:
    """A progress bar over the bags being generated."""

    def watch(bags: Iterable[Bag], total: int) -> Iterable[Bag]:
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        return track(
            bags, f"making {spec.slug}", total, console=console, disable=not console.is_terminal
        )

    return watch


def execute(prepared: Prepared, place: Workplace) -> RunResult:
    """Train what the result store lacks, and collect everything; settings that are to be tuned are tuned first."""
    if prepared.request.is_tuned:
        from mil_bench.tuning.tuner import tuned

        prepared = tuned(prepared, place)
    plan, store = prepared.plan, place.store
    store.save_plan(plan)
    source = MissingFolds(prepared, place)
    report: Path | None = None
    try:
        for listener in source.listeners:
            listener.on_start(plan, len(source.stored), len(plan.trainings))
        for job, fold in source.stored:
            result = store.load_fold(job, fold)
            for listener in source.listeners:
                listener.on_stored_fold(job, result)
        source.train()
        result = RunResult.collect(store, plan, tuple(source.failures))
        try:
            write = result.write if place.tracking else result.write_tables  # figures take seconds
            report = write(place.report_folder(plan))
        except StorageError as error:  # the tables can be shown all the same
            result = RunResult.collect(store, plan, (*source.failures, str(error)))
    finally:
        for listener in source.listeners:
            listener.on_end(report)
    return result


class MissingFolds:
    """The trainings of a plan that the result store lacks, as a source of tasks; stores each as it comes.

    Args:
        prepared: the plan and its bags.
        place: where results go.
    """

    is_waiting = False

    def __init__(self, prepared: Prepared, place: Workplace) -> None:
        self._prepared, self._place = prepared, place
        self.listeners = place.listeners()
        self.failures: list[str] = []
        """What could not be trained and why, a line each."""
        self.stored, missing = [], []
        for job, fold in prepared.plan.trainings:
            (self.stored if fold in place.store.done(job) else missing).append((job, fold))
        # Longest recipes first, so that no core waits for a late long one.
        self._missing = sorted(missing, key=lambda item: -item[0].recipe.get("epochs", 0))
        self._tasks: deque[tuple[Job, tuple[int, ...]]] = deque()
        self._device = "cpu"

    def train(self) -> None:
        """Train them all."""
        if self._missing:
            self._device, workers = self._place.resolve(len(self._missing))
            self._tasks.extend(tasks_of(self._missing, self._prepared.plan.trainings, self._device))
            train_all(self, workers, self._on_epoch)

    def next_task(self) -> Task | None:
        """The next folds."""
        from mil_bench.running.worker import Task  # brings torch

        if not self._tasks:
            return None
        (job, folds), prepared = self._tasks.popleft(), self._prepared
        return Task(
            job, folds, prepared.plan.splits, prepared.bags.path, self._device, prepared.plugins
        )

    def receive(self, task: Task, outcome: TaskResult) -> None:
        """Store a fold, or note why there is none; a task that fails does not stop the others."""
        job = task.job
        if isinstance(outcome, Failure):
            folds = ", ".join(map(str, task.folds))
            self.failures.append(
                f"{job.label} seed {job.seed} fold {folds} failed: {outcome.reason}"
            )
            for listener in self.listeners:
                listener.on_failure(job, task.folds, outcome.reason)
            return
        for result in outcome:
            if (job, result.fold) in self.stored:  # trained again beside those that were missing
                continue
            self._place.store.save_fold(job, result)
            for listener in self.listeners:
                listener.on_fold(job, result)

    def _on_epoch(self, event: Any) -> None:
        for listener in self.listeners:
            listener.on_epoch(event)


def tasks_of(
    missing: Sequence[tuple[Job, int]], trainings: Sequence[tuple[Job, int]], device: str
) -> list[tuple[Job, tuple[int, ...]]]:
    """What is to be trained, as tasks: a job and the folds that are trained together.

    On a CPU every fold is one: folds of a looped stack share nothing but the reading, single ones
    use the cores evenly, and a killed run loses one fold a core. On a GPU all folds of a job are
    trained in one pass, and again all of them if some are missing: a stack's numbers depend, by
    rounding and dropout, on who is in it.

    Args:
        missing: jobs with the folds of which nothing is stored.
        trainings: all jobs with all their folds.
        device: "cpu" or "cuda".
    """
    if device == "cpu":
        return [(job, (fold,)) for job, fold in missing]
    jobs = {id(job): job for job, _ in missing}
    return [(job, tuple(fold for each, fold in trainings if each is job)) for job in jobs.values()]
