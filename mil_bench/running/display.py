"""Progress bars for a terminal; plain lines where there is none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mil_bench.running.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import Job, RunPlan


def long_bars(console: Console) -> Progress:
    """Bars for what takes minutes to days; none if the console is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        # Folds take minutes to hours; rich looks back 30 seconds otherwise.
        speed_estimate_period=24 * 3600,
    )


class ProgressDisplay(Listener):
    """Bars for methods, folds and the epochs of what is being trained, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = long_bars(self._console)
        self._epochs: dict[tuple, Any] = {}
        self._left: dict[str, set[tuple[int, int]]] = {}
        self._notes: set[str] = set()
        self._started = time.monotonic()

    def on_start(
        self,
        plan: RunPlan,  # noqa: ARG002 - interface
        trainings: Sequence[tuple[Job, int]],
        done: int,
    ) -> None:
        """Show the bars."""
        self._left = {}
        for job, fold in trainings:
            self._left.setdefault(job.label, set()).add((job.seed, fold))
        total = len(trainings)
        self._done, self._total, self._started = 0, total - done, time.monotonic()
        if done:
            self._console.print(f"{done} of {total} trainings are stored from an earlier call.")
        self._methods = self._bars.add_task("methods", total=len(self._left))
        # Without stored folds, which would spoil the estimate of the time left.
        self._folds = self._bars.add_task("folds", total=total - done)
        self._bars.start()

    def on_epoch(self, event: Any) -> None:
        """Move the bar of the task; say what there is to know about a method, once."""
        if event.note and event.note not in self._notes:
            self._notes.add(event.note)
            self._console.print(Text(event.note))
        key = (event.label, event.seed, event.folds)
        if key not in self._epochs:
            folds = ", ".join(map(str, event.folds))
            self._epochs[key] = self._bars.add_task(
                f"  {event.label} fold {folds}: epochs", total=event.epochs
            )
        self._bars.update(self._epochs[key], completed=event.epoch)

    def on_fold(self, job: Job, result: TrainedFold) -> None:
        """Count the fold and remove its epoch bar."""
        self._done += 1
        self._finished(job, result)
        for key in [
            k for k in self._epochs if k[:2] == (job.label, job.seed) and result.fold in k[2]
        ]:
            self._bars.remove_task(self._epochs.pop(key))
        if not self._console.is_terminal:
            elapsed = time.monotonic() - self._started
            line = f"{self._done}/{self._total} {job.label} seed {job.seed} fold {result.fold}"
            how = (
                f"{result.seconds:.0f} s, selected epoch {result.best_epoch + 1}"
                if result.curves
                else "no training"
            )
            self._console.print(f"{line}: {how} ({elapsed:.0f} s)")

    def on_stored_fold(self, job: Job, result: TrainedFold) -> None:
        """Count it as finished, if this call is about it."""
        self._finished(job, result)

    def on_failure(self, job: Job, folds: tuple[int, ...], reason: str) -> None:
        """Report it at once."""
        self._console.print(
            f"{job.label} seed {job.seed} fold {', '.join(map(str, folds))} failed: {reason}"
        )

    def on_end(self) -> None:
        """Remove the bars."""
        self._bars.stop()

    def _finished(self, job: Job, result: TrainedFold) -> None:
        if job.label in self._left:
            self._left[job.label].discard((job.seed, result.fold))
        self._bars.update(self._folds, completed=self._done)
        self._bars.update(self._methods, completed=sum(not left for left in self._left.values()))
