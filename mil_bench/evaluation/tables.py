"""Result tables: mean ± std over trainings, with everything a reader must know in the caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.evaluation.metrics import METRICS, LevelMetrics, level_metrics
from mil_bench.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Trial:
    """One trained fold: which seed and fold, from which job, and what it said about its test slides."""

    seed: int
    fold: int
    job_key: str
    predictions: Predictions


@dataclass(frozen=True)
class Cell:
    """One figure of a table, in percent.

    Args:
        mean: over the trainings in which it is defined; not a number if there is none.
        std: sample standard deviation (ddof 1) over them; not a number for fewer than two.
        undefined_folds: folds in which it is undefined because a class has no test slide.
        rank: 1 for the best method of the column, 2 for the second best, 0 for all others.
    """

    mean: float
    std: float
    undefined_folds: tuple[int, ...] = ()
    rank: int = 0

    def text(self, plus_minus: str = " ± ") -> str:
        """As printed: ``71.2 ± 3.4``, with the folds in which it is undefined."""
        folds = ", ".join(map(str, self.undefined_folds))
        plural = "s" if len(self.undefined_folds) > 1 else ""
        if np.isnan(self.mean):
            return f"undefined in fold{plural} {folds}" if folds else "no result"
        figure = f"{self.mean:.1f}" + ("" if np.isnan(self.std) else f"{plus_minus}{self.std:.1f}")
        return f"{figure} (undefined in fold{plural} {folds})" if folds else figure


@dataclass(frozen=True)
class Table:
    """A table with its caption; every figure is traceable to the jobs that gave it.

    Args:
        name: for file names ("fine").
        title: heading.
        caption: what the reader must know.
        cells: method to column heading to cell.
        job_keys: method to the keys of its jobs.
    """

    name: str
    title: str
    caption: str
    cells: Mapping[str, Mapping[str, Cell]]
    job_keys: Mapping[str, tuple[str, ...]]

    @property
    def columns(self) -> list[str]:
        """Column headings."""
        return list(next(iter(self.cells.values()), {}))

    @property
    def frame(self) -> pd.DataFrame:
        """Figures in percent: one row a method, columns (heading, "mean" | "std")."""
        rows = {
            method: {(name, part): getattr(cell, part) for name, cell in row.items() for part in ("mean", "std")}
            for method, row in self.cells.items()
        }
        frame = pd.DataFrame.from_dict(rows, orient="index")
        frame.index.name = "method"
        return frame


def result_tables(
    trials: Mapping[str, Sequence[Trial]], expected: int, hierarchy: LabelHierarchy, caption: str
) -> list[Table]:
    """The tables of a run.

    Args:
        trials: method to its trained folds.
        expected: trainings a method has when it is complete; others are not ranked.
        hierarchy: the classes.
        caption: dataset, protocol, folds, seeds and what ± is.
    """
    levels: dict[str, dict[str, list[tuple[int, LevelMetrics]]]] = {"fine": {}, "coarse": {}}
    for method, done in trials.items():
        fine = [(t.fold, level_metrics(t.predictions.labels, t.predictions.fine)) for t in done]
        lifted = [
            (t.fold, level_metrics(hierarchy.coarse_of(t.predictions.labels), hierarchy.lift(t.predictions.fine)))
            for t in done
        ]
        levels["fine"][method], levels["coarse"][method] = fine, lifted
    keys = {method: tuple(sorted({t.job_key for t in done})) for method, done in trials.items()}

    def table(name: str, title: str, note: str, cells: dict[str, dict[str, Cell]]) -> Table:
        return Table(name, title, f"{caption} {note}".strip(), _ranked(cells, trials, expected), keys)

    lifted_note = "Coarse probabilities are the fine ones summed over the children, for every method."
    metrics = {level: _metric_cells(done) for level, done in levels.items()}
    aucs = {
        "fine": _classwise_cells(levels["fine"], hierarchy.fine),
        "coarse": _classwise_cells(levels["coarse"], hierarchy.coarse),
    }
    tables = [table("fine", f"Fine level, {hierarchy.n_fine} classes (%)", "", metrics["fine"])]
    if hierarchy.n_coarse < hierarchy.n_fine:
        title = f"Coarse level, {hierarchy.n_coarse} classes (%)"
        tables.append(table("coarse", title, lifted_note, metrics["coarse"]))
    tables.append(table("classwise_auc", "Class-wise one-vs-rest AUC, fine classes (%)", "", aucs["fine"]))
    if hierarchy.n_coarse < hierarchy.n_fine:
        title = "Class-wise one-vs-rest AUC, coarse classes (%)"
        tables.append(table("classwise_auc_coarse", title, lifted_note, aucs["coarse"]))
    return tables


def _metric_cells(levels: Mapping[str, list[tuple[int, LevelMetrics]]]) -> dict[str, dict[str, Cell]]:
    return {
        method: {heading: _cell([(k, m.values[key]) for k, m in done]) for key, heading in METRICS.items()}
        for method, done in levels.items()
    }


def _classwise_cells(
    levels: Mapping[str, list[tuple[int, LevelMetrics]]], names: Sequence[str]
) -> dict[str, dict[str, Cell]]:
    return {
        method: {name: _cell([(k, m.classwise_auc[c]) for k, m in done]) for c, name in enumerate(names)}
        for method, done in levels.items()
    }


def _cell(values: Sequence[tuple[int, float]]) -> Cell:
    defined = 100 * np.array([v for _, v in values if not np.isnan(v)])
    undefined = tuple(sorted({fold for fold, v in values if np.isnan(v)}))
    mean = float(defined.mean()) if len(defined) else float("nan")
    std = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
    return Cell(mean, std, undefined)


def _ranked(
    cells: dict[str, dict[str, Cell]], trials: Mapping[str, Sequence[Trial]], expected: int
) -> dict[str, dict[str, Cell]]:
    """Best and second best of each column among complete methods; equal means share a rank."""
    complete = [method for method, done in trials.items() if len(done) == expected]
    columns = list(next(iter(cells.values()), {}))
    ranked = {method: dict(row) for method, row in cells.items()}
    for column in columns:
        means = sorted({cells[m][column].mean for m in complete if not np.isnan(cells[m][column].mean)}, reverse=True)
        for method in complete:
            cell = cells[method][column]
            if cell.mean in means[:2]:
                rank = means.index(cell.mean) + 1
                ranked[method][column] = Cell(cell.mean, cell.std, cell.undefined_folds, rank)
    return ranked
