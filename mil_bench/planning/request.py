"""What a user asks for, checked as far as possible without data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.datasets.card import COMBINATIONS
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.methods.recipe import CLASS_WEIGHTS, SAMPLERS
from mil_bench.planning.choice import SELECTIONS
from mil_bench.planning.options import option, words_of
from mil_bench.planning.rows import MethodRow

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Preset:
    """A budget.

    Args:
        folds: number of folds, None for the protocol's.
        most_epochs: highest number of epochs of a method that takes one step per slide, None for
            the authors' recipes. Others have as many steps, not as many epochs: with batches of b
            slides, b times as many epochs.
        tuned_epochs: epochs of every method if settings are tuned; an equal budget needs equal
            epochs.
    """

    folds: int | None
    most_epochs: int | None
    tuned_epochs: int


PRESETS: Mapping[str, Preset] = {
    # Recipes have 20 to 200 epochs; the epoch with the lowest validation loss is selected.
    "paper": Preset(folds=None, most_epochs=None, tuned_epochs=100),
    # For a first look, not for a verdict. Steps are limited and not epochs, because in the same
    # number of epochs a method with batches of 64 slides changes its weights 64 times less often.
    "quick": Preset(folds=3, most_epochs=40, tuned_epochs=20),
}


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for, from the command line or from Python.

    Args:
        dataset: name of a dataset, with settings if it is generated (``bracs-sim:slides=200``).
        methods: names of methods or of groups ("all", "core"), names with settings
            (``"hmil:align_bags=false"``), or ``MethodRow`` values.
        protocol: name of a protocol, None for the dataset's default.
        folds: number of folds, None for the preset's.
        splits: a split file; all its folds are used.
        seeds: training seeds; every method is trained once per fold and seed. The splits do not
            depend on them.
        preset: a key of ``PRESETS``.
        epochs: epochs for every method, None for those of recipe and preset.
        class_weights: for every method, "none" or "balanced"; None for the recipe's.
        sampler: for every method that is trained in steps, "shuffled" or "balanced"; None for the
            recipe's.
        plugins: Python files whose methods are available in addition to the installed ones.
        tune: number of trials per method, None for no search.
        tuned: use the settings chosen by stored trials.
        select: a key of ``SELECTIONS``: how trials are chosen.
        pruning: prune hopeless trials, by the same rule for every method.
        allow_missing: follow a split file without its slides that have no features, and leave out
            slides that one of several encoders lacks.
        encoders: the encoder whose features are used, if there are several; the folds are made of
            the slides that it and all encoders after it have.
        repeats: number of times that the cross-validation is made, each time with other folds.
        combine: how slides of a patient are combined if the dataset's labels belong to patients;
            None for "bag".
    """

    dataset: str
    methods: tuple[str | MethodRow, ...] = option(
        ("all",),
        "one or more names, core (HMIL, ABMIL, CLAM, TransMIL, DSMIL, pooling) or all (default); "
        "with settings: hmil:align_bags=false,temperature=0.2",
        metavar="NAME",
        shown=True,
    )
    protocol: str | None = option(
        None,
        "how slides are split (default: the dataset's first protocol; see mil-bench splits "
        "protocols)",
        metavar="NAME",
    )
    folds: int | None = option(
        None, "number of folds (default: the preset's)", parse=int, metavar="K"
    )
    splits: Path | None = option(
        None,
        "use the folds of a split file (see mil-bench splits)",
        parse=Path,
        metavar="FILE",
    )
    seeds: tuple[int, ...] = option(
        (0,), "training seeds (default: 0)", parse=int, metavar="S", shown=True
    )
    preset: str = option(
        "paper",
        "budget: paper (default), the authors' recipes on all folds; or quick, 3 folds and at most "
        "40 steps per training slide. If settings are tuned, every method gets 100 epochs (paper) "
        "or 20 (quick)",
        metavar="NAME",
        shown=True,
    )
    epochs: int | None = option(
        None,
        "epochs for every method (default: from recipe and preset)",
        parse=int,
        metavar="N",
    )
    class_weights: str | None = option(
        None,
        "for every method: balanced, a training slide's loss counts inversely to the frequency of "
        "its class in the fold; or none (default: from the recipe)",
        metavar="NAME",
    )
    sampler: str | None = option(
        None,
        "for every method that is trained in steps: balanced, the training slides of an epoch are "
        "drawn with replacement, so that classes come equally often; or shuffled, each once "
        "(default: from the recipe)",
        metavar="NAME",
    )
    plugins: tuple[Path, ...] = option(
        (),
        "Python files with methods of your own; the class MyMethod becomes my-method",
        parse=Path,
        metavar="FILE",
        flag="plugin",
    )
    tune: int | None = option(
        None,
        "first run a search of N trials per method; trials already stored count towards N",
        parse=int,
        metavar="N",
    )
    tuned: bool = option(False, "use the settings chosen by stored trials")
    select: str = option(
        "per-fold",
        "how trials are chosen: per-fold (default), in each fold the trial with the best "
        "validation loss of that fold; or shared, for all folds the trial with the best mean "
        "validation loss",
        metavar="NAME",
    )
    pruning: bool = option(True, "train every trial to its end; do not prune hopeless ones")
    allow_missing: bool = option(
        False,
        "follow a split file without its slides that have no features, and leave slides out that "
        "one of several encoders lacks; tables say so",
    )
    encoders: tuple[str, ...] = option(
        (),
        "features of one or more encoders (mil-bench data pack --encoder); several are run one "
        "after another on the same folds and compared",
        metavar="NAME",
        flag="encoder",
    )
    repeats: int = option(
        1,
        "repeat the cross-validation R times with other folds; verdicts then depend less on "
        "chance in training (default: 1)",
        parse=int,
        metavar="R",
    )
    combine: str | None = option(
        None,
        "for datasets whose labels belong to patients: bag (default), the slides of a patient are "
        "one bag; or mean, slides are trained and predicted apart and the probabilities of a "
        "patient's slides are averaged",
        metavar="NAME",
    )

    def __post_init__(self) -> None:
        problems = []
        if self.preset not in PRESETS:
            raise UnknownNameError("preset", str(self.preset), PRESETS)
        if self.select not in SELECTIONS:
            raise UnknownNameError("way to select trials", str(self.select), SELECTIONS)
        if self.class_weights not in (None, *CLASS_WEIGHTS):
            raise UnknownNameError("class weighting", str(self.class_weights), CLASS_WEIGHTS)
        if self.sampler not in (None, *SAMPLERS):
            raise UnknownNameError("sampler", str(self.sampler), SAMPLERS)
        if self.combine not in (None, *COMBINATIONS):
            raise UnknownNameError("way to combine slides", str(self.combine), COMBINATIONS)
        for name in ("epochs", "folds", "repeats", "tune"):
            value = getattr(self, name)
            is_left_out = value is None and name != "repeats"
            if not is_left_out and not (isinstance(value, int) and value >= 1):
                problems.append(f"{name} must be a whole number from 1 on, not {value!r}")
        whole = all(isinstance(seed, int) and seed >= 0 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            problems.append(
                f"seeds must be different whole numbers from 0 on, not {list(self.seeds)}"
            )
        if not isinstance(self.dataset, str):
            problems.append(
                f"dataset must be one name, not {self.dataset!r}; call run once per dataset"
            )
        if self.splits is not None:
            names = [name for name in ("protocol", "folds") if getattr(self, name) is not None]
            names += ["repeats"] if self.repeats != 1 else []
            problems += [f"{name} is given, but the split file says what it is" for name in names]
        if self.tune is not None and self.tuned:
            problems.append("tune makes trials and tuned takes stored ones: give only one of them")
        if not self.methods:
            problems.append("methods is empty")
        if problems:
            raise InputError("the request", problems, "See mil-bench run --help.")

    @property
    def rows(self) -> list[MethodRow]:
        """The requested methods without repetition, in their order.

        "all" is every registered one; a group, such as "core", names some. Yardsticks may be
        named but are not returned, because every table has them.

        Raises:
            UnknownNameError: a method does not exist.
        """
        names, yardsticks = registry.methods.names(), registry.yardsticks.names()
        chosen: dict[str, MethodRow] = {}
        for method in self.methods:
            for row in _rows_of(method):
                if row.method not in names and row.method not in yardsticks:
                    known = [*names, "all", *registry.groups.names()]
                    raise UnknownNameError("method", row.method, known)
                chosen.setdefault(row.label, row)
        return [row for row in chosen.values() if row.method not in yardsticks]

    def epochs_of(self, recipe: Mapping[str, Any]) -> int:
        """The highest number of epochs of a method with this recipe."""
        preset = PRESETS[self.preset]
        if self.epochs is not None:
            return self.epochs
        if self.is_tuned:
            return preset.tuned_epochs
        epochs: int = recipe["epochs"]
        if preset.most_epochs is None:
            return epochs
        slides_per_step = recipe["batch_size"] * recipe.get("accumulate", 1)
        return min(epochs, preset.most_epochs * slides_per_step)

    @property
    def is_tuned(self) -> bool:
        """Whether settings are chosen by trials; then every method has the same epochs."""
        return self.tune is not None or self.tuned

    def tune_command(self, trials: int) -> str:
        """The command that makes ``trials`` trials for this request."""
        words = replace(self, tune=trials, tuned=False)._words
        words[words.index("--tune")] = "--trials"
        return shlex.join(["mil-bench", "tune", *words])

    @property
    def command(self) -> str:
        """The command for the same request; options at their defaults are left out."""
        return shlex.join(["mil-bench", "run", *self._words])

    @property
    def _words(self) -> list[str]:
        """The options, methods and dataset first."""
        words, methods = list(words_of(self)), 1 + len(self.methods)
        return [*words[:methods], "--dataset", self.dataset, *words[methods:]]

    def names(self, row: MethodRow) -> bool:
        """Whether the request names the row itself, not only "all"."""
        return any(
            name != "all" and row.label in [named.label for named in _rows_of(name)]
            for name in self.methods
        )


def _rows_of(method: str | MethodRow) -> list[MethodRow]:
    """The rows that a name stands for: one, or those of "all" or of a group."""
    if isinstance(method, MethodRow):
        return [method]
    if method == "all":
        return [MethodRow(name) for name in registry.methods.names()]
    if method in registry.groups.names():
        return [MethodRow(name) for name in registry.groups.load(method)]
    return [MethodRow.parse(method)]
