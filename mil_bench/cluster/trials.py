"""Studies that workers on other machines do; a study is on one machine at a time."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from typing import TYPE_CHECKING

from mil_bench.cluster.bundles import in_bundles, seconds_of
from mil_bench.cluster.elsewhere import Elsewhere
from mil_bench.cluster.frozen import FrozenTasks, OpenTasks, TaskFolder, freeze, read_tasks
from mil_bench.errors import InputError
from mil_bench.running.result_store import ResultStore
from mil_bench.tuning.studies import StudyPlan
from mil_bench.tuning.trial_store import TrialStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.planning.prepare import Prepared
    from mil_bench.results import Results
    from mil_bench.running.listeners import Listener
    from mil_bench.running.setup import Setup


class OpenStudies(OpenTasks):
    """Frozen studies; the plan with the methods' own settings is kept in their folder."""

    @classmethod
    def read(cls, path: Path, results: Results) -> OpenStudies:
        """Open a task file with studies.

        Raises:
            InputError: it is not a task file, of another version, or was changed.
            MilBenchError: the plan is missing or broken.
        """
        frozen = read_tasks(path)
        folder = TaskFolder(results, frozen.name)
        plan = ResultStore(folder.folder).load_plan(frozen.run)
        return cls(frozen, folder, plan, ResultStore(results.runs))

    @cached_property
    def studies(self) -> list[StudyPlan]:
        """The plans of the studies."""
        return [StudyPlan.from_about(about, label) for label, about in self.frozen.studies]

    @property
    def trial_store(self) -> TrialStore:
        """Where trials are stored."""
        return TrialStore(self.folder.results.studies)

    def key(self, task: int) -> str:
        """Names a study."""
        return self.studies[task].key

    def missing(self) -> list[int]:
        """The studies that have too few trials, in order."""
        return [n for n in range(len(self.studies)) if self.stored(n) < self.frozen.trials]

    def stored(self, task: int) -> int:
        """Number of stored trials of a study."""
        folder = self.studies[task].folder_in(self.trial_store)
        return sum(1 for _ in folder.glob("trial-*.json"))


def open_tasks(path: Path, results: Results) -> OpenTasks:
    """Open a task file, whatever its tasks are.

    Raises:
        InputError: it is not a task file, of another version, or was changed.
        MilBenchError: the plan is missing or broken.
    """
    kind = OpenStudies if read_tasks(path).trials else OpenTasks
    return kind.read(path, results)


class TrialsElsewhere(Elsewhere):
    """The studies of a request, done by workers on other machines.

    Args:
        prepared: the plan with the methods' own settings, and its bags.
        studies: the plans of the studies.
        setup: names the engine and its options.
        listeners: are told what happens.
    """

    def __init__(
        self,
        prepared: Prepared,
        studies: Sequence[StudyPlan],
        setup: Setup,
        listeners: Sequence[Listener],
    ) -> None:
        super().__init__(prepared, setup)
        self._studies, self._listeners = list(studies), listeners
        self._trials = prepared.request.tune or 0
        self._store = TrialStore(setup.folder.studies)
        self._told = dict.fromkeys(range(len(self._studies)), 0)
        self._failures: list[str] = []

    def train(self) -> None:
        """Let all trials be made; returns when they are stored.

        Raises:
            InputError: studies have too few trials, since their workers ended again and again.
        """
        try:
            for listener in self._listeners:
                listener.on_tuning(self._studies, self._trials)
            super().train()
            if not self.is_detached:
                self._tell_rest()
        finally:
            for listener in self._listeners:
                listener.on_end()
        if self._failures:
            remedy = "Stored trials are kept. Repeat the command to send the others again."
            raise InputError("the trials", self._failures, remedy)

    def _tell_rest(self) -> None:
        """Tell listeners of studies that were complete before, or are short of trials."""
        for task in self._told:
            self._tell_new(task)

    def freeze(self, device: str) -> FrozenTasks:
        """The studies in bundles, with their plan beside them."""
        plan = self._prepared.plan
        results = ResultStore(self._setup.folder.runs)
        seconds = {
            job.key: seconds_of(plan, job, results, device)
            for job in {study.base.key: study.base for study in self._studies}.values()
        }
        durations = [
            seconds[study.base.key] * len(study.folds) * self._trials for study in self._studies
        ]
        frozen = dataclasses.replace(
            freeze(self._prepared, self._setup.folder, [], []),
            bundles=tuple(in_bundles(device, durations, self._setup.cluster.bundle)),
            trials=self._trials,
            # As JSON gives it back, to compare it with what a file holds.
            studies=tuple((s.base.label, json.loads(json.dumps(s.about))) for s in self._studies),
        )
        ResultStore(TaskFolder(self._setup.folder, frozen.name).folder).save_plan(plan)
        return frozen

    def open(self, path: Path) -> OpenTasks:
        """The studies of a task file."""
        return OpenStudies.read(path, self._setup.folder)

    def look(self, tasks: OpenTasks, missing: Sequence[int]) -> None:
        """Tell listeners of new trials."""
        assert isinstance(tasks, OpenStudies)
        for task in missing:
            if tasks.stored(task) > self._told[task]:
                self._tell_new(task)

    def tell(self, tasks: OpenTasks, task: int) -> None:  # noqa: ARG002 - as for folds
        """Tell listeners of a study's new trials."""
        self._tell_new(task)

    def tell_failure(self, tasks: OpenTasks, task: int, reason: str) -> None:  # noqa: ARG002
        """Keep the reason for the message at the end."""
        study = self._studies[task]
        fold = "" if study.fold is None else f" fold {study.fold}"
        self._failures.append(f"{study.base.label} seed {study.base.seed}{fold}: {reason}")

    def _tell_new(self, task: int) -> None:
        records = self._store.records(self._studies[task].folder_in(self._store))
        for record in records[self._told[task] :]:
            for listener in self._listeners:
                listener.on_trial(record)
        self._told[task] = len(records)
