"""What is to be trained, as frozen values that know their own name.

A job's key is a hash of everything that decides its result, and of nothing else: no device, no path, no time. Same
key, same result; a changed setting is a changed key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mil_bench import registry
from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.data.spec import DatasetSpec
from mil_bench.data.splits import PROTOCOLS, Fold, SplitPlan, make_splits, protocol_named
from mil_bench.data.store import BagStore
from mil_bench.errors import PluginError
from mil_bench.running.request import PRESETS, Preset, RunRequest

TRAINING_VERSION = 1
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
    training_version: int = TRAINING_VERSION

    def to_json(self) -> dict[str, Any]:
        """A plain value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        """The inverse of ``to_json``."""
        return cls(**value)

    @cached_property
    def key(self) -> str:
        """16 hex digits that name this job's result."""
        return _hash(self.to_json())


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
    """

    dataset: str
    dataset_caption: str
    hierarchy: LabelHierarchy
    splits: SplitPlan
    jobs: tuple[Job, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def run_id(self) -> str:
        """Name of the run: dataset, protocol, and a hash of the jobs."""
        return f"{self.dataset}_{self.splits.protocol}_{_hash([job.key for job in self.jobs])[:8]}"

    @property
    def methods(self) -> list[str]:
        """Method names in table order."""
        return list(dict.fromkeys([*(job.method for job in self.jobs), *self.skipped]))

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
        protocol = self.splits.protocol + PROTOCOLS[self.splits.protocol].note
        spread = (
            f"± is the sample standard deviation over the {folds * seeds} trainings ({trainings}), "
            "neither a standard error nor a confidence interval."
            if folds * seeds > 1
            else "One training a method: no ± can be given."
        )
        return (
            f"Dataset: {self.dataset_caption}. Protocol: {protocol}, {trainings} "
            f"({named}), split {self.splits.digest}; {self.splits.leak_sentence}. "
            f"Epochs: {self._budget}; the one that is kept is chosen on validation slides. {spread}"
        )

    @property
    def _budget(self) -> str:
        """Epochs of every method, those with equal numbers together."""
        methods: dict[int, list[str]] = {}
        for job in self.jobs:
            if job.recipe and job.method not in methods.setdefault(job.recipe["epochs"], []):
                methods[job.recipe["epochs"]].append(job.method)
        return "; ".join(f"{epochs} for {', '.join(names)}" for epochs, names in sorted(methods.items()))

    def to_json(self) -> dict[str, Any]:
        """A plain value."""
        return {
            "dataset": self.dataset,
            "dataset_caption": self.dataset_caption,
            "hierarchy": self.hierarchy.to_json(),
            "splits": dataclasses.asdict(self.splits),
            "jobs": [job.to_json() for job in self.jobs],
            "skipped": dict(self.skipped),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunPlan:
        """The inverse of ``to_json``."""
        splits = value["splits"]
        folds = tuple(Fold(*(tuple(fold[role]) for role in ("train", "val", "test"))) for fold in splits["folds"])
        return cls(
            value["dataset"],
            value["dataset_caption"],
            LabelHierarchy.from_json(value["hierarchy"]),
            SplitPlan(
                **{**splits, "folds": folds, "leaks": tuple(splits["leaks"]), "val_leaks": tuple(splits["val_leaks"])}
            ),
            tuple(map(Job.from_json, value["jobs"])),
            value["skipped"],
        )


def make_plan(request: RunRequest, spec: DatasetSpec, store: BagStore) -> RunPlan:
    """The plan behind a request.

    Raises:
        UnknownNameError: a method or protocol that does not exist.
        SplitError: the splits cannot be made.
        PluginError: a method breaks the contract's form.
    """
    protocol = request.protocol or spec.protocols[0]
    own_folds = protocol_named(protocol, spec.protocols, spec.name).folds or spec.folds
    preset = PRESETS[request.preset]
    folds = request.folds if request.folds is not None else min(preset.folds or own_folds, own_folds)
    splits = make_splits(protocol, store.slides, spec.hierarchy, folds, store.group_name)
    caption = spec.caption
    if spec.generator is None:
        caption += f" ({len(store)} slides; {store.origin}, {store.width} features)"
    methods, skipped = _usable(request, store)
    recipes = {name: _recipe(method, request.epochs, preset) for name, method in methods.items()}
    params = {name: _defaults(method) for name, method in methods.items()}
    if store.group_name:
        methods |= {name: registry.yardsticks.load(name) for name in registry.yardsticks.names()}
    jobs = [
        Job(
            dataset=spec.slug,
            data_digest=store.digest,
            method=name,
            method_version="+".join(filter(None, [str(method.version), registry.methods.digest(name)])),
            params=params.get(name, {}),
            recipe=recipes.get(name, {}),
            split_digest=splits.digest,
            seed=seed,
        )
        for name, method in methods.items()
        for seed in request.seeds
    ]
    return RunPlan(spec.slug, caption, spec.hierarchy, splits, tuple(jobs), skipped)


def _usable(request: RunRequest, store: BagStore) -> tuple[dict[str, Any], dict[str, str]]:
    """The methods asked for that can be trained on these bags, and why the others cannot.

    Raises:
        PluginError: a method that was asked for by its name cannot be loaded.
    """
    methods, skipped = {}, {}
    for name in request.method_names:
        try:
            method = registry.methods.load(name)
            _require_form(name, method)
        except PluginError as error:
            if name in request.methods:
                raise
            skipped[name] = str(error)
            continue
        if method.needs_instance_labels and store.instance_labels is None:
            skipped[name] = f"it learns from instance labels, and {store.dataset} has none"
        else:
            methods[name] = method
    return methods, skipped


def _require_form(name: str, method: Any) -> None:
    """Refuse what cannot be planned: no recipe, or parameters whose defaults cannot be written down."""
    problems = [] if dataclasses.is_dataclass(getattr(method, "recipe", None)) else ["it has no recipe"]
    for param, default in _defaults(method).items():
        if default is inspect.Parameter.empty:
            problems.append(f"its parameter '{param}' has no default")
        elif not isinstance(default, str | int | float | bool | None):
            problems.append(f"the default of '{param}' is a {type(default).__name__}, not a number, text, bool or None")
    if problems:
        raise PluginError(f"The method '{name}' cannot be planned: {'; '.join(problems)}. See mil-bench check {name}.")


def _defaults(method: Any) -> dict[str, Any]:
    """Constructor parameters after (in_dim, hierarchy) with their defaults."""
    parameters = list(inspect.signature(method).parameters.values())[2:]
    return {p.name: p.default for p in parameters}


def _recipe(method: Any, epochs: int | None, preset: Preset) -> dict[str, Any]:
    recipe = dataclasses.asdict(method.recipe)
    recipe["betas"] = list(recipe["betas"])
    if epochs is not None:
        recipe["epochs"] = epochs
    elif preset.most_epochs is not None:
        recipe["epochs"] = min(recipe["epochs"], preset.most_epochs)
    return recipe


def _hash(value: Mapping[str, Any] | Sequence[Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
