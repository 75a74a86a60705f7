"""What was planned before a run had results: methods, splits, seeds and question, with a digest.

The run's plan (``planning.plan``) says what is trained. A plan record also says what the results
are asked, and when that was stored. A later report can so be compared with what was planned.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mil_bench.file_values import typed
from mil_bench.planning.plan import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mil_bench.planning.asked import Asked
    from mil_bench.planning.plan import RunPlan
    from mil_bench.planning.request import RunRequest

ADDED = "methods added"
SEEDS = "seeds"
"""Changes that are usual: a comparison grows."""
_NOT_PLANNED = ("run", "time", "known")
"""Fields that the digest does not depend on."""


@dataclass(frozen=True)
class Search:
    """How settings were to be chosen by trials.

    Args:
        trials: number of trials per study, None for those that are stored.
        select: a key of ``SELECTIONS``.
        pruning: whether hopeless trials are pruned.
    """

    trials: int | None
    select: str
    pruning: bool


@dataclass(frozen=True)
class PlanRecord:
    """A run's plan and question, with the time at which they were stored.

    Args:
        run: name of the run.
        split: digest of the splits.
        seeds: training seeds.
        methods: label of each method to the keys of its jobs, which depend on every setting; if
            settings are searched, of the jobs with the methods' own settings.
        metric: key of the main metric.
        margin: of practical equivalence, as of ``Asked``.
        reference: as of ``Asked``.
        pairs: as of ``Asked``.
        search: how settings were to be chosen, None if they are not tuned.
        time: when the record was stored, UTC, ISO 8601.
        known: label of a method to how many of its trainings (or, if settings are searched, of its
            trials) were stored at that time; methods without any are left out.
    """

    run: str
    split: str
    seeds: tuple[int, ...]
    methods: dict[str, tuple[str, ...]]
    metric: str
    margin: float
    reference: str | None
    pairs: tuple[str, ...]
    search: Search | None
    time: str
    known: dict[str, int]

    @classmethod
    def of(
        cls,
        plan: RunPlan,
        asked: Asked,
        request: RunRequest | None,
        time: str,
        known: dict[str, int],
    ) -> PlanRecord:
        """The record of a plan.

        Args:
            plan: of the run; if settings are searched, with the methods' own settings.
            asked: the question.
            request: says how settings are searched, None if they are not.
            time: now.
            known: what is stored now.
        """
        methods: dict[str, tuple[str, ...]] = {}
        for job in plan.jobs:
            methods[job.label] = (*methods.get(job.label, ()), job.key)
        search = None
        if request is not None and request.is_tuned:
            search = Search(request.tune, request.select, request.pruning)
        return cls(
            run=plan.run_id if search is None else f"{plan.run_id}-tuned",
            split=plan.splits.digest,
            seeds=tuple(plan.seeds),
            methods=methods,
            metric=asked.measure(plan).key,
            margin=float(asked.margin),
            reference=asked.reference,
            pairs=_written(asked, plan) if asked.pairs else (),
            search=search,
            time=time,
            known=known,
        )

    @property
    def digest(self) -> str:
        """16 hex digits that depend on what was planned, and on nothing else."""
        content = {k: v for k, v in self.to_json().items() if k not in _NOT_PLANNED}
        return digest_of(content)

    @property
    def moment(self) -> str:
        """The time as reports print it."""
        return moment(self.time)

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlanRecord:
        """The inverse of ``to_json``.

        Raises:
            ValueError: a field is missing, unknown or of another type.
        """
        return typed(cls, value)

    def changes_to(self, other: PlanRecord) -> Iterator[Change]:
        """What differs in another record, which was made later."""
        added = [label for label in other.methods if label not in self.methods]
        removed = [label for label in self.methods if label not in other.methods]
        planned, used = ", ".join(self.methods), ", ".join
        if added:
            yield Change(ADDED, used(added), planned)
        if removed:
            yield Change("methods left out", used(removed), planned)
        both = [label for label in self.methods if label in other.methods]
        if altered := [m for m in both if not set(self.methods[m]) & set(other.methods[m])]:
            yield Change("methods with other settings", used(altered), "their former settings")
        for what, of_record in _QUESTIONS.items():
            if of_record(self) != of_record(other):
                yield Change(what, of_record(other), of_record(self))


def moment(time: str) -> str:
    """A time in UTC, ISO 8601, as reports print it: ``2026-03-01 09:30:00 UTC``."""
    return f"{time[:19].replace('T', ' ')} UTC"


@dataclass(frozen=True)
class Change:
    """Something that is not as planned.

    Args:
        what: in words ("margin").
        used: what a report uses.
        planned: what was planned.
    """

    what: str
    used: str
    planned: str

    def __str__(self) -> str:
        return f"{self.what}: {self.used} (planned: {self.planned})"


def _written(asked: Asked, plan: RunPlan) -> tuple[str, ...]:
    """The pairs that are asked for, whatever the order in which they were given."""
    pairs = asked.pairs_of(plan.methods) or ()
    return tuple(sorted(":".join(sorted(pair)) for pair in pairs))


def _pairs_of(record: PlanRecord) -> str:
    if record.reference is not None:
        return f"{record.reference} with each other method"
    return ", ".join(record.pairs) or "all"


def _search_of(record: PlanRecord) -> str:
    if record.search is None:
        return "not tuned"
    trials = "the stored trials" if record.search.trials is None else record.search.trials
    return f"{trials}, {record.search.select}{'' if record.search.pruning else ', not pruned'}"


_QUESTIONS = {
    "main metric": lambda record: record.metric,
    "margin": lambda record: f"{record.margin:g}",
    "compared pairs": _pairs_of,
    SEEDS: lambda record: ", ".join(map(str, record.seeds)),
    "trials": _search_of,
}
"""What is planned besides methods, in words, to its value in a record."""
