"""What is to be trained: jobs and run plans, frozen values with names made from their content.

A job's key is a hash of everything that decides its result, and of nothing else: not of the device,
a path or the time. Jobs with the same key have the same result, and a changed setting changes the
key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping  # noqa: TC003 - pydantic needs the types
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mil_bench.datasets.card import BAG, MAIN_METRIC, SLIDE
from mil_bench.errors import InputError
from mil_bench.file_values import typed
from mil_bench.hierarchy import LabelHierarchy  # noqa: TC001 - as above
from mil_bench.planning.choice import Tuning  # noqa: TC001 - as above
from mil_bench.splits.plan import SplitPlan  # noqa: TC001 - as above
from mil_bench.splits.protocols import plan_from_json
from mil_bench.wording import FROM, plural

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

TRAINING_VERSION = 4
"""Part of every key; it is increased when a change of the training code alters results."""


@dataclass(frozen=True)
class Job:
    """One method trained with one seed on all folds of a split.

    Args:
        dataset: slug of the dataset.
        data_digest: digest of the bag store.
        method: registered name.
        method_version: the method class's version, with a digest of its file if it comes from one.
        params: every constructor parameter with its value; see ``Method.newer_settings``.
        recipe: every field of the recipe with its value.
        split_digest: digest of the split.
        seed: training seed.
        label: name of the row in tables; not part of the key.
        training_version: ``TRAINING_VERSION``.
        source: who trained it, if its result was imported; "" for what is trained here.
        combine: how slides of a patient are combined, "bag" or "mean"; "" if labels belong to
            slides.
    """

    dataset: str
    data_digest: str
    method: str
    method_version: str
    params: Mapping[str, Any]
    recipe: Mapping[str, Any]
    split_digest: str
    seed: int
    label: str
    training_version: int = TRAINING_VERSION
    source: str = ""
    combine: str = ""

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        value = dataclasses.asdict(self)
        for name in ("source", "combine"):  # they came later, and keys without them stay
            if not value[name]:
                del value[name]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        """The inverse of ``to_json``.

        Raises:
            ValueError: a field is missing, unknown or of another type.
        """
        return typed(cls, value)

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to train; a yardstick has no recipe."""
        return bool(self.recipe)

    @cached_property
    def key(self) -> str:
        """16 hex digits that name this job's result."""
        return digest_of({name: value for name, value in self.to_json().items() if name != "label"})


