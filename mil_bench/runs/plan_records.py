"""Plan records beside the runs: what was planned, when, and what was changed afterwards.

    <root>/<dataset>/plans/<run>-<digest>.json
    <root>/<dataset>/plans/<run>.shown          when somebody saw results of an incomplete run

A record is written before a run trains and is never changed. As long as no result of the run is
stored, a call with another question adds a record, and the newest one counts. Afterwards no record
is added.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.errors import StorageError
from mil_bench.file_values import read_object, typed
from mil_bench.planning.plan_record import ADDED, SEEDS, Change, PlanRecord, Search, moment
from mil_bench.results import Results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.planning.asked import Asked
    from mil_bench.planning.plan import RunPlan
    from mil_bench.planning.prepare import Prepared
    from mil_bench.running.result_store import ResultStore

_USUAL = {
    ADDED: " Methods may be added at any time; it is said because results of the planned ones may "
    "have been known by then.",
    SEEDS: " More seeds may be added at any time, as reports themselves suggest; it is said "
    "because their number may depend on results that were known by then.",
}
"""What is said of a change that is no reproach."""


@dataclass(frozen=True)
class Shown:
    """Results of a run were shown although trainings were missing.

    Args:
        time: when that was for the first time, UTC, ISO 8601.
        stored: number of trainings that were stored.
        trainings: their number in the plan.
    """

    time: str
    stored: int
    trainings: int


@dataclass(frozen=True)
class PlanStatus:
    """What was planned before a run's results, compared with what a report shows.

    Args:
        record: the plan that counts: that of the run or, if its methods had results before, the
            first plan with one of their trainings; None if there is none.
        changes: what differs from it in the report.
        own: plans of their own that added methods have.
        shown: when results were shown too early, None if they were not.
    """

    record: PlanRecord | None
    changes: tuple[Change, ...] = ()
    own: tuple[PlanRecord, ...] = ()
    shown: Shown | None = None

    @property
    def is_before_results(self) -> bool:
        """Whether the plan was stored before the first result."""
        return self.record is not None and not self.record.known

    @property
    def sentence(self) -> str:
        """What a report says."""
        early = ""
        if self.shown is not None:
            early = (
                f" Results were shown at {moment(self.shown.time)}, when {self.shown.stored} of "
                f"{self.shown.trainings} trainings were stored."
            )
        return f"{self._plan}{early}"

    @property
    def _plan(self) -> str:
        if self.record is None:
            return (
                "No plan was stored before the results: an older version of mil-bench made the "
                "run, or its plan was removed, or the results were imported without it."
            )
        name = f"{self.record.digest}, {self.record.moment}"
        known = ", ".join(f"{label} ({count})" for label, count in self.record.known.items())
        if not known:
            start = f"Planned before results: {name}."
        elif self.record.search is None:
            start = (
                f"No plan was stored before the first results. When this one was stored ({name}), "
                f"there were trainings of {known}."
            )
        else:
            start = (
                f"Planned before test results were shown: {name}. There were trials of {known}, "
                "which are chosen by validation slides."
            )
        if not self.changes:
            return start
        own = ", ".join(f"{record.digest} of {record.moment}" for record in self.own)
        plans = f" Plans of their own for added methods: {own}." if own else ""
        usual = "".join(
            _USUAL[change.what]
            for change in self.changes
            if change.what == ADDED
            or (change.what == SEEDS and change.used.startswith(f"{change.planned}, "))
        )
        return (
            f"{start} Different in this report: {'; '.join(map(str, self.changes))}.{usual}{plans}"
        )


class PlanRecords:
    """The plan records of one dataset.

    Args:
        store: the results.
        dataset: slug of the dataset.
    """

    def __init__(self, store: ResultStore, dataset: str) -> None:
        self._folder = store.root / dataset / "plans"

    def keep(self, record: PlanRecord) -> PlanRecord:
        """Store a record, unless the run has results; the record that counts for its run.

        Raises:
            StorageError: the disk refuses, or a stored record is broken.
        """
        stored = [other for other in self.all() if other.run == record.run]
        same = any(not other.known and other.digest == record.digest for other in stored)
        if not stored or not (record.known or same):
            self.write(record)
            stored.append(record)
        return _counting(stored)

    def write(self, record: PlanRecord) -> None:
        """Store a record as it is, unless there is one of its run with its digest."""
        text = json.dumps(record.to_json(), indent=1, ensure_ascii=True) + "\n"
        durable.write_once(self._path(record), lambda file: file.write(text.encode()))

    def note_shown(self, run: str, stored: int, trainings: int) -> None:
        """Note that results of a run are shown although trainings are missing."""
        shown = Shown(datetime.now(UTC).isoformat(), stored, trainings)
        text = json.dumps(dataclasses.asdict(shown)) + "\n"
        durable.write_once(self._note(run), lambda file: file.write(text.encode()))

    def shown(self, run: str) -> Shown | None:
        """When results of a run were first shown although trainings were missing.

        Raises:
            StorageError: the note is broken.
        """
        path = self._note(run)
        if not path.exists():
            return None
        try:
            return typed(Shown, read_object(path))
        except (OSError, ValueError) as error:
            raise _broken(path, error) from error

    def all(self) -> list[PlanRecord]:
        """All records, the oldest first.

        Raises:
            StorageError: one of them is broken.
        """
        records = []
        for path in self._folder.glob("*.json"):
            try:
                record = PlanRecord.from_json(read_object(path))
                if self._path(record) != path:
                    raise ValueError("its content is not what was stored")
            except (OSError, ValueError) as error:
                raise _broken(path, error) from error
            records.append(record)
        return sorted(records, key=lambda record: record.time)

    def _path(self, record: PlanRecord) -> Path:
        return self._folder / f"{record.run}-{record.digest}.json"

    def _note(self, run: str) -> Path:
        return self._folder / f"{run}.shown"


def _broken(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"The stored plan {path} cannot be used: {error}. It was left as it is; move it away to go "
        "on without it. Results are unchanged."
    )


def _known_trainings(plan: RunPlan, store: ResultStore) -> dict[str, int]:
    """Label of a method to how many of its trainings are stored; without yardsticks."""
    stored = {job.key: store.done(job) for job in plan.jobs}
    return dict(
        Counter(
            job.label for job, fold in plan.trainings if job.is_trained and fold in stored[job.key]
        )
    )


def _known_trials(prepared: Prepared, store: ResultStore) -> dict[str, int]:
    """Label of a method to how many trials of its settings are stored."""
    from mil_bench.tuning.choosing import studies_of
    from mil_bench.tuning.trial_store import TrialStore

    trials = TrialStore(Results(store.root.parent).studies)
    known: Counter[str] = Counter()
    for study in studies_of(prepared):
        known[study.base.label] += len([*study.folder_in(trials).glob("trial-*.json")])
    return {label: count for label, count in known.items() if count}


def keep_plan(store: ResultStore, prepared: Prepared, asked: Asked) -> PlanRecord:
    """Store what is planned, before anything is trained; the record that counts for the run.

    Args:
        store: the results.
        prepared: the plan; if settings are searched, with the methods' own settings.
        asked: the question.

    Raises:
        StorageError: the disk refuses, or a stored record is broken.
    """
    plan, request = prepared.plan, prepared.request
    known = _known_trials(prepared, store) if request.is_tuned else _known_trainings(plan, store)
    record = PlanRecord.of(plan, asked, request, datetime.now(UTC).isoformat(), known)
    return PlanRecords(store, plan.dataset).keep(record)


def keep_chosen(store: ResultStore, record: PlanRecord, plan: RunPlan) -> None:
    """Store the record of a search also as that of the run whose settings it has chosen."""
    PlanRecords(store, plan.dataset).write(dataclasses.replace(record, run=plan.run_id))


def what_was_planned(store: ResultStore, plan: RunPlan, asked: Asked) -> PlanStatus:
    """What was planned before a run's results, compared with what it is asked now.

    Raises:
        StorageError: a stored record is broken.
    """
    records = PlanRecords(store, plan.dataset)
    found = _compared(records.all(), plan, asked)
    return dataclasses.replace(found, shown=records.shown(plan.run_id))


def _compared(records: Sequence[PlanRecord], plan: RunPlan, asked: Asked) -> PlanStatus:
    """The plan that counts for a run, of all records from the oldest on, and what differs."""
    own = [record for record in records if record.run == plan.run_id]
    present = PlanRecord.of(plan, asked, None, "", {})
    if plan.tuning is not None:
        if not own:
            return PlanStatus(None)
        # The plan has the chosen settings; what was planned are the trials that choose them.
        search = own[0].search
        if search is not None and search.trials is not None:
            search = Search(plan.tuning.trials, plan.tuning.select, plan.tuning.pruned)
        present = dataclasses.replace(present, methods=own[0].methods, search=search)
    keys = _trained_keys(present, plan)
    sharing = [
        record
        for record in records
        if record.split == present.split
        and (record.search is None) == (present.search is None)
        and set(keys) & {key for of_method in record.methods.values() for key in of_method}
    ]
    if not sharing:
        return PlanStatus(None)
    base = _counting(own) if own else None
    if base is None or base.known:
        base = _counting([record for record in sharing if record.run == sharing[0].run])
    added = set(present.methods) - set(base.methods)
    plans = [r for r in sharing if not r.known and r.run != base.run and added & set(r.methods)]
    return PlanStatus(base, tuple(base.changes_to(present)), tuple(plans))


def _counting(records: Sequence[PlanRecord]) -> PlanRecord:
    """Of a run's records, oldest first, the one that counts."""
    before = [record for record in records if not record.known]
    return before[-1] if before else records[0]


def _trained_keys(record: PlanRecord, plan: RunPlan) -> set[str]:
    """Keys of the jobs that are trained: yardsticks are in all runs on a split."""
    yardsticks = {job.label for job in plan.jobs if not job.is_trained}
    return {
        key for label, keys in record.methods.items() if label not in yardsticks for key in keys
    }
