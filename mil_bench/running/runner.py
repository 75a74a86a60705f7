"""The runner: plan, train what is missing, store, tell the listeners, make the tables."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mil_bench import registry
from mil_bench.data.bag import Bag
from mil_bench.data.catalogue import find_dataset, open_store
from mil_bench.data.spec import DatasetSpec
from mil_bench.data.store import BagStore
from mil_bench.errors import InputError, MilBenchError, StorageError, UnknownNameError
from mil_bench.running.executors import open_executor
from mil_bench.running.listeners import Listener
from mil_bench.running.plan import Job, RunPlan
from mil_bench.running.planning import make_plan
from mil_bench.running.request import RunRequest
from mil_bench.running.result_store import FoldResult, ResultStore
from mil_bench.running.run_result import RunResult
from mil_bench.running.variants import Variant


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

    def report_folder(self, plan: RunPlan) -> Path:
        """Where the plan's report goes."""
        return Path(self.results) / "reports" / plan.run_id

    def listeners(self) -> list[Listener]:
        """Progress and tracking, as asked for."""
        chosen: list[Listener] = []
        if self.progress:
            from mil_bench.running.progress import ProgressDisplay

            chosen.append(ProgressDisplay())
        if self.tracking:
            from mil_bench.running.tracking.tracker import MlflowTracker

            chosen.append(MlflowTracker(Path(self.results)))
        return chosen

    def resolve(self, tasks: int) -> tuple[str, int]:
        """Device and number of workers for so many tasks."""
        import torch

        device = self.device
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "the request", ["device=cuda, but torch finds no GPU here"], "Leave it at auto, or say cpu."
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = self.workers or (1 if device == "cuda" else cores)
        return device, max(1, min(workers, tasks))