@dataclass(frozen=True)
class RunPlan:
    """All jobs of one benchmark on one dataset.

    Args:
        dataset: slug of the dataset.
        dataset_caption: description of the dataset for captions.
        hierarchy: the dataset's classes.
        splits: the folds.
        jobs: one per method and seed.
        skipped: label of each method that cannot be trained on this dataset to the reason.
        remarks: label of a method to what it does differently on this dataset.
        ordered: whether the fine classes are ordered (grades).
        command: the command for the same run.
        parts: the folds of each job; () if every job is trained on all folds. In a tuned plan the
            folds of a row may come from different jobs.
        tuning: how the jobs' settings were chosen, None if they were not tuned.
        centres: slide or, if labels belong to patients, patient to its centre, "" for an unknown
            one; empty if no centre is known.
        encoder: name of the encoder of the features, "" if it is not known.
        main_metric: key of the metric on which methods are compared if nothing else is asked for.
        patients: slide to its patient if labels belong to patients, else empty.
    """

    dataset: str
    dataset_caption: str
    hierarchy: LabelHierarchy
    splits: SplitPlan
    jobs: tuple[Job, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = False
    command: str = ""
    parts: tuple[tuple[int, ...], ...] = ()
    tuning: Tuning | None = None
    centres: Mapping[str, str] = field(default_factory=dict)
    encoder: str = ""
    main_metric: str = MAIN_METRIC
    patients: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def run_id(self) -> str:
        """Name of the run: dataset, protocol, and a hash of the jobs and how they were chosen."""
        jobs = [[job.key, job.label] for job in self.jobs]
        content = [jobs, self.parts, self.tuning.to_json()] if self.tuning else jobs
        return f"{self.dataset}_{self.splits.protocol}_{digest_of(content)[:8]}"

    @property
    def trainings(self) -> list[tuple[Job, int]]:
        """Pairs of a job and a fold that it is trained on."""
        everywhere = tuple(range(len(self.splits.folds)))
        parts = self.parts or (everywhere,) * len(self.jobs)
        return [(job, fold) for job, folds in zip(self.jobs, parts, strict=True) for fold in folds]

    @property
    def combine(self) -> str:
        """How slides of a patient are combined, "" if labels belong to slides."""
        return next((job.combine for job in self.jobs), "")

    @property
    def unit(self) -> str:
        """What is one item of the comparison: "slide", or what a patient is called."""
        return self.splits.group_name if self.patients else SLIDE

    @cached_property
    def slides_of(self) -> dict[str, list[str]]:
        """Patient to its slides in their order, if labels belong to patients; else empty."""
        slides: dict[str, list[str]] = {}
        for slide, patient in sorted(self.patients.items()):
            slides.setdefault(patient, []).append(slide)
        return slides

    def items(self, slides: Collection[str]) -> Collection[str]:
        """The items of the comparison that have these slides: themselves, or their patients."""
        return {self.patients[slide] for slide in slides} if self.patients else slides

    @property
    def methods(self) -> list[str]:
        """Labels of the rows in table order."""
        return list(dict.fromkeys([*(job.label for job in self.jobs), *self.skipped]))

    @property
    def seeds(self) -> list[int]:
        """Training seeds."""
        return list(dict.fromkeys(job.seed for job in self.jobs))

    @property
    def sources(self) -> list[str]:
        """Who trained the rows that were imported."""
        return list(dict.fromkeys(job.source for job in self.jobs if job.source))

    @property
    def caption(self) -> str:
        """Dataset, protocol, folds, seeds, budget, and the meaning of ±."""
        folds, seeds = len(self.splits.folds), len(self.seeds)
        trainings = f"{self.splits.count} x {plural(seeds, 'seed')}"
        seed_list = f"seed{'s' * (seeds > 1)} {', '.join(map(str, self.seeds))}"
        protocol = self.splits.protocol + (f" ({self.splits.source})" if self.splits.source else "")
        again = ["each repeat has other folds"] if self.splits.repeats > 1 else []
        promises = "; ".join([*again, self.splits.leak_sentence, *self.splits.facts])
        spread = (
            f"± is the sample standard deviation over the {folds * seeds} trainings ({trainings}), "
            "neither a standard error nor a confidence interval."
            if folds * seeds > 1
            else "One training per method: no ± can be given."
        )
        return (
            f"Dataset: {self.dataset_caption}. Protocol: {protocol}, {trainings} "
            f"({seed_list}), split {self.splits.digest}; {promises}.{self._combined} "
            f"Budget: {self._budget}. "
            "Weights are taken from the epoch with the lowest validation loss. "
            f"Settings: {self.tuning.sentence if self.tuning else 'not tuned'}. {spread}"
            f"{self._imported}"
        )

    @property
    def _combined(self) -> str:
        """What is one item, with a blank before it; "" if it is the slide."""
        if not self.patients:
            return ""
        one, patients = self.unit, plural(len(set(self.patients.values())), self.unit)
        how = (
            f"the slides of a {one} are one bag"
            if self.combine == BAG
            else f"slides are trained and predicted apart, and the probabilities of a {one}'s "
            "slides are averaged"
        )
        slides = plural(len(self.patients), "slide")
        return f" Labels belong to the {one}: {patients} with {slides}; {how}."

    @property
    def _imported(self) -> str:
        """Which rows were trained elsewhere, with a blank before it; "" if none was."""
        sources = " or ".join(f"'({FROM} {source})'" for source in self.sources)
        where = "were not trained here: their predictions were imported from a bundle that states"
        return sources and f" Rows marked {sources} {where} the same data and split digests."

    @property
    def _budget(self) -> str:
        """Epochs of every method; methods with equal numbers share a clause."""
        methods: dict[int, list[str]] = {}
        for job in self.jobs:
            if job.is_trained and job.label not in methods.setdefault(job.recipe["epochs"], []):
                methods[job.recipe["epochs"]].append(job.label)
        budgets = [
            f"at most {plural(epochs, 'epoch')} ({', '.join(labels)})"
            for epochs, labels in sorted(methods.items())
        ]
        return "; ".join(budgets) or "nothing is trained"

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold; if labels belong to slides, as versions before patients."""
        own = {"patients": dict(self.patients)} if self.patients else {}
        return own | {
            "dataset": self.dataset,
            "dataset_caption": self.dataset_caption,
            "hierarchy": self.hierarchy.to_json(),
            "splits": self.splits.to_json(),
            "jobs": [job.to_json() for job in self.jobs],
            "skipped": dict(self.skipped),
            "remarks": dict(self.remarks),
            "ordered": self.ordered,
            "command": self.command,
            "parts": self.parts,
            "tuning": self.tuning.to_json() if self.tuning else None,
            "centres": dict(self.centres),
            "main_metric": self.main_metric,
            "encoder": self.encoder,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunPlan:
        """The inverse of ``to_json``.

        Raises:
            ValueError: a field is missing, unknown or of another type.
            MilBenchError: its classes contradict each other.
        """
        return typed(cls, {**value, "splits": plan_from_json(value.get("splits"))})


def joined(plans: Sequence[RunPlan]) -> RunPlan:
    """One plan for runs on the same split, for instance of other methods or seeds.

    Args:
        plans: at least one; of the same dataset and split, not tuned.

    Raises:
        InputError: a row is called the same and has other settings.
    """
    # What was read from the data here describes them, not what a bundle says of them.
    first = next((plan for plan in plans if not plan.sources), plans[0])
    own_yardsticks = {job.method for job in first.jobs if not (job.is_trained or job.source)}
    jobs = {
        job.key: job
        for plan in plans
        for job in plan.jobs
        if job.is_trained or not job.source or job.method not in own_yardsticks
    }
    problems = [
        f"{plan.run_id} has other classes than {first.run_id}"
        for plan in plans
        if plan.hierarchy != first.hierarchy
    ]
    problems += [
        f"{plan.run_id} combines the slides of patients otherwise than {first.run_id} "
        f"({plan.combine or 'not'} and {first.combine or 'not'})"
        for plan in plans
        if plan.combine != first.combine
    ]
    for job in () if problems else jobs.values():
        for other in jobs.values():
            same_row = (job.label, job.seed) == (other.label, other.seed)
            if same_row and job.key < other.key:
                problems.append(f"{job.label} seed {job.seed} has other settings in another run")
    if problems:
        raise InputError("joining runs", problems, "Name runs with the same settings.")
    # In the order of the runs, each method with all its seeds, yardsticks last: as in one run.
    labels = list(dict.fromkeys(job.label for job in jobs.values()))
    ordered = sorted(
        jobs.values(), key=lambda job: (not job.is_trained, labels.index(job.label), job.seed)
    )
    trained = {job.label for job in ordered}
    return dataclasses.replace(
        first,
        jobs=tuple(ordered),
        skipped={
            label: reason
            for plan in plans
            for label, reason in plan.skipped.items()
            if label not in trained
        },
        remarks={label: remark for plan in plans for label, remark in plan.remarks.items()},
        command="; ".join(dict.fromkeys(plan.command for plan in plans if plan.command)),
        centres={s: centre for plan in (*plans, first) for s, centre in plan.centres.items()},
    )


def digest_of(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """16 hex digits made from a value that JSON can hold; equal values have equal ones."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
