"""What a user asks for, checked as far as it can be without looking at data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mil_bench import registry
from mil_bench.errors import InputError, UnknownNameError


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
        methods: names of methods, or ("all",).
        protocol: name of a protocol, None for the dataset's default.
        folds: number of folds, None for the preset's.
        seeds: training seeds; every method is trained once a fold and seed. The splits do not change with them.
        preset: a key of ``PRESETS``.
        epochs: passes over the data for every method, None for recipe and preset.
        plugins: Python files whose methods are offered beside the installed ones.
    """

    dataset: str
    methods: tuple[str, ...] = ("all",)
    protocol: str | None = None
    folds: int | None = None
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
        if not self.methods:
            problems.append("no method is named")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")

    @property
    def method_names(self) -> list[str]:
        """The methods asked for, each once, in the order given; all registered ones for "all".

        Yardsticks may be named but need not be: they stand in every table anyway.
        """
        known, yardsticks = registry.methods.names(), registry.yardsticks.names()
        for name in self.methods:
            if name not in known and name not in yardsticks and name != "all":
                raise UnknownNameError("method", name, [*known, "all"])
        named = [n for name in self.methods for n in (known if name == "all" else [name])]
        return [name for name in dict.fromkeys(named) if name not in yardsticks]
