"""What would decide the undecided pairs, as a table and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.power.pairs import MOST, POWER
from mil_bench.report.pair_sentences import amount, margin_words
from mil_bench.report.tables import Cell, ResultTable, pair_row
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.evaluation.power.pairs import Outlook
    from mil_bench.evaluation.power.spread import Design

LIKELY = f"with a probability of about {100 * POWER:.0f} %"
"""How often a difference is shown, in words."""
_NOTE = (
    "Smallest difference: the true difference that a run of this size ({design}) finds "
    + LIKELY
    + "; smaller ones mostly stay undecided. At best: the same with any number of repeats and "
    "seeds."
)
_NEEDED = (
    "The other columns are about finding a difference of {margin} as reliably: how many folds, "
    "repeats or seeds that takes if only their number is changed, and how many {unit}s with any "
    "number of repeats and seeds. 'none': no number is enough, of repeats and seeds up to "
    + f"{MOST:,}"
    + ". A dash: it cannot be said or changed, or the {unit}s are enough."
)
_ONE_TRAINING = (
    "Each fold was trained once, so it is not known how much more repeats or seeds would help: "
    "what depends on it is 'unknown', or a bound (≤) that holds if they do not help."
)


def power_tables(outlook: Outlook, caption: str) -> list[ResultTable]:
    """The table of undecided pairs, if there are any.

    Args:
        outlook: of the run.
        caption: of the run.
    """
    if not outlook.pairs:
        return []
    measure, unit = outlook.measure, outlook.unit
    margin = margin_words(outlook.margin, measure)
    scale, digits = (100, 1) if measure.metric.percent else (1, 3)
    cells: dict[str, dict[str, Cell | str]] = {}
    for pair in outlook.pairs:
        up_to = "≤ " if outlook.is_bound else ""
        row: dict[str, Cell | str] = {
            heading: Cell.single(scale * value, f"{bound}{scale * value:.{digits}f}")
            for heading, value, bound in (
                ("Smallest difference", pair.smallest, ""),
                ("At best", pair.at_best, up_to),
            )
        }
        row |= {
            f"Folds for {margin}": _number(pair.folds),
            f"Repeats for {margin}": _number(pair.repeats, outlook.is_bound),
            f"Seeds for {margin}": _number(pair.seeds, outlook.is_bound),
            f"{unit.capitalize()}s for {margin}": _number(pair.patients, bound=up_to),
        }
        cells[pair_row(pair.first, pair.second)] = row
    notes = [
        _NOTE.format(design=design_words(outlook.design, unit)),
        _NEEDED.format(margin=margin, unit=unit),
        _ONE_TRAINING.format(unit=unit) if outlook.is_bound else "",
    ]
    points = " (percentage points)" if measure.metric.percent else ""
    title = f"What would decide it: undecided pairs on {measure.words}{points}"
    note = " ".join(filter(None, notes))
    return [ResultTable("deciding", title, caption, cells, note=note, row_heading="pair")]


def power_sentences(outlook: Outlook) -> list[str]:
    """What a run can show of its undecided pairs, and what would show the margin."""
    if not outlook.pairs:
        return []
    if len(outlook.pairs) == 1:
        pair = outlook.pairs[0]
        start = (
            f"{pair.first} and {pair.second} are undecided: a run of this size finds a true "
            f"difference of {_amount(outlook, pair.smallest)} {LIKELY}."
        )
    else:
        start = (
            f"{len(outlook.pairs)} pairs are undecided: a run of this size finds a true difference "
            f"of {smallest_words(outlook)} {LIKELY}."
        )
    return [f"{start}{needed_words(outlook)}"]


def smallest_words(outlook: Outlook) -> str:
    """The smallest differences of all pairs: ``2.8 points (median of the pairs; 2.1 to 3.4)``."""
    smallest = [pair.smallest for pair in outlook.pairs]
    median = _amount(outlook, float(np.median(smallest)))
    if len(smallest) == 1:
        return median
    low, high = (_possible(outlook, end) for end in (min(smallest), max(smallest)))
    return f"{median} (median of the pairs; {_range(low, high)})"


def needed_words(outlook: Outlook) -> str:
    """What would show the margin, with a blank before each sentence; "" if it cannot be said."""
    margin = margin_words(outlook.margin, outlook.measure)
    if all(np.isnan(pair.at_best) for pair in outlook.pairs):
        return ""
    return _within_reach(outlook, margin) + _out_of_reach(outlook, margin)


def design_words(design: Design, unit: str) -> str:
    """The size of a comparison: ``10 folds, 1 repeat, 3 seeds, 189 patients``."""
    folds, repeats = plural(design.folds, "fold"), plural(design.repeats, "repeat")
    return f"{folds}, {repeats}, {plural(design.seeds, 'seed')}, {plural(design.patients, unit)}"


def numbers_words(numbers: Sequence[float]) -> str:
    """The smallest and the largest of some whole numbers: ``4 to 12``; one if they are equal."""
    return _range(f"{min(numbers):,.0f}", f"{max(numbers):,.0f}")


def _within_reach(outlook: Outlook, margin: str) -> str:
    """What would show the margin for the pairs for which something other than patients would."""
    for kind in ("repeats", "seeds", "folds"):
        numbers = [getattr(pair, kind) for pair in outlook.pairs]
        enough = [number for number in numbers if np.isfinite(number)]
        if enough:
            some = "" if len(enough) == len(numbers) else f" for {_few(len(enough))} of the pairs"
            return (
                f" To find a difference of {margin} as reliably{some}, {numbers_words(enough)} "
                f"{kind} are needed."
            )
    return ""


def _out_of_reach(outlook: Outlook, margin: str) -> str:
    """How many patients the pairs need for which nothing else is enough."""
    beyond = [pair.patients for pair in outlook.pairs if pair.is_out_of_reach]
    if not beyond:
        return ""
    unit, units = outlook.unit, outlook.design.patients
    others = "pair" if len(beyond) == 1 else f"{len(beyond)} pairs"
    some = "" if len(beyond) == len(outlook.pairs) else f" for the other {others}"
    rounded = [float(f"{number:.2g}") for number in beyond]
    needed = (
        f"about {numbers_words(rounded)} {unit}s instead of {units} are needed"
        if np.isfinite(beyond).all()
        else f"no realistic number of {unit}s is enough"
    )
    find = f"find a difference of {margin}{' as reliably' * (not some)}"
    if outlook.is_bound:
        return (
            f" Whether more repeats or seeds would help is not known, because each fold was "
            f"trained once; a run with two seeds (--seeds 0 1) would tell. If they do not help, "
            f"{needed} to {find}{some}."
        )
    return f" More folds, repeats and seeds are not enough to {find}{some}: {needed}."


def _few(number: int) -> str:
    return "one" if number == 1 else f"{number}"


def _amount(outlook: Outlook, value: float) -> str:
    points = " points" if outlook.measure.metric.percent else ""
    return f"{_possible(outlook, value)}{points}"


def _possible(outlook: Outlook, value: float) -> str:
    """A difference, or that it exceeds the range of a metric in percent."""
    is_possible = value <= 1 or not outlook.measure.metric.percent
    return amount(value, outlook.measure) if is_possible else "more than 100"


def _number(number: float, is_bound: bool = False, bound: str = "") -> Cell:
    """A number of folds or the like; one that is not enough in the worst case is not known."""
    none = "unknown" if is_bound else "none"
    return Cell.single(number, f"{bound}{number:,.0f}" if np.isfinite(number) else none)


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
