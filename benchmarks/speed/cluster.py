"""What freezing, claiming and attaching cost when workers train a run.

    python -m mil_bench.benchmarks.speed.cluster

Three measurements. Overhead: the same many small trainings by the pool of one process, and by two
workers that claim bundles of them. Planning: freezing and attaching a run of 10,000 tasks. Width:
64 processes that claim tasks of one folder and write a line in place of a training.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.benchmarks.speed.timing import table

from mil_bench.api import prepare
from mil_bench.cluster.bundles import bundles_of, frozen_tasks
from mil_bench.cluster.folds import FoldsElsewhere
from mil_bench.cluster.frozen import OpenTasks, TaskFolder, freeze, write_tasks
from mil_bench.cluster.worker import ClaimedTasks
from mil_bench.planning.request import RunRequest
from mil_bench.results import Results
from mil_bench.running.result_store import Failure, ResultStore
from mil_bench.running.setup import Cluster, Setup

if TYPE_CHECKING:
    from mil_bench.planning.prepare import Prepared

DATA = "bracs-sim:slides=120,rows=8,width=8"


def call(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """mil-bench in a process of its own."""
    command = [sys.executable, "-m", "mil_bench", *words]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def overhead(folder: Path, tasks: int) -> dict[str, float]:
    """Seconds of the pool and of two workers for so many trainings of one epoch, without reports.

    Args:
        folder: where; emptied.
        tasks: number of trainings, a multiple of 4.
    """
    seeds = [str(seed) for seed in range(tasks // 4)]
    words = ["--methods", "mean-pool", "--dataset", DATA, "--folds", "4", "--epochs", "1"]
    words += ["--seeds", *seeds, "--no-tracking", "--data", "data"]
    setup = Setup(folder / "warm", folder / "data", progress=False)
    prepare(RunRequest(DATA, ("mean-pool",), folds=4, epochs=1), setup)  # makes the data
    seconds = {}
    began = time.monotonic()
    call(folder, "run", *words, "--results", "local", "--workers", "2", "--shard", "1/1").wait()
    seconds["one process, --workers 2"] = time.monotonic() - began
    run = [*words, "--results", "shared", "--on", "workers"]
    began = time.monotonic()
    call(folder, "run", *run, "--detach").wait()
    [tasks_of_run] = (folder / "shared" / "tasks").iterdir()
    line = ["worker", tasks_of_run.name, "--results", "shared", "--workers", "1"]
    for worker in [call(folder, *line) for _ in range(2)]:
        worker.wait()
    seconds["freeze, and two workers"] = time.monotonic() - began
    return seconds


def frozen(folder: Path, seeds: int) -> tuple[Prepared, Setup]:
    """A run of ten methods' tasks, four folds and so many seeds, planned and not trained."""
    rows = tuple(f"mean-pool:dropout=0.{number}" for number in range(10))
    request = RunRequest(DATA, rows, folds=4, epochs=1, seeds=tuple(range(seeds)))
    cluster = Cluster(detach=True)
    setup = Setup(folder / "many", folder / "data", progress=False, on="workers", cluster=cluster)
    prepared = prepare(request, setup)
    ResultStore(setup.folder.runs).save_plan(prepared.plan)
    return prepared, setup


def planning(folder: Path, seeds: int) -> dict[str, float]:
    """Seconds to plan, freeze and attach again; nothing is trained."""
    seconds = {}
    began = time.monotonic()
    prepared, setup = frozen(folder, seeds)
    seconds["plan"] = time.monotonic() - began
    for name in ("freeze and look", "attach again"):
        began = time.monotonic()
        FoldsElsewhere(prepared, ResultStore(setup.folder.runs), setup, ()).train()
        seconds[name] = time.monotonic() - began
    return seconds


def stub(path: Path, results: Path, notes: Path) -> None:
    """A worker that writes a line in place of a training."""
    opened = OpenTasks.read(path, Results(results))
    source = ClaimedTasks(opened, range(len(opened.frozen.tasks)), opened.maker(None, "cpu"))
    with (notes / str(os.getpid())).open("w") as file:
        while (task := source.next_task()) is not None or source.is_waiting:
            if task is None:
                time.sleep(0.05)
                continue
            time.sleep(0.02)
            file.write(f"{task.key}\n")
            source.receive(task, Failure("a stub trains nothing"))


def width(folder: Path, workers: int) -> tuple[float, Counter[int]]:
    """Seconds, and how often a task was done, to the number of such tasks."""
    prepared, setup = frozen(folder, 10)
    setup = replace(setup, results=folder / "wide")
    ResultStore(setup.folder.runs).save_plan(prepared.plan)
    tasks, store = frozen_tasks(prepared.plan, "cpu"), ResultStore(setup.folder.runs)
    bundles = bundles_of(prepared.plan, tasks, store, "cpu", 20)
    where = TaskFolder(setup.folder, prepared.plan.run_id)
    path = write_tasks(freeze(prepared, setup.folder, tasks, bundles), where)
    notes = folder / "notes"
    notes.mkdir()
    context = get_context("fork")
    began = time.monotonic()
    stubs = [
        context.Process(target=stub, args=(path, setup.results, notes)) for _ in range(workers)
    ]
    for process in stubs:
        process.start()
    for process in stubs:
        process.join()
    seconds = time.monotonic() - began
    done = Counter(line for note in notes.iterdir() for line in note.read_text().split())
    times = Counter(done.values())
    times[0] = len(tasks) - len(done)
    return seconds, times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1000, help="trainings (default: 1000)")
    parser.add_argument("--seeds", type=int, default=250, help="40 tasks each (default: 250)")
    parser.add_argument("--stubs", type=int, default=64, help="processes (default: 64)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        seconds = overhead(folder, arguments.tasks)
        base = next(iter(seconds.values()))
        rows = [[name, f"{s:.0f}", f"{s / base:.2f}"] for name, s in seconds.items()]
        print(f"{arguments.tasks} trainings of one epoch\n")
        print(table(["command", "seconds", "ratio"], rows))
        print(f"\n{40 * arguments.seeds:,} tasks of training, planned and not trained\n")
        steps = planning(folder, arguments.seeds)
        print(table(["step", "seconds"], [[name, f"{s:.1f}"] for name, s in steps.items()]))
        spent, times = width(folder, arguments.stubs)
        print(
            f"\n{arguments.stubs} stubs: {times[1]} tasks done once, {times[0]} never, "
            f"{sum(times.values()) - times[1] - times[0]} more than once ({spent:.0f} s)"
        )


if __name__ == "__main__":
    main()
