"""Where results and features are, how much of the machine is used, and which executor trains."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mil_bench import registry
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.planning.options import option
from mil_bench.results import Results


@dataclass(frozen=True)
class Machine:
    """Workers, device and executor; on a CPU none of them changes a result.

    Args:
        workers: number of trainings at the same time; None: one per core on a CPU, one on a GPU.
        device: "auto", "cpu" or "cuda".
        executor: name of an executor, as registered under ``mil_bench.executors``.
        patience: minutes after which a training that ends no epoch is ended, None for never.
        debug: whether an error of a training is raised instead of costing its row only.
    """

    workers: int | None = None
    device: str = "auto"
    executor: str = "local"
    patience: float | None = None
    debug: bool = False

    def resolve(self, tasks: int) -> tuple[str, int]:
        """Device and number of workers for so many tasks.

        Raises:
            InputError: "cuda" was asked for and torch finds no GPU.
        """
        import torch

        device = self.device
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "the request",
                ["device=cuda, but torch finds no GPU on this machine"],
                "Use --device auto or --device cpu.",
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        workers = self.workers or (1 if device == "cuda" else cores())
        return device, max(1, min(workers, tasks))


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
        device: "auto", "cpu" or "cuda".
        on: name of the executor that runs the trainings.
        patience_minutes: a training that ends no epoch for so long is ended and its row fails; 0
            for never.
        debug: train in this process, and let the first error of a training end the run.
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
        None, "trainings at the same time (default: one per core)", parse=int, metavar="N"
    )
    device: str = option(
        "auto", "auto (default): a GPU if there is one", choices=("auto", "cpu", "cuda")
    )
    on: str = option(
        "local",
        "executor of the trainings: local (default), processes on this machine; inline, this "
        "process, for a debugger",
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

    def __post_init__(self) -> None:
        problems = []
        if self.device not in ("auto", "cpu", "cuda"):
            problems.append(f"device must be auto, cpu or cuda, not {self.device!r}")
        if self.workers is not None and not (isinstance(self.workers, int) and self.workers >= 1):
            problems.append(f"workers must be a whole number from 1 on, not {self.workers!r}")
        if not self.patience_minutes >= 0:
            problems.append(f"patience_minutes must be 0 or more, not {self.patience_minutes!r}")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")
        if self.on not in registry.executors.names():
            raise UnknownNameError("executor", self.on, registry.executors.names())

    @property
    def folder(self) -> Results:
        """What is where in the folder of results."""
        return Results(Path(self.results))

    @property
    def machine(self) -> Machine:
        """What trains."""
        patience = self.patience_minutes or None
        if self.debug:
            return Machine(1, self.device, "inline", patience, debug=True)
        return Machine(self.workers, self.device, self.on, patience)
