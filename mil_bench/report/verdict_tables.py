"""Verdicts as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.metrics import Measure
from mil_bench.report.sentences import best_of_means, method_means
from mil_bench.report.tables import ABSENT, Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.evaluation.verdicts import Evidence, Verdict

_PER_PAIR = (
    "Intervals are per pair, not adjusted; p-values are Holm-adjusted for all pairs, so an "
    "interval can exclude 0 although the difference is not significant (adjusted p < .05). Not "
    "significant does not mean equivalent."
)
_D = "d: mean difference divided by the standard deviation of the differences over folds."
_BOTH = (
    "Each pair is tested twice: by a corrected resampled t-test across folds (training-set "
    "variability) and by a paired bootstrap over {}s (test-set variability). The larger p-value is "
    f"shown, and an interval that covers both 95 % confidence intervals. {_PER_PAIR} {_D}"
)
_FOLDS_ONLY = (
    "The interval and the p-value are of a corrected resampled t-test across folds (training-set "
    f"variability) only: {{}}. {_PER_PAIR} {_D}"
)
_BOOTSTRAP_ONLY = (
    "Single split: the interval and the p-value are of a paired bootstrap over {}s (test-set "
    f"variability) only. {_PER_PAIR}"
)
_DIFFERENCE = "Difference [95 % interval]"
_ADJUSTED, _UNADJUSTED = "p, adjusted", "p, unadjusted"


def main_measure(evidence: Evidence) -> tuple[Measure, str]:
    """What methods are compared on, and why it is not the fine macro AUC if it is not.

    It depends on which classes the test folds have, never on the methods' values.
    """
    measure, other = Measure("fine", "macro_auc"), Measure("fine", "accuracy")
    for method in evidence.complete:
        if undefined := evidence.undefined(method, measure):
            reasons = "; ".join(undefined)
            return other, (
                f"Methods are compared on {other.words}, because {measure.words} is undefined in "
                f"{reasons}."
            )
    return measure, ""


def verdict_tables(
    evidence: Evidence, pairs: Sequence[Verdict], measure: Measure, caption: str
) -> list[ResultTable]:
    """The method with the best mean against each other one, and all pairs.

    Args:
        evidence: what a run measured.
        pairs: verdicts of all pairs on ``measure``.
        measure: what methods are compared on.
        caption: of the run.
    """
    if not pairs:
        return []
    note = _basis(evidence, pairs)
    unit = " (percentage points)" if measure.metric.percent else ""
    title = f"Comparisons on {measure.words}{unit}"
    means = method_means(pairs, evidence, measure)
    contestants = {m: mean for m, mean in means.items() if m in evidence.contestants}
    tables = []
    if contestants and len(means) > 1:
        best = best_of_means(contestants, measure)[0]
        others = {pair.other(best): pair for pair in pairs if best in (pair.first, pair.second)}
        order = sorted(others, key=lambda m: (m in means, means.get(m, np.nan)), reverse=True)
        chosen = [others[other] for other in order]
        name = f"{title}: {best} with each other method"
        tables.append(_table("verdicts", name, chosen, caption, note))
    return [*tables, _table("verdicts_all", f"{title}: all pairs", pairs, caption, note)]


def _basis(evidence: Evidence, pairs: Sequence[Verdict]) -> str:
    """Which tests intervals and p-values come from."""
    unit = evidence.bootstrap.unit
    if all(pair.reason for pair in pairs):
        return "No pair can be tested; the last column says why."
    if len(evidence.sizes) == 1:
        return _BOOTSTRAP_ONLY.format(unit)
    if evidence.bootstrap.few:
        return _FOLDS_ONLY.format(evidence.bootstrap.few)
    names: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        if pair.no_bootstrap or pair.no_t_test:
            test = "t-test across folds" if pair.no_bootstrap else f"bootstrap over {unit}s"
            why = f"Only the {test}", pair.no_bootstrap or pair.no_t_test
            names.setdefault(why, []).append(f"{pair.first} vs {pair.second}")
    exceptions = (
        f" {test} for {'; '.join(of_test)}: {reason}." for (test, reason), of_test in names.items()
    )
    return _BOTH.format(unit) + "".join(exceptions)


def _table(name: str, title: str, pairs: Sequence[Verdict], caption: str, note: str) -> ResultTable:
    cells = {f"{pair.first} vs {pair.second}": _row(pair) for pair in pairs}
    return ResultTable(name, title, caption, cells, note=note, row_heading="pair")


def _row(verdict: Verdict) -> dict[str, Cell | str]:
    scale, digits = (100, 1) if verdict.measure.metric.percent else (1, 3)
    interval = (scale * verdict.low, scale * verdict.high)
    word = f"{verdict.first} is better" if verdict.is_significant else "not significant"
    return {
        _DIFFERENCE: Cell(
            scale * verdict.difference,
            digits=digits,
            interval=interval,
            words=_difference(scale * verdict.difference, digits) if verdict.reason else "",
        ),
        _ADJUSTED: Cell.p_value(verdict.adjusted),
        _UNADJUSTED: Cell.p_value(verdict.p),
        "d": Cell.single(verdict.standardised, f"{verdict.standardised:.2f}"),
        "Verdict": verdict.reason or word,
    }


def _difference(value: float, digits: int) -> str:
    """A difference without an interval."""
    return ABSENT if np.isnan(value) else f"{value:.{digits}f}"
