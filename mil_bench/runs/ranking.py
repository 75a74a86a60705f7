"""Methods ranked over several datasets, with one run per dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import durable
from mil_bench.errors import InputError
from mil_bench.evaluation import statistics
from mil_bench.evaluation.metrics import Measure
from mil_bench.report.render import write_report
from mil_bench.report.sentences import ranking_sentence
from mil_bench.report.tables import Cell, ResultTable, ranked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.runs.result import RunResult

_MEASURE = Measure("fine", "macro_auc")
_NOTE = (
    "Macro AUC of the fine level, mean over trainings. Ranks are averages over datasets; 1 is best."
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Runs on different datasets, and the average ranks of the methods that all of them have.

    Args:
        results: one run per dataset.

    Raises:
        InputError: two runs are on the same dataset.
    """

    results: Sequence[RunResult]

    def __post_init__(self) -> None:
        names = [result.plan.dataset for result in self.results]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems = [f"{name} has {names.count(name)} runs" for name in twice]
            raise InputError("ranking methods over datasets", problems, "Name one run per dataset.")

    @cached_property
    def methods(self) -> list[str]:
        """Methods with all their trainings in every run, in the order of the first."""
        complete = [set(result.evidence.complete) for result in self.results]
        names = self.results[0].plan.methods
        return [name for name in names if all(name in methods for methods in complete)]

    @cached_property
    def ranks(self) -> statistics.Ranking | str:
        """The average ranks, or the reason why there are none."""
        means = [
            [result.evidence.by_fold(method, _MEASURE).mean() for method in self.methods]
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
            cells[method] = {
                r.plan.dataset: self._main_table(r).cells[method]["Macro AUC"] for r in self.results
            }
            rank = ranks.get(method, float("nan"))
            cells[method]["Average rank"] = Cell.single(rank, f"{rank:.2f}")
        captions = " ".join(result.plan.caption for result in self.results)
        cells = ranked(cells, cells.keys(), lower_is_better=["Average rank"])
        return ResultTable(
            "ranking",
            f"Ranks over {len(self.results)} datasets (macro AUC, %)",
            captions,
            cells,
            note=_NOTE,
        )

    def write(self, reports: Path) -> Path:
        """Write the table and the critical-difference diagram into a new folder in ``reports``."""
        digest = hashlib.sha256(
            " ".join(result.run_id for result in self.results).encode()
        ).hexdigest()[:8]
        folder = reports / f"ranking_{digest}"
        if not isinstance(self.ranks, str):
            from mil_bench.report.figures.ranking import critical_difference
            from mil_bench.report.figures.style import svg

            durable.replace(
                folder / "critical_difference.svg", svg(critical_difference(self.ranks)).decode()
            )
        return write_report(folder, folder.name, [self.sentence], [self.table])

    @staticmethod
    def _main_table(result: RunResult) -> ResultTable:
        return next(table for table in result.report_tables if table.name == "fine")