def run(methods: str | Variant | Sequence[str | Variant] = "all", dataset: str = "digits", **options: Any) -> RunResult:
    """Train methods by seeded cross-validation and compare them. Repeating a call trains only what is missing.

    Args:
        methods: "all", a name, or names; with settings as ``"hmil:align_bags=false"``.
        dataset: a dataset's name, with settings if it is generated (``"bracs-sim:slides=200"``).
        options: fields of ``RunRequest`` (protocol, folds, splits, seeds, preset, epochs) and of ``Workplace``
            (results, data, workers, device, tracking, progress).

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
    names = (methods,) if isinstance(methods, str | Variant) else tuple(methods)
    asked = {name: value for name, value in options.items() if name in request_fields}
    for name in ("seeds", "plugins"):
        if name in asked:
            value = asked[name]
            asked[name] = (value,) if isinstance(value, int | str | Path) else tuple(value)
    place = Workplace(**{name: value for name, value in options.items() if name in place_fields})
    return execute(prepare(RunRequest(dataset=dataset, methods=names, **asked), place), place)


@dataclass(frozen=True)
class Prepared:
    """A plan together with the bags it is about, and the files its methods may come from."""

    plan: RunPlan
    bags: BagStore
    plugins: tuple[Path, ...] = ()


def prepare(request: RunRequest, place: Workplace) -> Prepared:
    """Check a request and plan it; trains nothing. A generated dataset is made if it is not there."""
    if request.plugins:
        from mil_bench.methods import Method

        for plugin in request.plugins:
            registry.methods.add_file(plugin, Method)
    request.variants  # noqa: B018 - unknown names are reported before any data are made
    spec = find_dataset(request.dataset)
    bags = open_store(spec, Path(place.data), _watch(spec) if place.progress else None)
    return Prepared(make_plan(request, spec, bags), bags, request.plugins)


def _watch(spec: DatasetSpec) -> Any:
    """A progress bar over the bags being generated."""

    def watch(bags: Iterable[Bag], total: int) -> Iterable[Bag]:
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        return track(bags, f"making {spec.slug}", total, console=console, disable=not console.is_terminal)

    return watch


def execute(prepared: Prepared, place: Workplace) -> RunResult:
    """Train what the result store lacks, and collect everything."""
    plan, store = prepared.plan, place.store
    store.save_plan(plan)
    folds = set(range(len(plan.splits.folds)))
    done = {job.key: store.done(job) & folds for job in plan.jobs}
    listeners = place.listeners()
    report: Path | None = None
    try:
        for listener in listeners:
            listener.on_start(plan, sum(map(len, done.values())), len(plan.jobs) * len(folds))
        for job in plan.jobs:
            for fold in sorted(done[job.key]):
                stored = store.load_fold(job, fold)
                for listener in listeners:
                    listener.on_stored_fold(job, stored)
        failures = _train_missing(prepared, place, store, done, listeners)
        result = RunResult.collect(store, plan, tuple(failures))
        try:
            write = result.write if place.tracking else result.write_tables  # figures take seconds
            report = write(place.report_folder(plan))
        except StorageError as error:  # the tables can be shown all the same
            result = RunResult.collect(store, plan, (*failures, str(error)))
    finally:
        for listener in listeners:
            listener.on_end(report)
    return result


def _train_missing(
    prepared: Prepared, place: Workplace, store: ResultStore, done: dict[str, set[int]], listeners: list[Listener]
) -> list[str]:
    """Train every fold that is not done; what failed and why."""
    plan = prepared.plan
    # Folds of a looped stack share nothing but the reading, so every fold is a task: cores are used evenly, and
    # a killed run loses one fold a core. Longest recipes first, so that no core waits for a late long one.
    missing = [(job, (k,)) for job in plan.jobs for k in range(len(plan.splits.folds)) if k not in done[job.key]]
    missing.sort(key=lambda item: -item[0].recipe.get("epochs", 0))
    if not missing:
        return []
    from mil_bench.running import worker  # brings torch

    device, workers = place.resolve(len(missing))

    def on_epoch(event: Any) -> None:
        for listener in listeners:
            listener.on_epoch(event)

    def train(tasks: list[tuple[Job, tuple[int, ...]]], workers: int, isolated: bool) -> _Round:
        with open_executor(workers, on_epoch, isolated) as executor:
            futures, too_late = {}, []
            for job, ks in tasks:
                task = worker.Task(job, ks, plan.splits, prepared.bags.path, device, prepared.plugins)
                try:
                    futures[executor.submit(worker.train, task)] = (job, ks)
                except BrokenExecutor:  # a process died while tasks were still being handed out
                    too_late.append((job, ks))
            outcome = _record(futures, store, listeners)
            return _Round(outcome.failures, outcome.orphans + too_late)

    outcome = train(missing, workers, isolated=False)
    failures = outcome.failures
    # A process that dies, usually for want of memory, takes the whole pool with it: go on one by one.
    for task in outcome.orphans:
        alone = train([task], 1, isolated=True)
        failures += alone.failures
        for job, ks in alone.orphans:
            reason = "the process died, most likely out of memory; try --workers 1 or smaller bags"
            failures.append(_failed(job, ks, reason, listeners))
    return failures


@dataclass(frozen=True)
class _Round:
    """What became of some tasks beside their stored results: lines of those that failed, and those whose pool died."""

    failures: list[str]
    orphans: list[tuple[Job, tuple[int, ...]]]


def _failed(job: Job, ks: tuple[int, ...], reason: str, listeners: list[Listener]) -> str:
    for listener in listeners:
        listener.on_failure(job, ks, reason)
    return f"{job.label} seed {job.seed} fold {', '.join(map(str, ks))} failed: {reason}"


def _record(
    futures: Mapping[Future, tuple[Job, tuple[int, ...]]], store: ResultStore, listeners: list[Listener]
) -> _Round:
    """Store each result as it comes. A task that fails does not stop the others."""
    outcome = _Round([], [])
    for future in as_completed(futures):
        job, ks = futures[future]
        try:
            results: list[FoldResult] = future.result()
        except BrokenExecutor:
            outcome.orphans.append((job, ks))
            continue
        except Exception as error:  # a method may throw anything
            reason = str(error) if isinstance(error, MilBenchError) else f"{type(error).__name__}: {error}"
            outcome.failures.append(_failed(job, ks, reason, listeners))
            continue
        for result in results:
            store.save_fold(job, result)
            for listener in listeners:
                listener.on_fold(job, result)
    return outcome
