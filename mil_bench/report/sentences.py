"""The verdicts of a run and rankings in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.statistics import SIGNIFICANCE
from mil_bench.evaluation.verdicts import Evidence, Verdict, verdicts
from mil_bench.report.pair_sentences import p_text
from mil_bench.report.result_tables import MAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.statistics import Ranking

_FEW_DATASETS = 5
_MANY = 6  # names of methods in a sentence
_ROUNDING = 1e-12
"""Means that differ by less are equal."""


def headline(pairs: Sequence[Verdict], evidence: Evidence, measure: Measure) -> str:
    """The method with the best mean, what it is better than, and what it cannot be compared with.

    Yardsticks have sentences of their own.

    Args:
        pairs: verdicts of all pairs on ``measure``.
        evidence: what a run measured.
        measure: what methods are compared on.
    """
    if evidence.pairs is not None:
        return _asked(pairs, measure)
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
    untested = {o: pair for o, of in others.items() for pair in of if pair.reason}
    worse, equal = (
        [other for other, of in others.items() if all(pair.answer == answer for pair in of)]
        for answer in ("better", "equivalent")
    )
    undecided = [other for other in others if other not in (*worse, *equal, *untested)]
    if worse and len(worse) == len(others):
        if len(worse) > _MANY:
            return f"{start} and {verb} better than all {len(worse)} other methods."
        return f"{start} and {verb} better than all other methods: {', '.join(worse)}."
    parts = [start]
    if worse:
        parts.append(f"{they} {verb} better than {_named(worse, len(others), 'other methods')}")
    if equal:
        named = _named(equal, len(others), "other methods")
        parts.append(f"{they} {verb} practically equivalent to {named}")
    if undecided:
        named = _named(undecided, len(others), "other methods")
        parts.append(f"whether {they} {verb} better than {named} is undecided")
    return f"{'; '.join(parts)}.{_not_compared(untested, they)}"


def _asked(pairs: Sequence[Verdict], measure: Measure) -> str:
    """The answers for the pairs that were asked for before."""
    if not pairs:
        return f"None of the pairs that were asked for can be compared on {measure.words}."
    answers = {
        "better": "{} is better than {}",
        "equivalent": "{} and {} are practically equivalent",
        "undecided": "undecided between {} and {}",
    }
    said = [
        f"{pair.first} and {pair.second} cannot be compared ({pair.reason})"
        if pair.reason
        else answers[pair.answer].format(pair.first, pair.second)
        for pair in pairs
    ]
    asked = "the pair that was" if len(pairs) == 1 else f"the {len(pairs)} pairs that were"
    return f"{measure.words[0].upper()}{measure.words[1:]}, {asked} asked for: {'; '.join(said)}."


def _named(names: Sequence[str], everyone: int, words: str) -> str:
    """The names; if they are many, only their number."""
    if len(names) <= _MANY:
        return ", ".join(names)
    return f"{'all' if len(names) == everyone else f'{len(names)} of the'} {everyone} {words}"


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
    means = {method: float(evidence.contributions(method, measure).mean()) for method in methods}
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
    # A question asked before is about its own pairs only.
    more = []
    if evidence.pairs is None:
        more = [*_other_leaders(pairs, evidence, measure), *_yardstick_lines(pairs, evidence)]
    first = headline(pairs, evidence, measure)
    if evidence.hierarchy.is_flat or measure.level != "fine":
        return [first, *more]
    if "coarse" not in measure.metric.levels:
        return [f"Fine level: {sentence}" for sentence in (first, *more)]
    coarse = Measure("coarse", measure.key)
    return [
        f"Fine level: {first}",
        f"Coarse level: {headline(verdicts(evidence, coarse), evidence, coarse)}",
        *(f"Fine level: {sentence}" for sentence in more),
    ]


def _other_leaders(pairs: Sequence[Verdict], evidence: Evidence, measure: Measure) -> list[str]:
    """Which other methods have the best mean by other main metrics."""
    level = "fine" if measure.level == "slide" else measure.level
    best: dict[str, list[str]] = {}
    for key in (key for key in MAIN if key != measure.key):
        other = Measure(level, key)
        means = {
            method: mean
            for method in evidence.contestants
            if not np.isnan(mean := float(evidence.contributions(method, other).mean()))
        }
        for method in best_of_means(means, other) if means else []:
            best.setdefault(method, []).append(other.words)
    compared = method_means(pairs, evidence, measure)
    first = {method: mean for method, mean in compared.items() if method in evidence.contestants}
    leaders = best_of_means(first, measure) if first else list(best)
    named = [f"{m} ({', '.join(words)})" for m, words in best.items() if m not in leaders]
    if not named:
        return []
    return [
        f"By other metrics another method has the best mean: {'; '.join(named)}. Verdicts are "
        f"about {measure.words} alone."
    ]


def _yardstick_lines(pairs: Sequence[Verdict], evidence: Evidence) -> list[str]:
    """Which methods are better than what uses no image."""
    sentences, yardsticks = [], evidence.yardsticks
    methods = [row for row in evidence.trained if row not in yardsticks]
    for yardstick in yardsticks:
        with_it = {m: p for m in methods for p in pairs if {p.first, p.second} == {m, yardstick}}
        compared = [p for p in with_it.values() if not p.reason]
        untested = {m: p for m, p in with_it.items() if p.reason}
        which = f"{yardstick}, which uses no image"
        answers = {
            "Worse than": [p for p in compared if p.answer == "better" and p.first == yardstick],
            "Practically equivalent to": [p for p in compared if p.answer == "equivalent"],
            "Undecided whether better than": [p for p in compared if p.answer == "undecided"],
        }
        for start, of_answer in answers.items():
            if of_answer:
                names = [pair.other(yardstick) for pair in of_answer]
                named = _named(names, len(methods), "methods")
                sentences.append(f"{start} {which}: {named}.{_ahead(of_answer, yardstick)}")
        better = [p.first for p in compared if p.answer == "better" and p.second == yardstick]
        if better and len(better) == len(methods):
            sentences.append(f"Every method is better than {which}.")
        elif better and len(better) == len(compared):  # others have no results to compare
            sentences.append(f"Better than {which}: {', '.join(better)}.")
        for reason in dict.fromkeys(pair.reason for pair in untested.values()):
            named = ", ".join(m for m, pair in untested.items() if pair.reason == reason)
            sentences.append(f"Not tested against {which}: {named} ({reason}).")
    return sentences


def _ahead(pairs: Sequence[Verdict], yardstick: str) -> str:
    """Whom the yardstick is ahead of although it is not better; "" for nobody."""
    behind = [
        pair.second
        for pair in pairs
        if pair.first == yardstick and pair.difference and pair.answer != "better"
    ]
    words = pairs[0].measure.words
    return f" It is ahead of {', '.join(behind)} in {words}." if behind else ""


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
