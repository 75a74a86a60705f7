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
_MANY = 6  # names of methods in a sentence
_ROUNDING = 1e-12
"""Means that differ by less are equal."""


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
    if verdict.reason and np.isnan(verdict.difference):
        return f"{first} and {second} cannot be compared on {words}: {verdict.reason}."
    sign = verdict.measure.metric.sign
    by = amount(sign * verdict.difference, verdict.measure)
    points = " points" if verdict.measure.metric.percent else ""
    direction = "higher" if sign > 0 else "lower"
    if verdict.reason:
        return (
            f"The {words} of {first} is {by}{points} {direction} than that of {second} in every "
            f"fold, but this cannot be tested: {verdict.reason}."
        )
    if verdict.difference == verdict.low == verdict.high == 0 and verdict.p == 1:
        return f"{first} and {second} have the same {words}{_in_folds(verdict)}."
    ends = sorted((sign * verdict.low, sign * verdict.high))
    low, high = (amount(end, verdict.measure) for end in ends)
    p = p_text(verdict.adjusted)
    if verdict.pairs > 1:
        p = f"Holm-adjusted for {verdict.pairs} pairs: {p}"
    numbers = f"(95 % interval {low} to {high}; {p})"
    if verdict.is_significant:
        start = f"{first} is better than {second}: its {words} is {by}{points} {direction}"
    elif by == amount(0, verdict.measure):
        start = (
            f"The difference between {first} and {second} is not significant: their {words} "
            f"differs by less than {_smallest(verdict.measure)}{points}"
        )
    else:
        start = (
            f"The difference between {first} and {second} is not significant: the {words} of "
            f"{first} is {by}{points} {direction}"
        )
    return f"{start} {numbers}.{_limits(verdict)}"


def _in_folds(verdict: Verdict) -> str:
    return " in every fold" if verdict.folds > 1 else ""


def _smallest(measure: Measure) -> str:
    """Below this, a difference is printed as 0."""
    return "0.1" if measure.metric.percent else "0.001"


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
    elif verdict.no_t_test:
        notes.append(f" Only the bootstrap over {verdict.unit}s was possible: {verdict.no_t_test}.")
    if not verdict.is_grouped:
        notes.append(" Patients are unknown: slides were resampled as if they were independent.")
    return "".join(notes)


def headline(pairs: Sequence[Verdict], evidence: Evidence, measure: Measure) -> str:
    """The method with the best mean, what it is better than, and what it cannot be compared with.

    Yardsticks have sentences of their own.

    Args:
        pairs: verdicts of all pairs on ``measure``.
        evidence: what a run measured.
        measure: what methods are compared on.
    """
    contestants = evidence.contestants
    means = {m: v for m, v in method_means(pairs, evidence, measure).items() if m in contestants}
    if not means:
        reasons = "; ".join(dict.fromkeys(pair.reason for pair in pairs if pair.reason))
        return f"No method can be compared on {measure.words}{reasons and ': '}{reasons}."
    leaders = best_of_means(means, measure)
    best = leaders[0]
    value = f"{100 * means[best]:.1f} %" if measure.metric.percent else f"{means[best]:.3f}"
    others = {
        other: of_leaders
        for other in means
        if other not in leaders and (of_leaders := _against(leaders, other, pairs))
    }
    if len(means) == 1:
        return f"{best} has a {measure.words} of {value}; there is no other method to compare with."
    names = " and ".join(leaders)
    if len(leaders) > 1:
        start = f"{names} have the same{', best' * bool(others)} {measure.words} ({value})"
    else:
        start = f"{best} has the best {measure.words} ({value})"
    they, verb = ("they", "are") if len(leaders) > 1 else ("it", "is")
    worse = [other for other, of in others.items() if all(pair.is_significant for pair in of)]
    untested = {o: pair for o, of in others.items() for pair in of if pair.reason}
    level = [other for other in others if other not in worse and other not in untested]
    if worse and len(worse) == len(others):
        return f"{start} and {verb} better than all other methods: {', '.join(worse)}."
    parts = [start]
    if worse:
        parts.append(f"{they} {verb} better than {', '.join(worse)}")
    if level:
        differences, be = ("difference", "is") if len(level) == 1 else ("differences", "are")
        named = _named(level, len(others), "other methods")
        parts.append(f"the {differences} from {named} {be} not significant")
    return f"{'; '.join(parts)}.{_not_compared(untested, they)}"


def _named(names: Sequence[str], everyone: int, words: str) -> str:
    """The names; if they are those of everyone and many, only their number."""
    return f"all {everyone} {words}" if len(names) == everyone > _MANY else ", ".join(names)


def best_of_means(means: Mapping[str, float], measure: Measure) -> list[str]:
    """The methods with the best mean; several if they are equal but for rounding."""
    sign = measure.metric.sign
    best = max(sign * mean for mean in means.values())
    return [method for method, mean in means.items() if best - sign * mean < _ROUNDING]


