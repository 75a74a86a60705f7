"""What a comparison can show: the smallest difference, and what it takes to show a smaller one.

A true difference is shown with a probability that depends on its standard error, the critical value
and the degrees of freedom, by the noncentral t-distribution. ``spread`` says how the standard error
changes with folds, repeats, seeds and patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from mil_bench.evaluation.comparison import degrees_of_freedom
from mil_bench.evaluation.power.spread import Design, Spread, design_of, most_folds, spreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Evidence, Verdict

POWER = 0.8
"""Probability with which a difference is to be shown."""
MOST = 1000
"""Repeats and seeds beyond it are not considered."""
MOST_PATIENTS = 10_000_000


@dataclass(frozen=True)
class PairPower:
    """What a run can show of a pair of methods, and what would show a difference of the margin.

    Each number is of one thing alone, while everything else stays as it is. It is infinite if no
    number is enough, and not a number if that cannot be said or changed.

    Args:
        first: a method.
        second: the other.
        smallest: the difference that is shown with the probability ``POWER``.
        at_best: the same with any number of repeats and seeds.
        folds: number of folds of a repeat that would show the margin.
        repeats: number of repeats.
        seeds: number of seeds.
        patients: number of patients, with any number of repeats and seeds; not a number if the
            present ones are enough.
    """

    first: str
    second: str
    smallest: float
    at_best: float = float("nan")
    folds: float = float("nan")
    repeats: float = float("nan")
    seeds: float = float("nan")
    patients: float = float("nan")

    @property
    def is_out_of_reach(self) -> bool:
        """Whether more patients are needed: no number of folds, repeats or seeds is enough."""
        return not np.isnan(self.patients) and not np.isfinite(self.folds)


@dataclass(frozen=True)
class Outlook:
    """What a comparison can show of some pairs of methods.

    Args:
        pairs: the pairs; in a run the undecided ones.
        design: its size.
        measure: what methods are compared on.
        unit: what the bootstrap draws ("patient").
        margin: of practical equivalence.
        is_bound: whether there was one training per fold, so that repeats and seeds may remove more
            of the variance over patients than the numbers say.
    """

    pairs: tuple[PairPower, ...]
    design: Design
    measure: Measure
    unit: str
    margin: float
    is_bound: bool


def smallest_difference(
    error: float, degrees: float, tail: float, probability: float = POWER
) -> float:
    """The true difference that a two-sided test finds with a probability.

    Args:
        error: standard error of the difference.
        degrees: degrees of freedom of its t-distribution.
        tail: one-sided p-value below which it is significant: .025 for one pair alone.
        probability: the power.
    """
    critical = stats.t.isf(tail, degrees)
    return float(error * special.nctdtrinc(degrees, 1 - probability, critical))


def outlook_of(evidence: Evidence, measure: Measure, verdicts: Sequence[Verdict]) -> Outlook:
    """What a run can show of its undecided pairs.

    Pairs without a test, and methods with equal predictions, are left out.

    Args:
        evidence: what the run measured.
        measure: of the verdicts.
        verdicts: all of the run.
    """
    undecided = [v for v in verdicts if v.answer == "undecided" and v.error > 0]
    drawn = bool(undecided) and not undecided[0].no_bootstrap
    powers = _powers(evidence, measure, undecided) if drawn else _by_folds(undecided)
    one_training = evidence.repeats * evidence.seeds == 1
    return Outlook(
        pairs=tuple(powers),
        design=design_of(evidence),
        measure=measure,
        unit=evidence.bootstrap.unit,
        margin=evidence.margin,
        is_bound=drawn and one_training,
    )


def _powers(
    evidence: Evidence, measure: Measure, verdicts: Sequence[Verdict]
) -> Iterator[PairPower]:
    pairs, most = [(v.first, v.second) for v in verdicts], most_folds(evidence)
    for spread, v in zip(spreads(evidence, measure, pairs), verdicts, strict=True):
        yield pair_power(v.first, v.second, spread, spread.design, _tail(v), v.margin, most)


def _by_folds(verdicts: Sequence[Verdict]) -> Iterator[PairPower]:
    """If only folds decide, nothing is known of patients."""
    for v in verdicts:
        smallest = smallest_difference(v.error, v.degrees_of_freedom, _tail(v))
        yield PairPower(v.first, v.second, smallest)


def pair_power(
    first: str,
    second: str,
    spread: Spread,
    design: Design,
    tail: float,
    margin: float,
    most: int,
) -> PairPower:
    """What a design can show of a pair, and what would show the margin.

    Args:
        first: a method.
        second: the other.
        spread: of their difference.
        design: the design.
        tail: as of ``smallest_difference``.
        margin: of practical equivalence.
        most: largest number of folds; 0 if neither folds nor repeats can be changed.
    """

    def shown(variance: float, patients: int) -> float:
        return smallest_difference(variance**0.5, degrees_of_freedom(patients), tail)

    def with_(**changed: int) -> float:
        changed_design = replace(design, **changed)
        return shown(spread.variance(changed_design), changed_design.patients)

    at_best = shown(spread.least_variance(design), design.patients)
    power = PairPower(first, second, with_(), at_best)
    can_repeat, several_seeds = most > 0, spread.design.seeds > 1
    nan = float("nan")

    def at_best_with(patients: int) -> float:
        return shown(spread.least_variance(replace(design, patients=patients)), patients)

    def fewest(shows: Callable[[int], float], low: int, high: int) -> float:
        return _first(lambda number: shows(number) <= margin, low, high)

    return replace(
        power,
        folds=fewest(lambda n: with_(folds=n), design.folds, most) if can_repeat else nan,
        repeats=fewest(lambda n: with_(repeats=n), design.repeats, MOST) if can_repeat else nan,
        seeds=fewest(lambda n: with_(seeds=n), design.seeds, MOST) if several_seeds else nan,
        patients=nan if at_best <= margin else fewest(at_best_with, design.patients, MOST_PATIENTS),
    )


def _tail(verdict: Verdict) -> float:
    """One-sided p-value at the end of the interval that holds for all pairs."""
    reach = (verdict.high - verdict.low) / 2 / verdict.error
    return float(stats.t.sf(reach, verdict.degrees_of_freedom))


def _first(is_enough: Callable[[int], bool], low: int, high: int) -> float:
    """The smallest number from low to high that is enough, infinite if none; more are not worse."""
    if high < low or not is_enough(high):
        return float("inf")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return float(low)
