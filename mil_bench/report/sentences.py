"""Verdicts and rankings in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench import registry
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.statistics import SIGNIFICANCE
from mil_bench.evaluation.verdicts import Evidence, Verdict, verdicts
from mil_bench.report.tables import p_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.statistics import Ranking

_FEW_DATASETS = 5


def amount(value: float, measure: Measure) -> str:
    """A difference as sentences print it: percentage points with one digit, else three digits."""
    return f"{100 * value:.1f}" if measure.metric.percent else f"{value:.3f}"


def p_text(p: float) -> str:
    """A p-value as sentences print it: ``p = .03``, ``p < .001``."""
    number = p_number(p)
    return f"p {number}" if number.startswith("<") else f"p = {number}"


def verdict_sentence(verdict: Verdict) -> str:
    """One pair of methods."""
    first, second, words = verdict.first, verdict.second, verdict.measure.words
    if verdict.reason:
        return f"{first} and {second} cannot be compared on {words}: {verdict.reason}."
    if verdict.difference == 0 and verdict.p == 1:
        return f"{first} and {second} have the same {words}."
    sign = verdict.measure.metric.sign
    ends = sorted((sign * verdict.low, sign * verdict.high))
    low, high = (amount(end, verdict.measure) for end in ends)
    by = amount(sign * verdict.difference, verdict.measure)
    points = " points" if verdict.measure.metric.percent else ""
    p = p_text(verdict.adjusted)
    if verdict.pairs > 1:
        p = f"Holm-adjusted for {verdict.pairs} pairs: {p}"
    numbers = f"(95 % interval {low} to {high}; {p})"
    direction = "higher" if sign > 0 else "lower"
    if verdict.is_significant:
        start = f"{first} is better than {second}: its {words} is {by}{points} {direction}"
    else:
        start = (
            f"The difference between {first} and {second} is not significant: the {words} of "
            f"{first} is {by}{points} {direction}"
        )
    return f"{start} {numbers}.{_limits(verdict)}"


def _limits(verdict: Verdict) -> str:
    """What a verdict does not cover."""
    notes = []
    if verdict.folds == 1:
        notes.append(
            f" Single split: the interval covers the sampling of test {verdict.unit}s only, not "
            "training-set variability."
        )
    elif verdict.no_bootstrap:
        notes.append(f" Only the t-test across folds was possible: {verdict.no_bootstrap}.")
    if not verdict.is_grouped:
        notes.append(" Patients are unknown: slides were resampled as if they were independent.")
    return "".join(notes)


def headline(pairs: Sequence[Verdict], evidence: Evidence, measure: Measure) -> str:
    """The method with the best mean, what it is better than, and what it cannot be compared with.

    Args:
        pairs: verdicts of all pairs on ``measure``.
        evidence: what a run measured.
        measure: what methods are compared on.
    """
    means = method_means(pairs, evidence, measure)
    if not means:
        reasons = "; ".join(dict.fromkeys(pair.reason for pair in pairs if pair.reason))
        return f"No method can be compared on {measure.words}{reasons and ': '}{reasons}."
    best = max(means, key=lambda method: means[method] * measure.metric.sign)
    others = {pair.other(best): pair for pair in pairs if best in (pair.first, pair.second)}
    worse = [other for other, pair in others.items() if pair.is_significant]
    level = [o for o, pair in others.items() if not (pair.is_significant or pair.reason)]
    value = f"{100 * means[best]:.1f} %" if measure.metric.percent else f"{means[best]:.3f}"
    start = f"{best} has the best {measure.words} ({value})"
    if worse and len(worse) == len(others):
        return f"{start} and is better than all other methods: {', '.join(worse)}."
    parts = [start]
    if worse:
        parts.append(f"it is better than {', '.join(worse)}")
    if level:
        differences = "difference" if len(level) == 1 else "differences"
        verb = "is" if len(level) == 1 else "are"
        parts.append(f"the {differences} from {', '.join(level)} {verb} not significant")
    return f"{'; '.join(parts)}.{_not_compared(others)}"


def method_means(
    pairs: Sequence[Verdict], evidence: Evidence, measure: Measure
) -> dict[str, float]:
    """Method to its mean over folds, for all methods that are compared and have one."""
    methods = dict.fromkeys(method for pair in pairs for method in (pair.first, pair.second))
    means = {method: float(evidence.by_fold(method, measure).mean()) for method in methods}
    return {method: mean for method, mean in means.items() if not np.isnan(mean)}


def _not_compared(others: Mapping[str, Verdict]) -> str:
    """Which methods cannot be compared with, and why, one sentence per reason."""
    names: dict[str, list[str]] = {}
    for other, verdict in others.items():
        if verdict.reason:
            names.setdefault(verdict.reason, []).append(other)
    return "".join(
        f" It cannot be compared with {', '.join(methods)}: {reason}."
        for reason, methods in names.items()
    )


def summary(evidence: Evidence, pairs: Sequence[Verdict], measure: Measure) -> list[str]:
    """What the run says, in two to five sentences.

    Args:
        evidence: what a run measured.
        pairs: verdicts of all pairs on ``measure``.
        measure: what methods are compared on.
    """
    if len(evidence.complete) < 2:
        return ["Nothing can be compared: fewer than two methods have all their trainings."]
    sentences = [headline(pairs, evidence, measure)]
    if not evidence.hierarchy.is_flat:
        coarse = Measure("coarse", measure.key)
        sentences.append(headline(verdicts(evidence, coarse), evidence, coarse))
    return [*sentences, *_against_yardsticks(pairs, [*evidence.trained])]


def _against_yardsticks(pairs: Sequence[Verdict], rows: Sequence[str]) -> list[str]:
    """Which methods are better than what uses no image."""
    sentences, yardsticks = [], registry.yardsticks.names()
    methods = [row for row in rows if row not in yardsticks]
    for yardstick in yardsticks:
        compared = [p for p in pairs if yardstick in (p.first, p.second) and not p.reason]
        better = [p.first for p in compared if p.is_significant and p.second == yardstick]
        level = [m for p in compared if (m := p.other(yardstick)) not in better]
        if level:
            sentences.append(
                f"Not significantly better than {yardstick}, which uses no image: "
                f"{', '.join(level)}."
            )
        elif len(compared) == len(methods):
            sentences.append(f"Every method is better than {yardstick}, which uses no image.")
        elif compared:  # others have no results, or none that can be compared
            sentences.append(f"Better than {yardstick}, which uses no image: {', '.join(better)}.")
    return sentences


def ranking_sentence(ranking: Ranking | str) -> str:
    """A ranking over datasets, or why there is none."""
    if isinstance(ranking, str):
        return f"Methods cannot be ranked over datasets: {ranking}."
    datasets = ranking.datasets
    test = f"Friedman's test over {datasets} datasets: {p_text(ranking.p)}."
    few = " With so few datasets only very large differences are significant."
    limits = few if datasets < _FEW_DATASETS else ""
    if ranking.p >= SIGNIFICANCE:
        methods = len(ranking.methods)
        return f"No significant difference between the {methods} methods. {test}{limits}"
    better = (
        f"is better than {', '.join(ranking.worse)}"
        if ranking.worse
        else "does not differ significantly from any other by Nemenyi's test"
    )
    start = f"{ranking.methods[0]} has the best average rank ({ranking.ranks[0]:.2f}) and {better}"
    return f"{start}. {test}{limits}"
