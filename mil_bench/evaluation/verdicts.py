"""Which method is better, in words and with every number behind them; or why that cannot be said.

Two methods are compared by their differences over folds, seeds averaged within a fold first. A
difference counts only if it holds against both things that could have made it:

- other training slides: the corrected resampled t-test over folds, with the test and training sizes
  of the protocol;
- other patients: the paired bootstrap over patients of the same difference.

Either alone finds too many differences where folds repeat patients (``python -m
mil_bench.benchmarks.statistics`` shows by how much), so the larger of the two p values stands, and
an interval that covers both. A single split has no
folds: there the patients alone decide, and the sentence says so. Every method is compared with
every other, yardsticks included, and p values are adjusted for all these pairs: comparing only with
the best would choose the pairs by their outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.bootstrap import Bootstrap, Interval, bootstrap, p_value
from mil_bench.evaluation.metrics import Measure, MetricValues, measure
from mil_bench.evaluation.statistics import SIGNIFICANCE, corrected_t_test, holm, p_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.hierarchy import LabelHierarchy

FEWEST_FOLDS = 3
"""Folds below which their spread says nothing; a single one is judged by its patients."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run measured.

    Args:
        trained: method to its trained folds, yardsticks included.
        hierarchy: the classes.
        sizes: number of training and of test slides of each fold.
        seeds: number of training seeds.
        group_name: what a group is ("patient"), "" where groups are unknown.
        ordered: whether the order of the classes means something.
        replicates: bootstrap draws.
    """

    trained: Mapping[str, Sequence[TrainedFold]]
    hierarchy: LabelHierarchy
    sizes: tuple[tuple[int, int], ...]
    seeds: int
    group_name: str
    ordered: bool = False
    replicates: int = 10_000

    @property
    def complete(self) -> list[str]:
        """Methods with all their trainings; others are not compared."""
        return [
            name for name, done in self.trained.items() if len(done) == len(self.sizes) * self.seeds
        ]

    @cached_property
    def measured(self) -> Mapping[str, Mapping[tuple[int, int], MetricValues]]:
        """Figures of every training: method to (seed, fold) to figures."""
        return {
            name: {
                (t.seed, t.fold): measure(t.predictions, self.hierarchy, self.ordered) for t in done
            }
            for name, done in self.trained.items()
        }

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Complete methods on drawn patients."""
        predictions = {name: [t.predictions for t in self.trained[name]] for name in self.complete}
        return bootstrap(
            predictions, self.hierarchy, self.group_name, self.ordered, self.replicates
        )

    @property
    def overlap(self) -> float:
        """Number of test slides by number of training slides, mean over folds."""
        return float(np.mean([test / train for train, test in self.sizes]))

    def by_fold(self, method: str, figure: Measure) -> np.ndarray:
        """A figure's mean over seeds in each fold ``[J]``, not a number where undefined."""
        values = [[] for _ in self.sizes]
        for (_, fold), found in self.measured[method].items():
            values[fold].append(found.values[figure])
        return np.array([np.mean(each) for each in values])

    def undefined(self, method: str, figure: Measure) -> list[str]:
        """Why a figure is undefined, one entry a fold."""
        found = {
            fold: m.reasons[figure]
            for (_, fold), m in self.measured[method].items()
            if figure in m.reasons
        }
        return [f"fold {fold}: {reason}" for fold, reason in sorted(found.items())]


@dataclass(frozen=True)
class Verdict:
    """Two methods compared on one figure.

    Args:
        figure: what was compared.
        first: the method whose figure looks better.
        second: the other.
        difference: figure of the first minus that of the second, a mean over folds.
        low: lower end of the 95 % interval of the difference.
        high: upper end.
        standardised: difference in standard deviations over folds; not a number for a single fold.
        p: two-sided p value, not adjusted.
        adjusted: after Holm's adjustment for all pairs.
        pairs: how many pairs were compared.
        reason: why they cannot be compared, "" where they can; then the numbers are not numbers.
        folds_alone: why patients had no say beside the folds, "" where they had or where there are
            no folds.
        sentence: the verdict in words.
    """

    figure: Measure
    first: str
    second: str
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    standardised: float = float("nan")
    p: float = float("nan")
    adjusted: float = float("nan")
    pairs: int = 0
    reason: str = ""
    folds_alone: str = ""
    sentence: str = ""

    @property
    def shown(self) -> bool:
        """Whether a difference can be shown."""
        return self.adjusted < SIGNIFICANCE


def verdicts(evidence: Evidence, figure: Measure) -> list[Verdict]:
    """Every pair of complete methods that have the figure, in the order of the methods."""
    methods = [
        m
        for m in evidence.complete
        if all(figure in each.values for each in evidence.measured[m].values())
    ]
    found = [_compared(evidence, figure, *pair) for pair in combinations(methods, 2)]
    able = [i for i, verdict in enumerate(found) if not verdict.reason]
    for i, adjusted in zip(able, holm([found[i].p for i in able]), strict=True):
        found[i] = replace(found[i], adjusted=adjusted, pairs=len(able))
    return [replace(verdict, sentence=_sentence(verdict, evidence)) for verdict in found]


