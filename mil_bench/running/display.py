"""Progress of a run: trainings, and the epochs of those under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mil_bench.progress.display import Display
from mil_bench.running.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import Job, RunPlan


class ProgressDisplay(Listener):
    """Trainings of this call with rate and time left; failures and remarks as they come."""

    def __init__(self) -> None:
        self._display = Display("trainings")
        self._under_way: dict[tuple[str, int, tuple[int, ...]], Any] = {}
        self._notes: set[str] = set()
        self._done = self._total = 0
        self._started = time.monotonic()

    def on_start(
        self,
        plan: RunPlan,  # noqa: ARG002 - interface
        trainings: Sequence[tuple[Job, int]],
        done: int,
    ) -> None:
        """Show the display; stored trainings would spoil its estimate of the time left."""
        total = len(trainings)
        self._done, self._total, self._started = 0, total - done, time.monotonic()
        if done:
            self._display.say(f"{done} of {total} trainings are stored from an earlier call.")
        self._display.start(self._total)

    def on_epoch(self, event: Any) -> None:
        """Show the epoch; say what there is to know about a method, once."""
        if event.note and event.note not in self._notes:
            self._notes.add(event.note)
            self._display.say(event.note)
        self._under_way[event.label, event.seed, event.folds] = event
        self._show()

    def on_fold(self, job: Job, result: TrainedFold) -> None:
        """Count the fold, which is no longer under way."""
        self._done += 1
        self._forget(job, (result.fold,))
        elapsed = time.monotonic() - self._started
        line = f"{self._done}/{self._total} {job.label} seed {job.seed} fold {result.fold}"
        how = (
            f"{result.seconds:.0f} s, selected epoch {result.best_epoch + 1}"
            if result.curves
            else "no training"
        )
        self._display.step(f"{line}: {how} ({elapsed:.0f} s)")
        self._show()

    def on_failure(self, job: Job, folds: tuple[int, ...], reason: str) -> None:
        """Report it at once."""
        self._forget(job, folds)
        self._display.say(
            f"{job.label} seed {job.seed} fold {', '.join(map(str, folds))} failed: {reason}"
        )
        self._show()

    def on_end(self) -> None:
        """Remove the display."""
        self._display.stop()

    def _forget(self, job: Job, folds: tuple[int, ...]) -> None:
        for key in list(self._under_way):
            if key[:2] == (job.label, job.seed) and set(folds) & set(key[2]):
                del self._under_way[key]

    def _show(self) -> None:
        events = self._under_way.values()
        share = sum(len(event.folds) * event.epoch / max(1, event.epochs) for event in events)
        running = "; ".join(
            f"{event.label} fold {', '.join(map(str, event.folds))}: "
            f"epoch {event.epoch}/{event.epochs}"
            for event in events
        )
        if self._done == self._total:
            running = "tables and figures"
        self._display.update(self._done, min(share, self._total - self._done), running)
