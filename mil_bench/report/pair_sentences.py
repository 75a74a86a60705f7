"""One pair of methods in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.report.tables import p_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Verdict


def amount(value: float, measure: Measure) -> str:
    """A difference as sentences print it: percentage points with one digit, else three digits."""
    return f"{100 * value:.1f}" if measure.metric.percent else f"{value:.3f}"


def table_unit(measures: Iterable[Measure]) -> str:
    """The unit of a table of percentages, with the columns that are none: ``%``."""
    plain = dict.fromkeys(m.metric.heading for m in measures if not m.metric.percent)
    return "; ".join(["%", *(f"{heading}: no percentage" for heading in plain)])


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
    if verdict.is_the_same:
        return (
            f"{first} and {second} have the same {words}{_in_folds(verdict)}; other slides may "
            "tell them apart."
        )
    among = f", for all {verdict.pairs} pairs at once" if verdict.pairs > 1 else ""
    adjusted = f", adjusted for {verdict.pairs} pairs" if verdict.pairs > 1 else ""
    interval = _interval(verdict)
    numbers = f"95 % interval {interval}; {p_text(verdict.adjusted)}{adjusted}"
    margin = margin_words(verdict.margin, verdict.measure)
    zero = by == amount(0, verdict.measure)
    less = f"less than {_smallest(verdict.measure)}" if zero else by
    if verdict.answer == "better":
        small = f", which is less than {margin}" if verdict.is_small else ""
        text = (
            f"{first} is better than {second}: its {words} is {less}{points} {direction}{small} "
            f"({numbers})"
        )
    elif verdict.answer == "equivalent":
        text = (
            f"{first} and {second} are practically equivalent: their {words} differs by "
            f"{less}{points}, and by less than {margin} in any case (95 % interval "
            f"{interval}{among})"
        )
    else:
        start = (
            f"their {words} differs by {less}{points}"
            if zero
            else f"the {words} of {first} is {less}{points} {direction}"
        )
        text = (
            f"Undecided between {first} and {second}: {start}, but neither a difference nor "
            f"equivalence (by less than {margin}) is shown ({numbers})"
        )
    return f"{text}.{_limits(verdict)}"


def _interval(verdict: Verdict) -> str:
    """The interval of the difference: ``0.4 to 5.8``."""
    sign = verdict.measure.metric.sign
    ends = sorted((sign * verdict.low, sign * verdict.high))
    return " to ".join(amount(end, verdict.measure) for end in ends)


def margin_words(margin: float, measure: Measure) -> str:
    """A margin in the unit of the metric: ``1 point``, ``0.5 points``; ``0.01`` of quadratic kappa.

    Args:
        margin: as a fraction or plain number.
        measure: what it is a margin of.
    """
    if not measure.metric.percent:
        return f"{margin:g}"
    points = f"{100 * margin:g}"
    return f"{points} point{'s' * (points != '1')}"


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
            " Single split: no two trainings can be compared, so the variance over test "
            f"{verdict.unit}s was doubled."
        )
    elif verdict.no_bootstrap:
        notes.append(f" Only the t-test across folds was possible: {verdict.no_bootstrap}.")
    if not verdict.is_grouped:
        notes.append(" Patients are unknown: slides were resampled as if they were independent.")
    return "".join(notes)
