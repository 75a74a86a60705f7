"""What a comparison could show, before it is made: sentences, and a table of other sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.power.ahead import ASSUMED, ASSUMED_OF_TRAINING
from mil_bench.report.power_tables import (
    LIKELY,
    design_words,
    needed_words,
    numbers_words,
    smallest_words,
)
from mil_bench.report.tables import Cell, ResultTable, shown_as
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.power.ahead import Basis
    from mil_bench.evaluation.power.spread import Design

_REPEATS, _SEEDS, _FOLDS = (1, 2, 3, 5, 10), (1, 2, 3, 5, 10), (3, 5, 10, 20)
_NOTE = (
    "Smallest difference: the true difference that is found " + LIKELY + "; the median over pairs "
    "of methods. Hours: of training, if trainings run one after another."
)


@dataclass(frozen=True)
class Planned:
    """A comparison that is planned.

    Args:
        dataset: its name.
        protocol: name of the protocol.
        design: its size.
        methods: number of methods.
        yardsticks: number of yardsticks, which are compared, too.
        compared: the pairs that are compared, by numbers of methods and yardsticks.
        margin: of practical equivalence.
        basis: what the numbers rest on.
        names: the methods; empty if only their number is known.
        seconds: methods to seconds per stored training, and its highest number of epochs.
        epochs: methods to the highest number of epochs that is planned, if it is known.
    """

    dataset: str
    protocol: str
    design: Design
    methods: int
    yardsticks: int
    compared: Sequence[tuple[int, int]]
    margin: float
    basis: Basis
    names: Sequence[str]
    seconds: Mapping[str, tuple[float, int]]
    epochs: Mapping[str, int]

    def trainings(self, design: Design) -> int:
        """How many there are with another size."""
        return self.methods * design.folds * design.repeats * design.seeds

    def hours(self, design: Design) -> float:
        """How long they take at most, not a number if no timing is stored.

        Seconds grow in proportion to the number of epochs; early stopping may save some.
        """
        timed = self.timed
        if not timed:
            return float("nan")
        each = [
            seconds * self.epochs.get(name, epochs) / epochs
            for name, (seconds, epochs) in timed.items()
        ]
        return self.trainings(design) * float(np.mean(each)) / 3600

    @property
    def timed(self) -> Mapping[str, tuple[float, int]]:
        """The timings of the methods; of all that are stored, if none of them is."""
        own = {name: self.seconds[name] for name in self.names if name in self.seconds}
        return own or self.seconds


def plan_sentences(planned: Planned) -> list[str]:
    """What is planned, what it rests on, what it could show, and how long it takes."""
    unit, compared = planned.basis.unit, planned.compared
    outlook = planned.basis.outlook(planned.design, compared, planned.margin)
    methods = plural(planned.methods, "method")
    if planned.yardsticks:
        methods += f" and {plural(planned.yardsticks, 'yardstick')}"
    return [
        f"{planned.dataset}, {planned.protocol}: {methods} ({plural(len(compared), 'pair')} "
        f"compared at once), {design_words(planned.design, unit)}; "
        f"{plural(planned.trainings(planned.design), 'training')}.",
        _basis_sentence(planned.basis),
        f"The smallest true difference in {outlook.measure.words} that this would find {LIKELY} is "
        f"{smallest_words(outlook)}.{needed_words(outlook)}",
        _time_sentence(planned),
    ]


def plan_table(planned: Planned) -> ResultTable:
    """The planned size, and others that differ in one number."""
    cells: dict[str, dict[str, Cell | str]] = {}
    for design in _designs(planned):
        outlook = planned.basis.outlook(design, planned.compared, planned.margin)
        smallest = float(np.median([pair.smallest for pair in outlook.pairs]))
        scale, digits = shown_as(outlook.measure.metric)
        hours = planned.hours(design)
        name = design_words(design, planned.basis.unit).rpartition(", ")[0]
        cells[f"{name} (planned)" if design == planned.design else name] = {
            "Smallest difference": Cell.single(scale * smallest, f"{scale * smallest:.{digits}f}"),
            "Trainings": Cell.count(planned.trainings(design)),
            "Hours": Cell.absent() if np.isnan(hours) else Cell(hours),
        }
    points = " (percentage points)" if planned.basis.measure.metric.percent else ""
    title = f"Other sizes, {planned.basis.measure.words}{points}"
    return ResultTable("plan", title, "", cells, note=_NOTE, row_heading="size")


def _designs(planned: Planned) -> list[Design]:
    """The planned size first. What cannot be changed, or whose part is unknown, is not varied."""
    design, basis = planned.design, planned.basis
    others = [design]
    is_bound = bool(basis.run) and basis.design.repeats * basis.design.seeds == 1
    if basis.most:
        others += [] if is_bound else [replace(design, repeats=repeats) for repeats in _REPEATS]
        others += [replace(design, folds=folds) for folds in _FOLDS if folds <= basis.most]
    if basis.design.seeds > 1:
        others += [replace(design, seeds=seeds) for seeds in _SEEDS]
    return list(dict.fromkeys(others))


def _basis_sentence(basis: Basis) -> str:
    if not basis.run:
        return (
            "No suitable run on the dataset is stored, so this rests on an assumption: with one "
            f"training per fold, a {basis.unit}'s part in the difference of two methods has a "
            f"standard deviation of {100 * ASSUMED:.0f} points, of whose variance "
            f"{100 * ASSUMED_OF_TRAINING:.0f} % is chance of training that repeats average out, as "
            "in simulated benchmarks (mil_bench.benchmarks.statistics, macro AUC)."
        )
    pairs = plural(len(basis.spreads), "pair")
    words = design_words(basis.design, basis.unit)
    return f"This rests on {pairs} of methods in the stored run {basis.run} ({words})."


def _time_sentence(planned: Planned) -> str:
    timed = planned.timed
    if not timed:
        return "No training on the dataset is stored, so hours cannot be estimated."
    seconds, epochs = zip(*timed.values(), strict=True)
    of = first_names(list(timed))
    unknown = [name for name in planned.names if name not in timed]
    mean = f"; for {first_names(unknown)} their mean was taken" if unknown else ""
    wanted = [planned.epochs.get(name, epochs) for name, (_, epochs) in timed.items()]
    as_planned = ""
    if wanted != list(epochs):
        as_planned = f", and {numbers_words(wanted)} epochs are planned"
    return (
        f"Training takes about {planned.hours(planned.design):.1f} hours, one training after "
        f"another: those of {of} that are stored took {numbers_words(seconds)} seconds each, with "
        f"at most {numbers_words(epochs)} epochs{as_planned}{mean}."
    )
