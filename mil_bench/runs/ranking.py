"""Methods ranked over several datasets, with one run per dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import durable
from mil_bench.errors import InputError
from mil_bench.evaluation import statistics
from mil_bench.report.render import write_report
from mil_bench.report.sentences import ranking_sentence
from mil_bench.report.tables import DAGGER, Cell, ResultTable, ranked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.report.figures.gallery import Gallery
    from mil_bench.runs.result import RunResult

_WHAT = "ranking methods over datasets"
_NOTE = "Means over trainings. Ranks are averages over datasets; 1 is best."
_CLASSES = (
    f"{DAGGER} On {{}} some folds lack a class: each class counts by its mean over the folds that "
    "have it, then classes are averaged, as for the verdicts."
)
_OTHER = (
    "On {datasets} methods are ranked by {words}, because more than half of the folds lack some "
    "class."
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Runs on different datasets, and the average ranks of the methods that all of them have.

    Args:
        results: one run per dataset.

    Raises:
        InputError: two runs are on the same dataset, or on the same slides under another name.
    """

    results: Sequence[RunResult]

    def __post_init__(self) -> None:
        names = [result.plan.dataset for result in self.results]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems = [f"{name} has {names.count(name)} runs" for name in twice]
            raise InputError(_WHAT, problems, "Name one run per dataset.")
        same = [
            f"{one.plan.dataset} and {other.plan.dataset} have the same slides, so they are one "
            "dataset (with other features, perhaps)"
            for one, other in combinations(self.results, 2)
            if _have_the_same_slides(one, other)
        ]
        if same:
            raise InputError(_WHAT, same, "Name one run per set of slides.")

    @cached_property
    def methods(self) -> list[str]:
        """Methods with all their trainings in every run, in the order of the first.

        Yardsticks are not ranked, nor is a method without the metric.
        """
        complete = [
            set(result.evidence.contestants) & set(result.evidence.having(result.measure))
            for result in self.results
        ]
        names = self.results[0].plan.methods
        return [name for name in names if all(name in methods for methods in complete)]

    @cached_property
    def ranks(self) -> statistics.Ranking | str:
        """The average ranks, or the reason why there are none.

        The means are those that the runs' verdicts compare.
        """
        means = [
            [result.measure.metric.sign * _mean(result, method) for method in self.methods]
            for result in self.results
        ]
        shape = len(self.results), len(self.methods)
        return statistics.rank_methods(self.methods, np.array(means).reshape(shape))

    @property
    def sentence(self) -> str:
        """The ranks in words."""
        return ranking_sentence(self.ranks)

    @property
    def table(self) -> ResultTable:
        """One column per dataset, and the average rank."""
        ranks = (
            {}
            if isinstance(self.ranks, str)
            else dict(zip(self.ranks.methods, self.ranks.ranks, strict=True))
        )
        cells: dict[str, dict[str, Cell | str]] = {}
        for method in sorted(self.methods, key=lambda m: ranks.get(m, 0)):
            cells[method] = {r.plan.dataset: _cell(r, method) for r in self.results}
            rank = ranks.get(method, float("nan"))
            cells[method]["Average rank"] = Cell.single(rank, f"{rank:.2f}")
        captions = " ".join(result.caption for result in self.results)
        lower = [r.plan.dataset for r in self.results if not r.measure.metric.higher_is_better]
        cells = ranked(cells, cells.keys(), lower_is_better=["Average rank", *lower])
        chosen = {_named(result.evidence.main): None for result in self.results}
        what = next(iter(chosen)) if len(chosen) == 1 else "each by its main metric"
        return ResultTable(
            "ranking",
            f"Ranks over {len(self.results)} datasets ({what})",
            captions,
            cells,
            note=" ".join([_NOTE, *self._notes]),
        )

    @property
    def _notes(self) -> list[str]:
        """On which datasets the means are others, and which."""
        notes = []
        main = {r.plan.dataset: _named(r.evidence.main) for r in self.results}
        if len(set(main.values())) > 1:
            notes.append(f"{'; '.join(f'{name}: {what}' for name, what in main.items())}.")
        if lacking := [r.plan.dataset for r in self.results if _lacks_classes(r, self.methods)]:
            notes.append(_CLASSES.format(", ".join(lacking)))
        others = {r.plan.dataset: r.measure for r in self.results if r.measure != r.evidence.main}
        if others:
            words = next(iter(others.values())).words
            notes.append(_OTHER.format(datasets=", ".join(others), words=words))
        return notes

    def write(self, reports: Path) -> Path:
        """Write the table and the critical-difference diagram into a new folder in ``reports``."""
        asked = {name: None for result in self.results if (name := result.asked.name)}
        content = " ".join([*(result.run_id for result in self.results), *asked])
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        folder = reports / f"ranking_{digest}"
        drawn = self._diagram
        facts = [self.sentence, *drawn.failures.values()]
        page = write_report(folder, folder.name, facts, [self.table])
        for name in drawn.keys() - drawn.failures.keys():
            durable.replace(folder / f"{name}.svg", drawn.svg(name))
        return page

    @property
    def _diagram(self) -> Gallery:
        """The critical-difference diagram, if there are ranks."""
        from mil_bench.report.figures.gallery import Gallery, Picture
        from mil_bench.report.figures.ranking import critical_difference

        ranks = self.ranks
        if isinstance(ranks, str):
            return Gallery({})
        title = "Critical differences of average ranks"
        return Gallery(
            {"critical_difference": Picture(title, "", lambda: critical_difference(ranks))}
        )


