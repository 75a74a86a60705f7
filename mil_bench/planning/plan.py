"""What is to be trained, as frozen values that know their own name.

A job's key is a hash of everything that decides its result, and of nothing else: no device, no
path, no time. Same key, same result; a changed setting is a changed key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mil_bench.hierarchy import LabelHierarchy
from mil_bench.planning.choice import Tuning
from mil_bench.splits.protocols import plan_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.splits.plan import SplitPlan

TRAINING_VERSION = 4
"""Part of every key; raised when a change of the training code alters results."""


@dataclass(frozen=True)
class Job:
    """One method trained by one seed on all folds of a split.

    Args:
        dataset: slug of the dataset.
        data_digest: digest of the bag store.
        method: registered name.
        method_version: the method class's version, with a digest of its file if it comes from one.
        params: every constructor parameter with its value.
        recipe: every field of the recipe with its value.
        split_digest: digest of the split.
        seed: training seed.
        label: how tables call it; does not count for the key.
        training_version: ``TRAINING_VERSION``.
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

    def to_json(self) -> dict[str, Any]:
        """A plain value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        """The inverse of ``to_json``."""
        return cls(**value)

    @property
    def is_trained(self) -> bool:
        """Whether anything is trained: a yardstick has no recipe."""
        return bool(self.recipe)

    @cached_property
    def key(self) -> str:
        """16 hex digits that name this job's result."""
        return _hash({name: value for name, value in self.to_json().items() if name != "label"})


@dataclass(frozen=True)
class RunPlan:
    """All jobs of one benchmark on one dataset.

    Args:
        dataset: slug of the dataset.
        dataset_caption: how tables name it.
        hierarchy: its classes.
        splits: the folds.
        jobs: methods x seeds.
        skipped: methods that cannot be trained here, and why.
        remarks: methods that do something else here than usual, and what.
        ordered: whether the order of the fine classes means something (grades).
        command: what to type for the same run.
        parts: for each job the folds that it is trained on; () where every job is trained on all.
            In a tuned plan the folds of a row may come from different jobs.
        tuning: how the jobs' settings were chosen, None if they were not tuned.
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

    @cached_property
    def run_id(self) -> str:
        """Name of the run: dataset, protocol, and a hash of the jobs and what was spent on choosing them."""
        jobs = [[job.key, job.label] for job in self.jobs]
        what = [jobs, self.parts, self.tuning.to_json()] if self.tuning else jobs
        return f"{self.dataset}_{self.splits.protocol}_{_hash(what)[:8]}"

    @property
    def trainings(self) -> list[tuple[Job, int]]:
        """Every job with every fold that it is trained on."""
        everywhere = tuple(range(len(self.splits.folds)))
        parts = self.parts or (everywhere,) * len(self.jobs)
        return [(job, fold) for job, folds in zip(self.jobs, parts, strict=True) for fold in folds]

    @property
    def methods(self) -> list[str]:
        """Method names in table order."""
        return list(dict.fromkeys([*(job.label for job in self.jobs), *self.skipped]))

    @property
    def seeds(self) -> list[int]:
        """Training seeds."""
        return list(dict.fromkeys(job.seed for job in self.jobs))

    @property
    def caption(self) -> str:
        """Dataset, protocol, folds, seeds, budget, and what ± is."""
        folds, seeds = len(self.splits.folds), len(self.seeds)
        trainings = f"{folds} fold{'s' * (folds > 1)} x {seeds} seed{'s' * (seeds > 1)}"
        named = f"seed{'s' * (seeds > 1)} {', '.join(map(str, self.seeds))}"
        protocol = self.splits.protocol + (f" ({self.splits.source})" if self.splits.source else "")
        promises = "; ".join([self.splits.leak_sentence, *self.splits.facts])
        spread = (
            f"± is the sample standard deviation over the {folds * seeds} trainings ({trainings}), "
            "neither a standard error nor a confidence interval."
            if folds * seeds > 1
            else "One training a method: no ± can be given."
        )
        return (
            f"Dataset: {self.dataset_caption}. Protocol: {protocol}, {trainings} "
            f"({named}), split {self.splits.digest}; {promises}. "
            f"Epochs: {self._budget}; the one that is kept is chosen on validation slides. "
            f"Settings: {self.tuning.sentence if self.tuning else 'not tuned'}. {spread}"
        )

    @property
    def _budget(self) -> str:
        """Epochs of every method, those with equal numbers together."""
        methods: dict[int, list[str]] = {}
        for job in self.jobs:
            if job.is_trained and job.label not in methods.setdefault(job.recipe["epochs"], []):
                methods[job.recipe["epochs"]].append(job.label)
        return "; ".join(
            f"{epochs} for {', '.join(names)}" for epochs, names in sorted(methods.items())
        )

    def to_json(self) -> dict[str, Any]:
        """A plain value."""
        return {
            "dataset": self.dataset,
            "dataset_caption": self.dataset_caption,
            "hierarchy": self.hierarchy.to_json(),
            "splits": dataclasses.asdict(self.splits),
            "jobs": [job.to_json() for job in self.jobs],
            "skipped": dict(self.skipped),
            "remarks": dict(self.remarks),
            "ordered": self.ordered,
            "command": self.command,
            "parts": self.parts,
            "tuning": self.tuning.to_json() if self.tuning else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunPlan:
        """The inverse of ``to_json``."""
        return cls(
            value["dataset"],
            value["dataset_caption"],
            LabelHierarchy.from_json(value["hierarchy"]),
            plan_from_json(value["splits"]),
            tuple(map(Job.from_json, value["jobs"])),
            value["skipped"],
            value["remarks"],
            value["ordered"],
            value["command"],
            tuple(map(tuple, value.get("parts", ()))),
            Tuning.from_json(value["tuning"]) if value.get("tuning") else None,
        )


def _hash(value: Mapping[str, Any] | Sequence[Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
