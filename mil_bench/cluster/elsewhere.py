"""Tasks that workers on other machines do: freeze, send, watch."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from mil_bench import durable
from mil_bench.cluster.frozen import OpenTasks, TaskFolder, write_tasks
from mil_bench.cluster.slurm import Slurm
from mil_bench.devices import kind_of
from mil_bench.errors import InputError, printable
from mil_bench.file_values import read_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.cluster.frozen import FrozenTasks
    from mil_bench.planning.prepare import Prepared
    from mil_bench.running.setup import Setup

_POLL_SECONDS = (1.0, 10.0)  # between two looks at the store, the longer the less happens
_MOST_SENT = 3  # how often a bundle is sent that gives nothing
_LOOKS = 2  # a shared folder may show a file late: so often an element is missing before it is lost


class Elsewhere(ABC):
    """Tasks that this process freezes, has sent and watches, but never does itself.

    Args:
        prepared: the plan and its bags.
        setup: names the engine and its options.
    """

    def __init__(self, prepared: Prepared, setup: Setup) -> None:
        self._prepared, self._setup = prepared, setup
        self.is_detached = False

    @abstractmethod
    def freeze(self, device: str) -> FrozenTasks:
        """The tasks.

        Args:
            device: the workers', "cpu" or "cuda".
        """

    @abstractmethod
    def open(self, path: Path) -> OpenTasks:
        """The tasks of a task file that this process has written."""

    @abstractmethod
    def tell(self, tasks: OpenTasks, task: int) -> None:
        """Tell listeners of a task that is finished."""

    @abstractmethod
    def tell_failure(self, tasks: OpenTasks, task: int, reason: str) -> None:
        """Tell listeners of a task that failed."""

    def look(self, tasks: OpenTasks, missing: Sequence[int]) -> None:  # noqa: B027 - folds need none
        """Tell listeners what happened in tasks that are not finished."""

    def train(self) -> None:
        """Let all tasks be done; returns when every task is finished or has failed."""
        path = self._freeze()
        tasks = self.open(path)
        slurm = None
        if self._setup.on == "slurm":
            slurm = Slurm(tasks, path, Path(self._prepared.bags.path).parent, self._setup)
        with contextlib.ExitStack() as stack:
            try:
                lock = durable.acquired(tasks.folder.folder / ".lock", patience=0)
                stack.callback(lock.release)
            except Timeout:  # another process submits; this one watches
                slurm = None
            self._watch(tasks, slurm)

    def _freeze(self) -> Path:
        """The task file: the newest one if only its bundles may differ, else a new one."""
        # The workers' GPUs count, not those of this machine.
        device = kind_of(self._setup.device)
        if device == "auto":
            device, _ = self._setup.machine.resolve(1)
        frozen = self.freeze(device)
        folder = TaskFolder(self._setup.folder, frozen.name)
        if (newest := folder.newest()) is not None:
            with contextlib.suppress(InputError):
                stored = self.open(newest).frozen
                if dataclasses.replace(frozen, bundles=stored.bundles) == stored:
                    return newest
        return write_tasks(frozen, folder)

    def _watch(self, tasks: OpenTasks, slurm: Slurm | None) -> None:
        missing, pause, absent = tasks.missing(), _POLL_SECONDS[0], 0
        while missing:
            missing, has_news = self._news(tasks, missing)
            if slurm is not None and missing:
                bundles = _missing_in_bundles(tasks, missing)
                living = slurm.waiting_or_running()
                idle = (
                    {}
                    if living is None
                    else {
                        bundle: count for bundle, count in bundles.items() if bundle not in living
                    }
                )
                absent = absent + 1 if idle else 0
                if absent >= _LOOKS or (idle and not slurm.arrays()):
                    self._send(tasks, slurm, idle, missing)
                    absent = 0
            if self._setup.cluster.detach:
                self.is_detached = bool(missing)
                return
            pause = _POLL_SECONDS[0] if has_news else min(1.3 * pause, _POLL_SECONDS[1])
            if missing:
                time.sleep(pause)
        if slurm is not None:
            slurm.forget()

    def _news(self, tasks: OpenTasks, missing: list[int]) -> tuple[list[int], bool]:
        """What is still missing, after listeners were told what is not, and whether that is new."""
        now = set(tasks.missing())
        failed = {path.stem for path in tasks.folder.failed.glob("*.json")}
        left = []
        for task in missing:
            if task not in now:
                self.tell(tasks, task)
            elif tasks.key(task) in failed:
                self.tell_failure(tasks, task, _reason(tasks, task))
            else:
                left.append(task)
        self.look(tasks, left)
        return left, len(left) < len(missing)

    def _send(
        self, tasks: OpenTasks, slurm: Slurm, idle: dict[int, int], missing: list[int]
    ) -> None:
        """Send bundles without a living worker; those that never gave anything are lost."""
        vain = {bundle: slurm.times_in_vain(bundle, count) for bundle, count in idle.items()}
        if max(vain.values()) > 1 and not slurm.has_logs():
            slurm.forget()
            raise InputError(
                "the results folder",
                [f"jobs have ended and left no log in {tasks.folder.logs}"],
                "The nodes do not seem to see this folder. Put --results (and --data) on a file "
                "system that they share with this machine, then call the same command again.",
            )
        slurm.submit({b: count for b, count in idle.items() if vain[b] < _MOST_SENT})
        for bundle in [bundle for bundle in idle if vain[bundle] >= _MOST_SENT]:
            log = slurm.log(bundle)
            where = (
                f"what it printed: {log}"
                if log
                else f"it left nothing in {tasks.folder.logs}; do the nodes see this folder?"
            )
            for task in set(tasks.frozen.bundles[bundle].tasks) & set(missing):
                reason = f"its job ended {_MOST_SENT} times without a result; {where}"
                self.tell_failure(tasks, task, reason)
                missing.remove(task)


def _missing_in_bundles(tasks: OpenTasks, missing: Sequence[int]) -> dict[int, int]:
    """The bundles that hold missing tasks, each with their number."""
    wanted = set(missing)
    counts = {
        number: len(wanted.intersection(bundle.tasks))
        for number, bundle in enumerate(tasks.frozen.bundles)
    }
    return {number: count for number, count in counts.items() if count}


def _reason(tasks: OpenTasks, task: int) -> str:
    """Why a task failed, after which it may be tried again by the next call."""
    path = tasks.failure(task)
    try:
        record = read_object(path)
        reason, log = printable(str(record["reason"])), str(record["log"])
    except (OSError, ValueError, KeyError):
        reason, log = "its record cannot be read", ""
    path.unlink(missing_ok=True)
    return f"{reason}; traceback: {path.with_name(log)}" if log else reason
