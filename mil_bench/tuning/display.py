"""Progress of tuning, and the file for Optuna's dashboard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mil_bench.evaluation.trials import Trial, best_of
from mil_bench.progress.display import Display
from mil_bench.running.listeners import Listener
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.tuning.studies import StudyPlan


class TuningDisplay(Listener):
    """Trials with rate and time left; in a file, one line per finished study."""

    def __init__(self) -> None:
        self._display = Display("trials")
        self._records: dict[str, list[Trial]] = {}
        self._studies = self._trials = self._finished = self._done = 0
        self._started = time.monotonic()

    def on_tuning(self, studies: Sequence[StudyPlan], trials: int) -> None:
        """Show the display."""
        self._studies, self._trials, self._started = len(studies), trials, time.monotonic()
        self._display.start(len(studies) * trials)

    def on_trial(self, trial: Trial) -> None:
        """Count the trial."""
        records = self._records.setdefault(trial.study, [])
        records.append(trial)
        if len(records) > self._trials:
            return
        self._done += 1
        self._display.update(self._done, running=f"last: {trial.label}")
        if len(records) == self._trials:
            self._finished += 1
            elapsed = time.monotonic() - self._started
            self._display.step(
                f"{self._finished}/{self._studies} {_line(records)} ({elapsed:.0f} s)"
            )

    def on_end(self) -> None:
        """Remove the display."""
        self._display.stop()


def _line(records: Sequence[Trial]) -> str:
    first, best = records[0], best_of(records)
    fold = "" if first.fold is None else f" fold {first.fold}"
    study = f"{first.label} seed {first.seed}{fold}"
    if best is None:
        return f"{study}: none of {plural(len(records), 'trial')} is complete"
    return (
        f"{study}: trial {best.number} of {len(records)} is best, validation loss {best.value:.4f}"
    )


class DashboardFile(Listener):
    """Copies every trial to a journal file of Optuna.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        from mil_bench.tuning.proposals import SharedFile

        self._file = SharedFile(path)
        self._plans: dict[str, StudyPlan] = {}

    def on_tuning(self, studies: Sequence[StudyPlan], trials: int) -> None:  # noqa: ARG002 - as above
        """Keep the studies, whose ranges the file needs."""
        self._plans = {plan.key: plan for plan in studies}

    def on_trial(self, trial: Trial) -> None:
        """Add the trial unless the file has it."""
        plan = self._plans[trial.study]
        self._file.add(trial, plan.space, plan.defaults, plan.base.dataset)
