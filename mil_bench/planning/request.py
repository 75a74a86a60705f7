"""What a user asks for, checked as far as it can be without looking at data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench import registry
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.planning.choice import SELECTIONS
from mil_bench.planning.rows import MethodRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Preset:
    """A budget.

    Args:
        folds: how many, None for the protocol's own.
        most_epochs: a cap, None for the authors' recipes.
        tuned_epochs: of every method where settings are tuned: an equal budget needs equal epochs.
    """

    folds: int | None
    most_epochs: int | None
    tuned_epochs: int


PRESETS: Mapping[str, Preset] = {
    # Recipes ask for 20 to 200 epochs; validation keeps the best of them.
    "paper": Preset(folds=None, most_epochs=None, tuned_epochs=100),
    "quick": Preset(folds=3, most_epochs=40, tuned_epochs=20),  # a first look, not a verdict
}


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for, from the command line or from Python.

    Args:
        dataset: name of a dataset, with settings if it is generated (``bracs-sim:slides=200``).
        methods: names of methods, ("all",), names with settings (``"hmil:align_bags=false"``), or
            ``MethodRow`` values.
        protocol: name of a protocol, None for the dataset's default.
        folds: number of folds, None for the preset's.
        splits: a split file whose protocol and folds, all of them, are followed.
        seeds: training seeds; every method is trained once a fold and seed. The splits do not
            change with them.
        preset: a key of ``PRESETS``.
        epochs: passes over the data for every method, None for recipe and preset.
        plugins: Python files whose methods are offered beside the installed ones.
        tune: number of trials for every method, None to make none.
        tuned: take the settings that stored trials have chosen.
        select: a key of ``SELECTIONS``: how trials are chosen. With "fixed" the recipes are
            trained, with the epochs of a tuned run.
        pruning: give up trials without prospect, by the same rule for every method.
    """

    dataset: str
    methods: tuple[str | MethodRow, ...] = ("all",)
    protocol: str | None = None
    folds: int | None = None
    splits: Path | None = None
    seeds: tuple[int, ...] = (0,)
    preset: str = "paper"
    epochs: int | None = None
    plugins: tuple[Path, ...] = ()
    tune: int | None = None
    tuned: bool = False
    select: str = "per-fold"
    pruning: bool = True

    def __post_init__(self) -> None:
        problems = []
        if self.preset not in PRESETS:
            raise UnknownNameError("preset", str(self.preset), PRESETS)
        if self.select not in SELECTIONS:
            raise UnknownNameError("way to select trials", str(self.select), SELECTIONS)
        for name in ("epochs", "folds", "tune"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                problems.append(f"{name} must be a whole number from 1 on, not {value!r}")
        whole = all(isinstance(seed, int) and seed >= 0 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            problems.append(
                f"seeds must be different whole numbers from 0 on, not {list(self.seeds)}"
            )
        if not isinstance(self.dataset, str):
            problems.append(
                f"dataset must be one name, not {self.dataset!r}; call run once for each"
            )
        if self.splits is not None:
            given = [name for name in ("protocol", "folds") if getattr(self, name) is not None]
            problems += [f"{name} is given, but the split file says what it is" for name in given]
        if self.tune is not None and self.tuned:
            problems.append("tune makes trials and tuned takes stored ones: give one of them")
        if not self.methods:
            problems.append("no method is named")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")

    @property
    def variants(self) -> list[MethodRow]:
        """The methods asked for, each once, in the order given; all registered ones for "all".

        Yardsticks may be named but need not be: they stand in every table anyway.

        Raises:
            UnknownNameError: a method that does not exist.
        """
        known, yardsticks = registry.methods.names(), registry.yardsticks.names()
        asked: dict[str, MethodRow] = {}
        for each in self.methods:
            variants = [MethodRow(name) for name in known] if each == "all" else [_variant(each)]
            for variant in variants:
                if variant.method not in known and variant.method not in yardsticks:
                    raise UnknownNameError("method", variant.method, [*known, "all"])
                asked.setdefault(variant.label, variant)
        return [variant for variant in asked.values() if variant.method not in yardsticks]

    @property
    def has_tuned_budget(self) -> bool:
        """Whether every method gets the epochs of a tuned run."""
        return self.tune is not None or self.tuned

    @property
    def is_tuned(self) -> bool:
        """Whether settings are chosen by trials."""
        return self.has_tuned_budget and self.select != "fixed"

    def tune_command(self, trials: int) -> str:
        """What to type to make so many trials for this request."""
        run = replace(self, tune=trials, tuned=False).command
        return run.replace("mil-bench run", "mil-bench tune", 1).replace(
            f"--tune {trials}", f"--trials {trials}", 1
        )

    @property
    def command(self) -> str:
        """What to type for the same request; settings that are at their defaults are left out."""
        words = ["mil-bench", "run", "--methods", *(_variant(each).label for each in self.methods)]
        words += ["--dataset", self.dataset]
        for name in ("protocol", "folds", "splits", "epochs", "tune"):
            value = getattr(self, name)
            words += [] if value is None else [f"--{name}", str(value)]
        words += ["--preset", self.preset, "--seeds", *map(str, self.seeds)]
        words += ["--plugin", *map(str, self.plugins)] if self.plugins else []
        words += ["--tuned"] if self.tuned else []
        words += (
            ["--select", self.select] if self.has_tuned_budget and self.select != "per-fold" else []
        )
        words += ["--no-pruning"] if self.is_tuned and not self.pruning else []
        return shlex.join(words)

    def names(self, variant: MethodRow) -> bool:
        """Whether the variant was asked for by itself, not only as one of all."""
        return any(each != "all" and _variant(each).label == variant.label for each in self.methods)


def _variant(each: str | MethodRow) -> MethodRow:
    return each if isinstance(each, MethodRow) else MethodRow.parse(each)