def _against(leaders: Sequence[str], other: str, pairs: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts on a method and each of those with the best mean."""
    return [p for p in pairs for leader in leaders if {p.first, p.second} == {leader, other}]


def method_means(
    pairs: Sequence[Verdict], evidence: Evidence, measure: Measure
) -> dict[str, float]:
    """Method to its mean over folds, for all methods that are compared and have one."""
    methods = dict.fromkeys(method for pair in pairs for method in (pair.first, pair.second))
    means = {method: float(evidence.by_fold(method, measure).mean()) for method in methods}
    return {method: mean for method, mean in means.items() if not np.isnan(mean)}


def _not_compared(untested: Mapping[str, Verdict], they: str) -> str:
    """Which methods cannot be compared with, and why, one sentence per reason."""
    names: dict[str, list[str]] = {}
    for other, verdict in untested.items():
        names.setdefault(verdict.reason, []).append(other)
    return "".join(
        f" {they.capitalize()} cannot be compared with {', '.join(methods)}: {reason}."
        if np.isnan(untested[methods[0]].difference)
        else f" The difference from {', '.join(methods)} cannot be tested: {reason}."
        for reason, methods in names.items()
    )


def summary(evidence: Evidence, pairs: Sequence[Verdict], measure: Measure) -> list[str]:
    """What the run says, in two to five sentences; if there are two levels, each names its level.

    Args:
        evidence: what a run measured.
        pairs: verdicts of all pairs on ``measure``.
        measure: what methods are compared on.
    """
    if len(evidence.complete) < 2:
        return ["Nothing can be compared: fewer than two methods have all their trainings."]
    first, *more = headline(pairs, evidence, measure), *_yardstick_lines(pairs, evidence, measure)
    if evidence.hierarchy.is_flat:
        return [first, *more]
    coarse = Measure("coarse", measure.key)
    return [
        f"Fine level: {first}",
        f"Coarse level: {headline(verdicts(evidence, coarse), evidence, coarse)}",
        *(f"Fine level: {sentence}" for sentence in more),
    ]


def _yardstick_lines(pairs: Sequence[Verdict], evidence: Evidence, measure: Measure) -> list[str]:
    """Which methods are better than what uses no image."""
    sentences, yardsticks = [], registry.yardsticks.names()
    methods = [row for row in evidence.trained if row not in yardsticks]
    for yardstick in yardsticks:
        with_it = {m: p for m in methods for p in pairs if {p.first, p.second} == {m, yardstick}}
        compared = [p for p in with_it.values() if not p.reason]
        untested = {m: p for m, p in with_it.items() if p.reason}
        better = [p.first for p in compared if p.is_significant and p.second == yardstick]
        level = [m for p in compared if (m := p.other(yardstick)) not in better]
        ahead = [m for p in compared if p.first == yardstick and p.difference and (m := p.second)]
        if level:
            value = f" It is ahead of {', '.join(ahead)} in {measure.words}." if ahead else ""
            sentences.append(
                f"Not significantly better than {yardstick}, which uses no image: "
                f"{_named(level, len(methods), 'methods')}.{value}"
            )
        elif len(compared) == len(methods):
            sentences.append(f"Every method is better than {yardstick}, which uses no image.")
        elif compared:  # others have no results, or none that can be compared
            sentences.append(f"Better than {yardstick}, which uses no image: {', '.join(better)}.")
        for reason in dict.fromkeys(pair.reason for pair in untested.values()):
            names = ", ".join(m for m, pair in untested.items() if pair.reason == reason)
            sentences.append(
                f"Not tested against {yardstick}, which uses no image: {names} ({reason})."
            )
    return sentences


def ranking_sentence(ranking: Ranking | str) -> str:
    """A ranking over datasets, or why there is none."""
    if isinstance(ranking, str):
        return f"Methods cannot be ranked over datasets: {ranking}."
    datasets, best = ranking.datasets, ranking.ranks[0]
    test = f"Friedman's test over {datasets} datasets: {p_text(ranking.p)}."
    few = " With so few datasets only very large differences are significant."
    limits = few if datasets < _FEW_DATASETS else ""
    if ranking.p >= SIGNIFICANCE:
        methods = len(ranking.methods)
        return f"No significant difference between the {methods} methods. {test}{limits}"
    first = [m for m, rank in zip(ranking.methods, ranking.ranks, strict=True) if rank == best]
    have, be, do = ("has", "is", "does") if len(first) == 1 else ("have", "are", "do")
    better = (
        f"{be} better than {', '.join(ranking.worse)}"
        if ranking.worse
        else f"{do} not differ significantly from any other by Nemenyi's test"
    )
    start = f"{' and '.join(first)} {have} the best average rank ({best:.2f}) and {better}"
    return f"{start}. {test}{limits}"