def _compared(evidence: Evidence, figure: Measure, first: str, second: str) -> Verdict:
    undefined = evidence.undefined(first, figure) or evidence.undefined(second, figure)
    folds = len(evidence.sizes)
    if undefined:
        return Verdict(figure, first, second, reason=f"undefined in {'; '.join(undefined)}")
    if not figure.metric.resampled:
        return Verdict(
            figure, first, second, reason=f"{figure.metric.words} cannot be resampled without bias"
        )
    if 1 < folds < FEWEST_FOLDS:
        return Verdict(
            figure, first, second, reason=f"only {folds} folds, {FEWEST_FOLDS} are needed"
        )
    differences = evidence.by_fold(first, figure) - evidence.by_fold(second, figure)
    if differences.mean() * figure.metric.sign < 0:
        first, second, differences = second, first, -differences
    drawn = evidence.bootstrap.fold_mean.difference(first, second, figure)
    interval = evidence.bootstrap.interval(drawn, figure)
    if folds == 1:
        return _by_patients(Verdict(figure, first, second, float(differences[0])), drawn, interval)
    return _by_folds(
        Verdict(figure, first, second, float(differences.mean())), differences, evidence, drawn
    )


def _by_patients(verdict: Verdict, drawn: np.ndarray, interval: Interval) -> Verdict:
    if interval.reason:
        return replace(verdict, difference=float("nan"), reason=f"one split, and {interval.reason}")
    return replace(verdict, low=interval.low, high=interval.high, p=p_value(drawn))


def _by_folds(
    verdict: Verdict, differences: np.ndarray, evidence: Evidence, drawn: np.ndarray
) -> Verdict:
    if np.ptp(differences) < 1e-12:  # equal but for rounding
        if abs(verdict.difference) < 1e-12:
            return replace(verdict, difference=0.0, low=0.0, high=0.0, standardised=0.0, p=1.0)
        return replace(
            verdict, difference=float("nan"), reason="the difference is the same in every fold"
        )
    test = corrected_t_test(differences, evidence.overlap)
    interval = evidence.bootstrap.interval(drawn, verdict.figure)
    low, high, p = test.low, test.high, test.p
    if not interval.reason:
        low, high, p = min(low, interval.low), max(high, interval.high), max(p, p_value(drawn))
    return replace(
        verdict,
        low=low,
        high=high,
        p=p,
        standardised=test.standardised,
        folds_alone=interval.reason,
    )


def _sentence(verdict: Verdict, evidence: Evidence) -> str:
    first, second, words = verdict.first, verdict.second, verdict.figure.words
    if verdict.reason:
        return f"{first} and {second} cannot be compared on {words}: {verdict.reason}."
    if verdict.difference == 0 and verdict.p == 1:
        return f"{first} and {second} have the same {words}."
    sign = verdict.figure.metric.sign
    low, high = sorted((sign * verdict.low, sign * verdict.high))
    by, low, high = (
        amount(value, verdict.figure) for value in (sign * verdict.difference, low, high)
    )
    points = "points of " if verdict.figure.metric.percent else "of "
    after = f" after Holm over {verdict.pairs} pairs" if verdict.pairs > 1 else ""
    numbers = f"(95 % interval {low} to {high}, {p_text(verdict.adjusted)}{after})"
    note = _note(verdict, evidence)
    if verdict.shown:
        return f"{first} is better than {second} by {by} {points}{words} {numbers}.{note}"
    return f"No difference between {first} and {second} can be shown: {by} {points}{words} {numbers}.{note}"


def _note(verdict: Verdict, evidence: Evidence) -> str:
    """What the reader must know about the basis of a verdict."""
    unit = evidence.bootstrap.unit
    notes = []
    if len(evidence.sizes) == 1:
        notes.append(f" One split: this speaks of other {unit}s, not of other training slides.")
    elif verdict.folds_alone:
        notes.append(f" Folds alone: {verdict.folds_alone}.")
    if not evidence.group_name:
        notes.append(" Patients are unknown: slides were drawn as if they were independent.")
    return "".join(notes)


def amount(value: float, figure: Measure) -> str:
    """A difference as sentences print it: percentage points with one digit, else a number with three."""
    return f"{100 * value:.1f}" if figure.metric.percent else f"{value:.3f}"


def headline(found: Sequence[Verdict], evidence: Evidence, figure: Measure) -> str:
    """On the best-looking method: whom it beats, whom it cannot be told from, and whom it cannot be compared with."""
    means = {m: evidence.by_fold(m, figure).mean() for v in found for m in (v.first, v.second)}
    means = {m: value for m, value in means.items() if not np.isnan(value)}
    if not means:
        reasons = "; ".join(dict.fromkeys(v.reason for v in found if v.reason))
        return f"No method can be compared on {figure.words}{reasons and ': '}{reasons}."
    best = max(means, key=lambda method: means[method] * figure.metric.sign)
    own = {
        (v.second if v.first == best else v.first): v for v in found if best in (v.first, v.second)
    }
    beaten = [other for other, v in own.items() if v.shown]
    level = [other for other, v in own.items() if not (v.shown or v.reason)]
    value = f"{100 * means[best]:.1f} %" if figure.metric.percent else f"{means[best]:.3f}"
    start = f"{best} has the best {figure.words} ({value})"
    if beaten and len(beaten) == len(own):
        return f"{start} and is better than all others: {', '.join(beaten)}."
    better = [f"is better than {', '.join(beaten)}"] if beaten else []
    alike = [f"cannot be told from {', '.join(level)}"] if level else []
    sentence = start + ("; it " if better or alike else "") + ", but ".join(better + alike)
    return f"{sentence}.{_not_compared(own)}"


def _not_compared(own: Mapping[str, Verdict]) -> str:
    """Whom a method cannot be compared with, and why, a sentence a reason."""
    names: dict[str, list[str]] = {}
    for other, verdict in own.items():
        if verdict.reason:
            names.setdefault(verdict.reason, []).append(other)
    return "".join(
        f" It cannot be compared with {', '.join(others)}: {why}." for why, others in names.items()
    )
