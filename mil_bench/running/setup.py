"""Where results and features are, how much of the machine is used, and which executor trains."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mil_bench import devices, registry
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.planning.options import option
from mil_bench.results import Results

ELSEWHERE = ("slurm", "workers")
"""Values of ``Setup.on`` with which this process trains nothing itself."""


@dataclass(frozen=True)
class Cluster:
    """How a run uses other machines.

    Args:
        sbatch: a file with lines for Slurm and for the shell, put before the worker's command.
        array_limit: number of elements of an array that run at the same time, None for any.
        bundle: minutes that a worker's tasks should take together.
        detach: submit and return; the same request without it waits and shows the tables.
        scheduler: address of Dask's scheduler.
    """

    sbatch: Path | None = option(
        None,
        "file with #SBATCH lines and commands (module load ...) for every worker",
        parse=Path,
        metavar="FILE",
    )
    array_limit: int | None = option(
        None, "most workers at the same time (default: no limit)", parse=int, metavar="N"
    )
    bundle: float = option(
        20.0,
        "minutes that the tasks of a worker should take (default: 20)",
        parse=float,
        metavar="MINUTES",
    )
    detach: bool = option(False, "submit and return; the same command later waits and prints")
    scheduler: str | None = option(
        None,
        "address of Dask's scheduler (default: DASK_SCHEDULER_ADDRESS)",
        metavar="ADDRESS",
    )

    def __post_init__(self) -> None:
        problems = []
        if self.array_limit is not None and not self.array_limit >= 1:
            problems.append(f"array_limit must be a whole number from 1 on, not {self.array_limit}")
        if not 0 < self.bundle < float("inf"):
            problems.append(f"bundle must be a number of minutes above 0, not {self.bundle!r}")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")


@dataclass(frozen=True)
class Machine:
    """Workers, device and executor; on a CPU none of them changes a result.

    Args:
        workers: number of trainings at the same time; None: one per core on a CPU, one on a GPU.
        device: "auto", "cpu", "cuda" (all visible GPUs) or "cuda:3" (one of them).
        executor: name of an executor, as registered under ``mil_bench.executors``.
        patience: minutes after which a training that ends no epoch is ended, None for never.
        debug: whether an error of a training is raised instead of costing its row only.
        scheduler: address that the executor is given, None for none.
        shard: (I, N) to train only the I-th of N parts, None for everything.
        deterministic: whether GPUs compute in the same order every time.
    """

    workers: int | None = None
    device: str = "auto"
    executor: str = "local"
    patience: float | None = None
    debug: bool = False
    scheduler: str | None = None
    shard: tuple[int, int] | None = None
    deterministic: bool = False

    def resolve(self, tasks: int) -> tuple[str, int]:
        """Device and number of workers for so many tasks.

        Raises:
            InputError: a GPU was asked for that torch does not find.
        """
        device = devices.present(self.device)
        default = {devices.CPU: cores(), devices.GPU: len(devices.gpu_names())}.get(device, 1)
        return device, max(1, min(self.workers or default, tasks))

    @property
    def gpus(self) -> list[str]:
        """The devices that tasks for "cuda" are spread over; [] if there is one or none."""
        names = devices.gpu_names()
        return names if len(names) > 1 else []


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def data_folder() -> Path:
    """The folder of packed features if none is named."""
    return Path(os.environ.get("MIL_BENCH_DATA", "data"))


@dataclass(frozen=True)
class Setup:
    """Where results and features are, what a run uses of the machine, and who watches it.

    Nothing here changes a result on a CPU.

    Args:
        results: folder of results, reports and the MLflow file.
        data: folder of the packed features.
        workers: number of trainings at the same time; None: one per core on a CPU, one on a GPU.
        device: "auto", "cpu", "cuda" (all visible GPUs) or "cuda:3" (one of them).
        deterministic: let a GPU compute in the same order every time, so that a training repeats
            bit for bit on the same model of card with the same folds trained together.
        on: name of the executor that runs the trainings, or "slurm" or "workers".
        patience_minutes: a training that ends no epoch for so long is ended and its row fails; 0
            for never.
        debug: train in this process, and let the first error of a training end the run.
        shard: "I/N" to train only the I-th of N equal parts, counted from 1; None for everything.
        collect: train nothing; show what is stored.
        cluster: how other machines are used.
        tracking: log to MLflow.
        progress: show progress.
    """

    results: Path = option(
        Path("results"), "folder of results (default: results)", parse=Path, metavar="DIR"
    )
    data: Path = option(
        data_folder,
        "folder of packed features (default: data, or the value of MIL_BENCH_DATA)",
        parse=Path,
        metavar="DIR",
    )
    workers: int | None = option(
        None, "trainings at the same time (default: one per core or GPU)", parse=int, metavar="N"
    )
    device: str = option(
        "auto",
        "cpu; cuda, all visible GPUs, one worker on each; cuda:3, one of them; auto (default), "
        "GPUs if there are any",
        metavar="NAME",
    )
    deterministic: bool = option(
        False,
        "on a GPU: compute in the same order every time, so that tables repeat on the same card; "
        "slower (on a CPU they always do)",
    )
    on: str = option(
        "local",
        "what trains: local (default), processes on this machine; slurm, arrays of workers; "
        "workers, those that you start with mil-bench worker; dask, a cluster; inline, this "
        "process",
        metavar="NAME",
    )
    patience_minutes: float = option(
        240.0,
        "end a training that ends no epoch for so long (default: 240; 0: never)",
        parse=float,
        metavar="N",
    )
    debug: bool = option(
        False,
        "train in this process, where breakpoints work, and end with the traceback of the first "
        "error of a training",
    )
    tracking: bool = option(True, "do not log to MLflow")
    progress: bool = True
    shard: str | None = option(
        None,
        "train only part I of N, for instance on each of N machines; then --collect",
        metavar="I/N",
    )
    collect: bool = option(False, "train nothing; print what is stored, and write the report")
    cluster: Cluster = Cluster()

    def __post_init__(self) -> None:
        problems = []
        if problem := devices.problem_of_name(self.device):
            problems.append(problem)
        if self.workers is not None and not (isinstance(self.workers, int) and self.workers >= 1):
            problems.append(f"workers must be a whole number from 1 on, not {self.workers!r}")
        if not self.patience_minutes >= 0:
            problems.append(f"patience_minutes must be 0 or more, not {self.patience_minutes!r}")
        is_elsewhere = self.on in ELSEWHERE
        if self.cluster.detach and not is_elsewhere:
            problems.append(f"detach is for on=slurm and on=workers, not for on={self.on}")
        if self.cluster.scheduler and (is_elsewhere or self.on in ("local", "inline")):
            problems.append(f"scheduler is for on=dask, not for on={self.on}")
        problems += [
            f"{name} trains here, and on={self.on} trains on other machines"
            for name, given in (("debug", self.debug), ("shard", self.shard))
            if given and is_elsewhere
        ]
        if self.deterministic and self.on == "workers":
            problems.append("deterministic is an option of mil-bench worker, not for on=workers")
        if self.shard is not None and self._part is None:
            problems.append(f"shard must be I/N with I from 1 to N, not {self.shard!r}")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")
        names = [*registry.executors.names(), *ELSEWHERE]
        if self.on not in names:
            raise UnknownNameError("executor", self.on, names)

    @property
    def _part(self) -> tuple[int, int] | None:
        """The shard as two numbers; None if it is none."""
        numbers = re.fullmatch(r"(\d+)/(\d+)", str(self.shard))
        if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
            return None
        return int(numbers[1]), int(numbers[2])

    @property
    def folder(self) -> Results:
        """What is where in the folder of results."""
        return Results(Path(self.results))

    def require_device(self) -> None:
        """Refuse a device that is not there, before anything is stored; others have their own.

        Raises:
            InputError: this machine trains, and torch does not find its GPU.
        """
        if self.on not in ELSEWHERE:
            self.machine.resolve(1)

    @property
    def machine(self) -> Machine:
        """What trains."""
        patience = self.patience_minutes or None
        always: dict[str, Any] = {"shard": self._part, "deterministic": self.deterministic}
        if self.debug:
            return Machine(1, self.device, "inline", patience, debug=True, **always)
        scheduler = self.cluster.scheduler
        return Machine(self.workers, self.device, self.on, patience, scheduler=scheduler, **always)
