"""Frozen tasks: a file beside a run that says what any worker with access to it can train.

    <results>/tasks/<name>/tasks-<digest>.json   the tasks, in bundles; never changed
    <results>/tasks/<name>/claims/               one lease per task that is being trained
    <results>/tasks/<name>/failed/               one record per task that failed
    <results>/tasks/<name>/submitted/            one record per array of a scheduler
    <results>/tasks/<name>/logs/                 what the workers printed

The name is that of the run; the studies of its tuning have a folder of their own.

Paths in the file are relative to the folder of results, so that machines may mount it anywhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mil_bench
from mil_bench import durable, registry
from mil_bench.bags.store import BagStore
from mil_bench.datasets.patients import combined
from mil_bench.errors import InputError
from mil_bench.file_values import read_object, typed
from mil_bench.running.code_version import commit
from mil_bench.running.result_store import ResultStore
from mil_bench.running.task import TaskMaker

if TYPE_CHECKING:
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.planning.prepare import Prepared
    from mil_bench.results import Results

VERSION = 2


@dataclass(frozen=True)
class Bundle:
    """Tasks that one worker trains one after the other.

    Args:
        device: "cpu" or "cuda".
        tasks: positions in ``FrozenTasks.tasks``.
    """

    device: str
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class FrozenTasks:
    """Everything that a worker needs to know besides the run's plan.

    Args:
        version: of this layout.
        run: name of the run.
        data: folder of the packed features, relative to the folder of results.
        store: file name of the bag store.
        data_digest: digest of the bag store.
        plugins: files with methods, relative to the folder of results, with their SHA-256.
        environment: versions of what trains, by name.
        tasks: position of a job in the plan, and the folds that are trained together.
        bundles: the tasks in bundles; every task is in one.
        trials: number of trials per study, if the tasks are studies; else 0.
        labels: file name of the label file beside the bag store, "" if the labels are the store's.
        studies: the studies, each with its label and its description; ``tasks`` is then empty.
    """

    version: int
    run: str
    data: str
    store: str
    data_digest: str
    plugins: tuple[tuple[str, str], ...]
    environment: dict[str, str]
    tasks: tuple[tuple[int, tuple[int, ...]], ...]
    bundles: tuple[Bundle, ...]
    trials: int = 0
    studies: tuple[tuple[str, dict[str, Any]], ...] = ()
    labels: str = ""

    @property
    def name(self) -> str:
        """Names the tasks: the run, with the number of trials and a digest if it is tuned."""
        if not self.trials:
            return self.run
        studies = hashlib.sha256(json.dumps(self.studies, sort_keys=True).encode()).hexdigest()
        return f"{self.run}-trials{self.trials}-{studies[:6]}"


class TaskFolder:
    """Paths of frozen tasks.

    Args:
        results: the folder of results.
        name: of the tasks.
    """

    def __init__(self, results: Results, name: str) -> None:
        self.results = results
        self.folder = Path(results.folder) / "tasks" / name

    def __getattr__(self, name: str) -> Path:
        """``claims``, ``failed``, ``submitted`` and ``logs``."""
        if name not in ("claims", "failed", "submitted", "logs"):
            raise AttributeError(name)
        return self.folder / name

    def newest(self) -> Path | None:
        """The task file that was written last, None if there is none."""
        paths = list(self.folder.glob("tasks-*.json"))
        return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def environment() -> dict[str, str]:
    """Versions that decide results, of this process."""
    import numpy as np
    import torch

    return {
        "mil_bench": mil_bench.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def freeze(
    prepared: Prepared,
    results: Results,
    tasks: list[tuple[int, tuple[int, ...]]],
    bundles: list[Bundle],
) -> FrozenTasks:
    """The tasks of a plan with all that a worker must know.

    Args:
        prepared: the plan with its bags and request.
        results: where they will be written; paths are relative to this folder.
        tasks: the tasks.
        bundles: the tasks in bundles.
    """
    folder = Path(results.folder).resolve()
    store = Path(prepared.bags.path).resolve()
    return FrozenTasks(
        version=VERSION,
        run=prepared.plan.run_id,
        data=os.path.relpath(store.parent, folder),
        store=store.name,
        data_digest=prepared.bags.digest,
        labels="" if prepared.bags.labels_path is None else prepared.bags.labels_path.name,
        plugins=tuple(
            (
                os.path.relpath(path.resolve(), folder),
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in prepared.request.plugins
        ),
        environment=environment(),
        tasks=tuple(tasks),
        bundles=tuple(bundles),
    )


def write_tasks(frozen: FrozenTasks, folder: TaskFolder) -> Path:
    """Write tasks to a file whose name has their digest.

    Raises:
        StorageError: the folder cannot be written to.
    """
    content = json.dumps(dataclasses.asdict(frozen), indent=1, ensure_ascii=True).encode() + b"\n"
    path = folder.folder / f"tasks-{_digest(content)}.json"
    durable.write_once(path, lambda file: file.write(content))
    return path


def read_tasks(path: Path) -> FrozenTasks:
    """What a task file holds.

    Raises:
        InputError: it is not a task file, of another version, or was changed.
    """
    try:
        content = path.read_bytes()
        version = read_object(path).get("version")
        if version != VERSION:
            raise ValueError(f"it has version {version}, this mil-bench reads {VERSION}")
        if path.name != f"tasks-{_digest(content)}.json":
            raise ValueError("it was changed after it was written")
        return typed(FrozenTasks, read_object(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        remedy = "Freeze the tasks again: the command that gave them, with --on workers --detach"
        raise InputError(f"task file {path}", [f"{reason}"], remedy) from error


@dataclass(frozen=True, eq=False)
class OpenTasks:
    """Frozen tasks with the plan, the bags and the store of results that they refer to.

    Args:
        frozen: the tasks.
        folder: their folder.
        plan: the run's plan.
        store: where results go.
    """

    frozen: FrozenTasks
    folder: TaskFolder
    plan: RunPlan
    store: ResultStore

    @classmethod
    def read(cls, path: Path, results: Results) -> OpenTasks:
        """Open a task file with trainings.

        Raises:
            InputError: it is not a task file, of another version, or was changed.
            MilBenchError: the plan is missing or broken.
        """
        frozen, store = read_tasks(path), ResultStore(results.runs)
        return cls(frozen, TaskFolder(results, frozen.name), store.load_plan(frozen.run), store)

    def job(self, task: int) -> Job:
        """The job of a task."""
        return self.plan.jobs[self.frozen.tasks[task][0]]

    def folds(self, task: int) -> tuple[int, ...]:
        """The folds of a task."""
        return self.frozen.tasks[task][1]

    def key(self, task: int) -> str:
        """Names a task."""
        return f"{self.job(task).key}-{'-'.join(map(str, self.folds(task)))}"

    def missing(self) -> list[int]:
        """The tasks of which a fold is not stored, in order."""
        stored = {job.key: self.store.done(job) for job in self.plan.jobs}
        return [
            task
            for task, (job, folds) in enumerate(self.frozen.tasks)
            if not stored[self.plan.jobs[job].key].issuperset(folds)
        ]

    def is_finished(self, task: int) -> bool:
        """Whether all folds of a task are stored, or it has failed."""
        if self.store.done(self.job(task)).issuperset(self.folds(task)):
            return True
        return self.failure(task).exists()

    def failure(self, task: int) -> Path:
        """The record of a task that failed, if it did."""
        return self.folder.failed / f"{self.key(task)}.json"

    def maker(self, data: Path | None, device: str) -> TaskMaker:
        """Makes what a worker on this machine trains.

        Args:
            data: folder of the packed features, None for the one in the file.
            device: "cpu" or "cuda".

        Raises:
            InputError: this machine's code, features or plugins are not those of the file.
        """
        frozen, results = self.frozen, Path(self.folder.results.folder)
        here = environment()
        problems = [
            f"{name} is {here.get(name)!r} here, the tasks were frozen with {value!r}"
            for name, value in frozen.environment.items()
            if here.get(name) != value
        ]
        data = results / frozen.data if data is None else data
        bags = BagStore(data / frozen.store, data / frozen.labels if frozen.labels else None)
        bags = combined(bags, self.plan.combine)
        if bags.digest != frozen.data_digest:
            problems.append(
                f"the features in {bags.path} have the digest {bags.digest}, not "
                f"{frozen.data_digest}"
            )
        plugins = tuple(results / path for path, _ in frozen.plugins)
        for path, (_, digest) in zip(plugins, frozen.plugins, strict=True):
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                problems.append(f"the plugin {path} is missing or not the one that was frozen")
        problems += [] if problems else self._other_methods(plugins)
        if problems:
            remedy = "Give every machine the same environment, features and plugins."
            raise InputError(f"the tasks of {frozen.run}", problems, remedy)
        return TaskMaker(self.plan.splits, bags, device, plugins)

    def _other_methods(self, plugins: tuple[Path, ...]) -> list[str]:
        """Methods whose version is another one here."""
        from mil_bench.methods import Method

        for path in plugins:
            registry.methods.add_file(path, Method)
        versions = {job.method: job.method_version for job in self.plan.jobs if job.is_trained}
        here = {
            name: registry.methods.version(name, registry.methods.load(name)) for name in versions
        }
        return [
            f"{name} has version {here[name]} here, the tasks were frozen with {version}"
            for name, version in versions.items()
            if here[name] != version
        ]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
