"""Verdicts as tables, and in a few sentences for who reads nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench import registry
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.statistics import p_text
from mil_bench.evaluation.verdicts import Evidence, Verdict, headline, verdicts
from mil_bench.report.result_tables import ABSENT
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALONE = "The interval is of the pair alone, p is after Holm for all pairs."
_BASIS = (
    "Interval and p value hold against other training slides (corrected resampled t-test over folds) and other {}s "
    "(paired bootstrap), whichever says less. "
    + _ALONE
    + " d: difference in standard deviations over folds."
)
_BASIS_OF_FOLDS = (
    "Interval and p value hold against other training slides alone (corrected resampled t-test over folds): {}. "
    + _ALONE
    + " d: difference in standard deviations over folds."
)
_BASIS_OF_ONE = f"Interval and p value from a paired bootstrap over {{}}s. {_ALONE}"


def main_figure(evidence: Evidence) -> tuple[Measure, str]:
    """What methods are compared on, and why it is not the macro AUC of the fine level where it is not.

    It depends on which classes the test folds have, never on how the methods do.
    """
    figure = Measure("fine", "macro_auc")
    missing = next(
        (found for m in evidence.complete if (found := evidence.undefined(m, figure))), []
    )
    if not missing:
        return figure, ""
    other = Measure("fine", "accuracy")
    return (
        other,
        f"Methods are compared on {other.words}, since {figure.words} is undefined in {'; '.join(missing)}.",
    )


def summary(evidence: Evidence, found: Sequence[Verdict], figure: Measure) -> list[str]:
    """What the run says, in two to five sentences.

    Args:
        evidence: what a run measured.
        found: verdicts of all pairs on ``figure``.
        figure: what methods are compared on.
    """
    if len(evidence.complete) < 2:
        return ["Nothing can be compared: fewer than two methods have all their trainings."]
    sentences = [headline(found, evidence, figure)]
    if not evidence.hierarchy.is_flat:
        coarse = Measure("coarse", figure.key)
        sentences.append(headline(verdicts(evidence, coarse), evidence, coarse))
    return [*sentences, *_against_yardsticks(found, [*evidence.trained])]


def _against_yardsticks(found: Sequence[Verdict], rows: Sequence[str]) -> list[str]:
    sentences, yardsticks = [], registry.yardsticks.names()
    methods = [row for row in rows if row not in yardsticks]
    for yardstick in yardsticks:
        own = [v for v in found if yardstick in (v.first, v.second) and not v.reason]
        level = [
            v.second if v.first == yardstick else v.first
            for v in own
            if not (v.shown and v.second == yardstick)
        ]
        if level:
            sentences.append(
                f"Not shown to be better than {yardstick}, which sees no image: {', '.join(level)}."
            )
        elif len(own) == len(methods):
            sentences.append(f"Every method is better than {yardstick}, which sees no image.")
        elif own:  # others have no results, or none that can be compared
            sentences.append(
                f"Better than {yardstick}, which sees no image: {', '.join(v.first for v in own)}."
            )
    return sentences


def verdict_tables(
    evidence: Evidence, found: Sequence[Verdict], figure: Measure, caption: str
) -> list[ResultTable]:
    """The best-looking method against each other one, and all pairs.

    Args:
        evidence: what a run measured.
        found: verdicts of all pairs on ``figure``.
        figure: what methods are compared on.
        caption: of the run.
    """
    if not found:
        return []
    note = _basis(evidence, found)
    title = f"Verdicts on {figure.words}" + (
        " (percentage points)" if figure.metric.percent else ""
    )
    means = {m: evidence.by_fold(m, figure).mean() for v in found for m in (v.first, v.second)}
    means = {m: value for m, value in means.items() if not np.isnan(value)}
    tables = []
    if len(means) > 1:
        best = (max if figure.metric.higher_is_better else min)(means, key=means.__getitem__)
        own = {
            (v.second if v.first == best else v.first): v
            for v in found
            if best in (v.first, v.second)
        }
        own = {
            m: own[m] for m in sorted(own, key=lambda m: (m in means, means.get(m)), reverse=True)
        }
        rows = {f"{best} vs {other}": v for other, v in own.items()}
        tables.append(
            _table("verdicts", f"{title}: {best} against each other method", rows, caption, note)
        )
    rows = {f"{v.first} vs {v.second}": v for v in found}
    return [*tables, _table("verdicts_all", f"{title}: all pairs", rows, caption, note)]


def _basis(evidence: Evidence, found: Sequence[Verdict]) -> str:
    """What intervals and p values rest on; of pairs whose patients had no say it says so."""
    unit = evidence.bootstrap.unit
    if len(evidence.sizes) == 1:
        return _BASIS_OF_ONE.format(unit)
    pairs: dict[str, list[str]] = {}
    for verdict in found:
        if verdict.folds_alone:
            pairs.setdefault(verdict.folds_alone, []).append(f"{verdict.first} vs {verdict.second}")
    if evidence.bootstrap.few:
        return _BASIS_OF_FOLDS.format(evidence.bootstrap.few)
    alone = (f" Folds alone decide on {'; '.join(names)}: {why}." for why, names in pairs.items())
    return _BASIS.format(unit) + "".join(alone)


def _table(name: str, title: str, rows: dict[str, Verdict], caption: str, note: str) -> ResultTable:
    cells = {row: _row(verdict) for row, verdict in rows.items()}
    return ResultTable(name, title, caption, cells, note=note, row_heading="pair")


def _row(verdict: Verdict) -> dict[str, Cell | str]:
    if verdict.reason:
        return dict.fromkeys(("Difference [95 % interval]", "p", "d"), ABSENT) | {
            "Verdict": verdict.reason
        }
    scale, digits = (100, 1) if verdict.figure.metric.percent else (1, 3)
    interval = (scale * verdict.low, scale * verdict.high)
    word = f"{verdict.first} is better" if verdict.shown else "no difference shown"
    return {
        "Difference [95 % interval]": Cell(
            scale * verdict.difference, digits=digits, interval=interval
        ),
        "p": p_text(verdict.adjusted).removeprefix("p ").removeprefix("= "),
        "d": ABSENT if np.isnan(verdict.standardised) else Cell(verdict.standardised, digits=2),
        "Verdict": word,
    }
