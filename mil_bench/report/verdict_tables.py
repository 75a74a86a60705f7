"""Verdicts as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.metrics import Measure
from mil_bench.report.pair_sentences import margin_words
from mil_bench.report.sentences import best_of_means, method_means
from mil_bench.report.tables import ABSENT, Cell, ResultTable, pair_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.evaluation.verdicts import Evidence, Verdict

_RULE = (
    "The standard error of a difference adds the variance over test {unit}s (paired bootstrap) and "
    "that over trainings (folds)."
)
_ONE_SPLIT = (
    "Single split: the variance over test {unit}s (paired bootstrap), doubled, because no two "
    "trainings can be compared."
)
_FOLDS_ONLY = "By the corrected resampled t-test across folds only: {}."
_JOINT = (
    "P-values (adjusted by max-t) and intervals hold for {pairs}. 'is better': adjusted p < .05."
)
_STEPS = (
    "An interval can include 0 although p < .05: p-values are adjusted step by step, intervals are "
    "not."
)
_EQUIVALENT = (
    "'practically equivalent': the whole interval is closer to 0 than {margin}. 'undecided': "
    "neither is shown."
)
_CLASSES = (
    "Where folds lack a class, each class counts by its mean over the folds that have it; then "
    "classes are averaged."
)
_DIFFERENCE = "Difference [95 % interval]"
_ADJUSTED, _UNADJUSTED = "p, adjusted", "p, unadjusted"
VERDICT_TABLES = ("verdicts", "verdict_matrix", "verdicts_all", "deciding")
"""Names of the tables; the last is that of ``power_tables``."""
_SIGNS = {"better": (">", "<"), "equivalent": ("=", "="), "undecided": ("?", "?")}
"""Answer to the signs in the row of the first method and in that of the second."""
_LEGEND = (
    "> the method of the row is better, < it is worse, = practically equivalent (by less than "
    f"{{margin}}), ? undecided, {ABSENT} not compared. Methods are in the order of their means."
)


def main_measure(evidence: Evidence) -> tuple[Measure, str]:
    """What methods are compared on, and why it is not the chosen metric or not for all methods.

    It depends on which classes the test folds have, never on the methods' values.
    """
    measure, other = evidence.main, Measure("fine", "accuracy")
    having = evidence.having(measure)
    if evidence.lacks_classes(measure):
        reasons = "; ".join(evidence.undefined(having[0], measure))
        return other, (
            f"Methods are compared on {other.words}, because {measure.words} is undefined in "
            f"{reasons}."
        )
    without = [method for method in evidence.complete if method not in having]
    if without:
        return measure, f"Not compared, as they have no {measure.words}: {', '.join(without)}."
    return measure, ""


def verdict_tables(
    evidence: Evidence, pairs: Sequence[Verdict], measure: Measure, caption: str
) -> list[ResultTable]:
    """The method with the best mean against each other one, all pairs, and the matrix of answers.

    If pairs were asked for before, there is one table of these pairs in place of the first two.

    Args:
        evidence: what a run measured.
        pairs: its verdicts on ``measure``.
        measure: what methods are compared on.
        caption: of the run.
    """
    if not pairs:
        return []
    note = _basis(evidence, pairs)
    unit = " (percentage points)" if measure.metric.percent else ""
    title = f"Comparisons on {measure.words}{unit}"
    means = method_means(pairs, evidence, measure)
    sign = measure.metric.sign
    order = sorted(means, key=lambda m: sign * means[m], reverse=True)
    matrix = _matrix(pairs, order, f"Answers on {measure.words}", caption)
    if evidence.pairs is not None:
        name = f"{title}: the pairs that were asked for"
        return [_table("verdicts", name, pairs, caption, note), matrix]
    contestants = {m: mean for m, mean in means.items() if m in evidence.contestants}
    tables = []
    if contestants and len(means) > 1:
        best = best_of_means(contestants, measure)[0]
        others = {pair.other(best): pair for pair in pairs if best in (pair.first, pair.second)}
        ordered = [*filter(others.get, order), *(m for m in others if m not in means)]
        chosen = [others[other] for other in ordered]
        name = f"{title}: {best} with each other method"
        tables.append(_table("verdicts", name, chosen, caption, note))
    every = _table("verdicts_all", f"{title}: all pairs", pairs, caption, note)
    return [*tables, matrix, every]


def _basis(evidence: Evidence, pairs: Sequence[Verdict]) -> str:
    """What intervals, p-values and answers are."""
    tested = [pair for pair in pairs if not pair.reason]
    if not tested:
        return "No pair can be tested; the last column says why."
    some, unit = tested[0], evidence.bootstrap.unit
    if some.folds == 1:
        rule = _ONE_SPLIT.format(unit=unit)
    elif some.no_bootstrap:
        rule = _FOLDS_ONLY.format(some.no_bootstrap)
    else:
        rule = _RULE.format(unit=unit)
    if evidence.pairs is None:
        which = f"all {some.pairs} pairs, which were compared at once"
    else:
        which = (
            f"the {some.pairs} pairs that were asked for, which were compared at once; no other "
            "pair was compared"
        )
    at_once = which if some.pairs > 1 else "this pair alone"
    margin = margin_words(some.margin, some.measure)
    parts = [
        rule,
        _JOINT.format(pairs=at_once),
        _STEPS if some.pairs > 1 else "",
        _EQUIVALENT.format(margin=margin),
        _CLASSES if _lacks_a_class(evidence, some) else "",
    ]
    return " ".join(filter(None, parts))


def _lacks_a_class(evidence: Evidence, verdict: Verdict) -> bool:
    return bool(evidence.undefined(verdict.first, verdict.measure))


def _matrix(
    pairs: Sequence[Verdict], order: Sequence[str], title: str, caption: str
) -> ResultTable:
    """Methods by methods, a sign per answer."""
    signs: dict[tuple[str, str], str] = {}
    for pair in pairs:
        of_first, of_second = _SIGNS[pair.answer]
        signs[pair.first, pair.second], signs[pair.second, pair.first] = of_first, of_second
    cells = {
        row: {column: "" if row == column else signs.get((row, column), ABSENT) for column in order}
        for row in order
    }
    note = _LEGEND.format(margin=margin_words(pairs[0].margin, pairs[0].measure))
    return ResultTable(
        "verdict_matrix",
        title,
        caption,
        cells,
        note=note,
        method_columns=tuple(order),
        is_signs=True,
    )


def _table(name: str, title: str, pairs: Sequence[Verdict], caption: str, note: str) -> ResultTable:
    cells = {pair_row(pair.first, pair.second): _row(pair) for pair in pairs}
    return ResultTable(name, title, caption, cells, note=note, row_heading="pair")


def _row(verdict: Verdict) -> dict[str, Cell | str]:
    scale, digits = (100, 1) if verdict.measure.metric.percent else (1, 3)
    interval = (scale * verdict.low, scale * verdict.high)
    difference = scale * verdict.difference
    return {
        _DIFFERENCE: Cell(
            difference,
            digits=digits,
            interval=interval,
            words=_number(difference, digits) if verdict.reason else "",
        ),
        _ADJUSTED: Cell.p_value(verdict.adjusted),
        _UNADJUSTED: Cell.p_value(verdict.p),
        "Verdict": verdict.reason or _answer(verdict),
    }


def _answer(verdict: Verdict) -> str:
    if verdict.answer == "better":
        margin = margin_words(verdict.margin, verdict.measure)
        small = f", by less than {margin}" if verdict.is_small else ""
        return f"{verdict.first} is better{small}"
    return {"equivalent": "practically equivalent", "undecided": "undecided"}[verdict.answer]


def _number(value: float, digits: int) -> str:
    """A number without an interval."""
    return ABSENT if np.isnan(value) else f"{value:.{digits}f}"
