"""What happens during a run, for those who watch it: progress bars and trackers.

Listeners only listen. A run has the same result with all of them or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.trials import Trial
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.report.tables import ResultTable


class Listener:
    """Every method does nothing; override those you need."""

    def on_start(self, plan: RunPlan, trainings: Sequence[tuple[Job, int]], done: int) -> None:
        """A run begins.

        Args:
            plan: of the run.
            trainings: jobs with their folds that this call is about: those of the plan, or of a
                shard of it.
            done: number of these that are stored from an earlier call.
        """

    def on_epoch(self, event: Any) -> None:
        """A task finished an epoch (``mil_bench.running.worker.EpochDone``)."""

    def on_fold(self, job: Job, result: TrainedFold) -> None:
        """A fold was trained now and is stored."""

    def on_stored_fold(self, job: Job, result: TrainedFold) -> None:
        """A fold was found finished from an earlier call."""

    def on_failure(self, job: Job, folds: tuple[int, ...], reason: str) -> None:
        """A task failed; the others go on."""

    def on_tuning(self, studies: Sequence[Any], trials: int) -> None:
        """Tuning begins: studies (``mil_bench.tuning.studies.StudyPlan``), ``trials`` each."""

    def on_trial(self, trial: Trial) -> None:
        """A trial is finished, now or earlier; those of one study come in their order."""

    def on_report(
        self, folder: Path, sentences: Sequence[str], tables: Sequence[ResultTable]
    ) -> None:
        """The report is written: its folder, its verdicts and facts, and its tables."""

    def on_end(self) -> None:
        """The run is over; if it was interrupted, there was no report."""
