"""Methods on the features of several encoders: one run per encoder, on the same folds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import durable
from mil_bench.errors import InputError
from mil_bench.evaluation.interaction import (
    FEWEST_RANKED,
    Contrast,
    RankAgreement,
    contrasts,
    rank_agreement,
)
from mil_bench.report.encoder_sentences import (
    agreement_note,
    best_sentences,
    interaction_sentences,
)
from mil_bench.report.render import write_report
from mil_bench.report.tables import Cell, ResultTable, ranked
from mil_bench.report.verdict_tables import main_measure
from mil_bench.results import Results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Evidence
    from mil_bench.report.figures.gallery import Gallery
    from mil_bench.runs.result import RunResult

_WHAT = "comparing encoders"
_MOST_SHOWN = 30  # contrasts in the report


@dataclass(frozen=True, eq=False)
class EncoderGrid:
    """Runs of one dataset and split that differ in the encoder of the features.

    Args:
        results: one run per encoder, at least two.

    Raises:
        InputError: the runs differ in dataset or split, or two have the same features.
    """

    results: Sequence[RunResult]

    def __post_init__(self) -> None:
        plans = [result.plan for result in self.results]
        problems = []
        if len({plan.dataset for plan in plans}) > 1:
            problems.append(f"several datasets: {', '.join(plan.dataset for plan in plans)}")
        if len({plan.combine for plan in plans}) > 1:
            problems.append("slides of patients are combined in several ways")
        if len({plan.splits.digest for plan in plans}) > 1:
            problems.append("the folds differ: run all encoders in one command (--encoder A B C)")
        if len(self.by_encoder) < len(plans):
            names = ", ".join(_name(result) for result in self.results)
            problems.append(f"one encoder has several runs: {names}")
        if len(plans) < 2:
            problems.append("one run, at least 2 are needed")
        if problems:
            raise InputError(_WHAT, problems, "Name one run per encoder on the same folds.")

    @cached_property
    def by_encoder(self) -> Mapping[str, RunResult]:
        """Encoder to its run."""
        return {_name(result): result for result in self.results}

    @property
    def evidences(self) -> dict[str, Evidence]:
        """Encoder to what was measured with it."""
        return {encoder: result.evidence for encoder, result in self.by_encoder.items()}

    @cached_property
    def methods(self) -> list[str]:
        """Methods with all their trainings with every encoder; yardsticks see no features."""
        complete = [set(result.evidence.contestants) for result in self.results]
        names = self.results[0].plan.methods
        return [name for name in names if all(name in methods for methods in complete)]

    @cached_property
    def measure(self) -> Measure:
        """What methods are compared on: that of the first run, as the test folds are the same."""
        return main_measure(self.results[0].evidence)[0]

    @cached_property
    def means(self) -> dict[str, list[float]]:
        """Encoder to the mean of every method over trainings."""
        return {
            encoder: [float(evidence.contributions(m, self.measure).mean()) for m in self.methods]
            for encoder, evidence in self.evidences.items()
        }

    @cached_property
    def contrasts(self) -> list[Contrast] | str:
        """How the differences of methods change with the encoder, or why that is not tested."""
        return contrasts(self.evidences, self.methods, self.measure)

    @cached_property
    def agreements(self) -> list[RankAgreement]:
        """How alike the encoders rank the methods; [] if there are too few methods."""
        return rank_agreement(self.means) if len(self.methods) >= FEWEST_RANKED else []

    @cached_property
    def sentences(self) -> list[str]:
        """What may be said: the best of each encoder, and whether the ranking depends on it."""
        verdicts = {encoder: result.verdicts for encoder, result in self.by_encoder.items()}
        return [
            *best_sentences(self.means, self.methods, verdicts),
            *interaction_sentences(self.contrasts, verdicts),
        ]

    @property
    def caption(self) -> str:
        """Of the first run, with the features of all."""
        others = [
            f"{encoder}: {result.plan.dataset_caption}"
            for encoder, result in self.by_encoder.items()
        ]
        return f"{' '.join(f'{other}.' for other in others)} {self.results[0].caption}"

    @cached_property
    def tables(self) -> list[ResultTable]:
        """Methods by encoders, the rank correlations, and the contrasts."""
        return [self._values, *self._agreement, *self._changes]

    @property
    def _values(self) -> ResultTable:
        scale, digits = (100, 1) if self.measure.metric.percent else (1, 3)
        cells: dict[str, dict[str, Cell | str]] = {}
        for row, method in enumerate(self.methods):
            cells[method] = {
                encoder: Cell.over(
                    {
                        training: scale * values.values[self.measure]
                        for training, values in evidence.measured[method].items()
                    },
                    digits,
                )
                for encoder, evidence in self.evidences.items()
            }
            ranks = [_rank(means, row) for means in self.means.values()]
            mean = float(np.mean(ranks))
            cells[method]["Mean rank"] = Cell.single(mean, f"{mean:.2f}")
        unit = " (%)" if self.measure.metric.percent else ""
        title = self.measure.metric.heading
        # Which method has the best mean rank depends on which encoders were tried.
        lower = [*self.by_encoder] if self.measure.metric.sign < 0 else []
        marked = ranked(cells, cells, lower, unranked=["Mean rank"])
        return ResultTable(
            "encoders",
            f"Methods by encoders: {title}{unit}",
            self.caption,
            marked,
            note="Mean ± standard deviation over trainings; best and second best method of each "
            "encoder. Mean rank: over the encoders, 1 is best; it says nothing about others.",
        )

    @property
    def _agreement(self) -> list[ResultTable]:
        if not self.agreements:
            return []
        cells: dict[str, dict[str, Cell | str]] = {
            f"{a.one} and {a.other}": {
                "Kendall's tau-b": Cell.single(a.kendall, f"{a.kendall:.2f}"),
                "Spearman's rho": Cell.single(a.spearman, f"{a.spearman:.2f}"),
            }
            for a in self.agreements
        }
        return [
            ResultTable(
                "encoder_ranks",
                "How alike encoders rank the methods",
                self.caption,
                cells,
                note=agreement_note(len(self.methods)),
                row_heading="encoders",
            )
        ]

    @property
    def _changes(self) -> list[ResultTable]:
        if isinstance(self.contrasts, str):
            return []
        scale, unit = (100, " (points)") if self.measure.metric.percent else (1, "")
        digits = 1 if self.measure.metric.percent else 3
        shown = sorted(self.contrasts, key=lambda c: (c.adjusted, -abs(c.change)))[:_MOST_SHOWN]
        cells: dict[str, dict[str, Cell | str]] = {
            f"{c.first} - {c.second}: {c.one}, {c.other}": {
                "First encoder": Cell(scale * c.differences[0], digits=digits),
                "Second encoder": Cell(scale * c.differences[1], digits=digits),
                "Change [95 % interval]": Cell(
                    scale * c.change,
                    digits=digits,
                    interval=(scale * c.low, scale * c.high),
                ),
                "p, adjusted": Cell.p_value(c.adjusted),
            }
            for c in shown
        }
        rest = len(self.contrasts) - len(shown)
        return [
            ResultTable(
                "encoder_changes",
                f"How differences between methods change with the encoder{unit}",
                self.caption,
                cells,
                note="Difference of two methods with either encoder, and how much it changes. "
                f"P-values (adjusted by max-t) and intervals hold for all {len(self.contrasts)} "
                f"changes at once.{f' The {rest} with the largest p are left out.' * (rest > 0)}",
                row_heading="methods: encoders",
            )
        ]

    @property
    def run_id(self) -> str:
        """Name of the folder of the report."""
        asked = {name: None for result in self.results if (name := result.asked.name)}
        content = " ".join([*sorted(result.run_id for result in self.results), *asked])
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        return f"{self.results[0].plan.dataset}_encoders_{digest}"

    @cached_property
    def figures(self) -> Gallery:
        """The picture of methods over encoders."""
        from mil_bench.report.figures.encoders import methods_over_encoders
        from mil_bench.report.figures.gallery import Gallery, Picture

        title = f"{self.measure.metric.heading} of each method with each encoder"
        caption = (
            "Mean ± standard deviation over trainings. Lines that cross are rankings that differ; "
            "whether they differ by more than chance is in the sentences above."
        )
        table = self._values
        return Gallery(
            {
                "encoders": Picture(
                    title, caption, lambda: methods_over_encoders(table, list(self.by_encoder))
                )
            }
        )

    def write(self, reports: Path) -> Path:
        """Write tables, picture and page into a folder of ``reports``; returns the page's path."""
        from mil_bench.report.render.page import encoder_page

        folder, missing = reports / self.run_id, self.figures.failures
        write_report(folder, self.run_id, [*self.sentences, *missing.values()], self.tables)
        for name in self.figures.keys() - missing.keys():
            durable.replace(folder / f"{name}.svg", self.figures.svg(name))
        usual = Results()
        runs = {
            encoder: usual.report(result.run_id, result.asked.name).relative_to(usual.reports)
            for encoder, result in self.by_encoder.items()
        }
        facts = [
            f"{encoder}: {fact}"
            for encoder, result in self.by_encoder.items()
            for fact in result.facts
        ]
        dataset = self.results[0].plan.dataset
        title = f"{dataset}: methods with {len(runs)} encoders"
        pages = {encoder: path.as_posix() for encoder, path in runs.items()}
        page = encoder_page(title, self.sentences, facts, self.tables, self.figures, pages)
        durable.replace(folder / "report.html", page)
        return folder / "report.html"


def encoder_grids(results: Sequence[RunResult]) -> list[EncoderGrid]:
    """The grids that runs contain: those of one dataset and split with several encoders."""
    alike: dict[tuple[str, ...], list[RunResult]] = {}
    for result in results:
        plan = result.plan
        if plan.encoder:
            key = plan.dataset, plan.splits.digest, plan.combine
            alike.setdefault(key, []).append(result)
    return [
        EncoderGrid(group)
        for group in alike.values()
        if len({_name(result) for result in group}) == len(group) > 1
    ]


def _name(result: RunResult) -> str:
    return result.plan.encoder or "encoder not named"


def _rank(means: Sequence[float], row: int) -> float:
    """Rank of a method among all, 1 for the highest mean; ties share the mean of their ranks."""
    values = np.round(np.array(means), 12)
    return float(1 + (values > values[row]).sum() + ((values == values[row]).sum() - 1) / 2)
