"""What a user asks for, checked as far as it can be without looking at data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mil_bench import registry
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.running.variants import Variant


@dataclass(frozen=True)
class Preset:
    """A budget: number of folds (None: the protocol's own) and a cap on epochs (None: the authors' recipes)."""

    folds: int | None
    most_epochs: int | None


PRESETS: Mapping[str, Preset] = {
    "paper": Preset(folds=None, most_epochs=None),
    "quick": Preset(folds=3, most_epochs=40),  # a first look, not a verdict
}


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for, from the command line or from Python.

    Args:
        dataset: name of a dataset, with settings if it is generated (``bracs-sim:slides=200``).
        methods: names of methods, ("all",), names with settings (``"hmil:align_bags=false"``), or ``Variant`` values.
        protocol: name of a protocol, None for the dataset's default.
        folds: number of folds, None for the preset's.
        splits: a split file whose protocol and folds, all of them, are followed.
        seeds: training seeds; every method is trained once a fold and seed. The splits do not change with them.
        preset: a key of ``PRESETS``.
        epochs: passes over the data for every method, None for recipe and preset.
        plugins: Python files whose methods are offered beside the installed ones.
    """

    dataset: str
    methods: tuple[str | Variant, ...] = ("all",)
    protocol: str | None = None
    folds: int | None = None
    splits: Path | None = None
    seeds: tuple[int, ...] = (0,)
    preset: str = "paper"
    epochs: int | None = None
    plugins: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if self.preset not in PRESETS:
            raise UnknownNameError("preset", str(self.preset), PRESETS)
        for name in ("epochs", "folds"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                problems.append(f"{name} must be a whole number from 1 on, not {value!r}")
        whole = all(isinstance(seed, int) and seed >= 0 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            problems.append(f"seeds must be different whole numbers from 0 on, not {list(self.seeds)}")
        if not isinstance(self.dataset, str):
            problems.append(f"dataset must be one name, not {self.dataset!r}; call run once for each")
        if self.splits is not None:
            given = [name for name in ("protocol", "folds") if getattr(self, name) is not None]
            problems += [f"{name} is given, but the split file says what it is" for name in given]
        if not self.methods:
            problems.append("no method is named")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")

    @property
    def variants(self) -> list[Variant]:
        """The methods asked for, each once, in the order given; all registered ones for "all".

        Yardsticks may be named but need not be: they stand in every table anyway.

        Raises:
            UnknownNameError: a method that does not exist.
        """
        known, yardsticks = registry.methods.names(), registry.yardsticks.names()
        asked: dict[str, Variant] = {}
        for each in self.methods:
            variants = [Variant(name) for name in known] if each == "all" else [_variant(each)]
            for variant in variants:
                if variant.method not in known and variant.method not in yardsticks:
                    raise UnknownNameError("method", variant.method, [*known, "all"])
                asked.setdefault(variant.label, variant)
        return [variant for variant in asked.values() if variant.method not in yardsticks]

    @property
    def command(self) -> str:
        """What to type for the same request; settings that are at their defaults are left out."""
        words = ["mil-bench", "run", "--methods", *(_variant(each).label for each in self.methods)]
        words += ["--dataset", self.dataset]
        for name in ("protocol", "folds", "splits", "epochs"):
            value = getattr(self, name)
            words += [] if value is None else [f"--{name}", str(value)]
        words += ["--preset", self.preset, "--seeds", *map(str, self.seeds)]
        words += ["--plugin", *map(str, self.plugins)] if self.plugins else []
        return shlex.join(words)

    def names(self, variant: Variant) -> bool:
        """Whether the variant was asked for by itself, not only as one of all."""
        return any(each != "all" and _variant(each).label == variant.label for each in self.methods)


def _variant(each: str | Variant) -> Variant:
    return each if isinstance(each, Variant) else Variant.parse(each)