def _named(measure: Measure) -> str:
    """A metric with its unit: ``macro AUC, %``."""
    return measure.words + (", %" if measure.metric.percent else "")


def _mean(result: RunResult, method: str) -> float:
    """The mean by which a run's verdicts compare a method, not a number if undefined."""
    return float(result.evidence.contributions(method, result.measure).mean())


def _lacks_classes(result: RunResult, methods: Sequence[str]) -> bool:
    """Whether the mean is one over classes, since some folds lack one."""
    return any(
        np.isnan(result.evidence.by_fold(method, result.measure)).any()
        and not np.isnan(_mean(result, method))
        for method in methods
    )


def _cell(result: RunResult, method: str) -> Cell:
    """The mean with its spread over trainings; without, if folds lack a class."""
    scale, digits = (100, 1) if result.measure.metric.percent else (1, 3)
    if _lacks_classes(result, [method]):
        value = scale * _mean(result, method)
        return Cell(value, digits=digits, words=f"{value:.{digits}f}{DAGGER}")
    trainings = result.evidence.measured[method]
    return Cell.over({at: scale * t.values[result.measure] for at, t in trainings.items()}, digits)


def _have_the_same_slides(one: RunResult, other: RunResult) -> bool:
    """Whether at least half of the slides of the smaller run are slides of the other.

    A slide is the same if its id and its group are and if the classes of the runs agree: all
    slides of a class of one run are of one class in the other. Different datasets can have equal
    ids (1, 2, 3), but hardly equal groups and classes.
    """
    first, second = _slides_of(one), _slides_of(other)
    common = [s for s in first if s in second and first[s][1] == second[s][1]]
    if not common or 2 * len(common) < min(len(first), len(second)):
        return False
    classes = {(first[slide][0], second[slide][0]) for slide in common}
    return len(classes) in (len({a for a, _ in classes}), len({b for _, b in classes}))


def _slides_of(result: RunResult) -> dict[str, tuple[int, str]]:
    """Tested slide to its class and group."""
    return {
        slide: (label, group)
        for folds in result.trained.values()
        for fold in folds
        for slide, label, group in zip(
            fold.predictions.slides.tolist(),
            fold.predictions.labels.tolist(),
            fold.predictions.groups.tolist(),
            strict=True,
        )
    }
