"""Pieces that many messages have in common: counts, first names, near matches, settings."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_NAMES = 5
_HALF = 100
_MOST_PARTS = 2  # of a location: a file and a place in it
_ALIKE = 3
"""So many lines that differ only in their location are still shown one by one."""
FROM = "from"
"""Begins the mark of a row that was imported: ``hmil (from LAB)``."""


def plural(number: int, one: str, many: str = "") -> str:
    """A number with the words that agree with it ("1 slide has", "2 slides have").

    Args:
        number: the number.
        one: the words for 1.
        many: the words for all other numbers; if empty, ``one`` with an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def first_names(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are ("a, b, c, d, e and 2 more")."""
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def gathered(lines: Sequence[str]) -> list[str]:
    """Lines of the form ``location: problem``; those with the same problem become one.

    It has their number and the first locations: ``no label (25 times: row 2; row 3; row 4 and 22
    more)``. A location may have several parts (``file: row 2: ...``).
    """
    counts = Counter(problem for line in lines for _, problem in _divided(line))
    shown: dict[str, list[str]] = {}
    for line in lines:
        alike = ((where, what) for where, what in _divided(line) if counts[what] > _ALIKE)
        location, problem = next(alike, ("", line))
        shown.setdefault(problem, []).append(location)
    return [
        _with_count(problem, locations) if locations[0] else problem
        for problem, locations in shown.items()
    ]


def _with_count(problem: str, locations: Sequence[str]) -> str:
    """A problem with the number of its locations and the first ones; their file is named once."""
    parts = [location.rpartition(": ") for location in locations]
    files = {file for file, _, _ in parts}
    file = f"{files.pop()}: " if len(files) == 1 and parts[0][0] else ""
    places = [location.removeprefix(file) for location in locations]
    rest = len(places) - _ALIKE
    first = "; ".join(places[:_ALIKE]) + (f" and {rest} more" if rest > 0 else "")
    return f"{file}{problem} ({len(places)} times: {first})"


def _divided(line: str) -> list[tuple[str, str]]:
    """A line as location and problem, at each colon that can be between them."""
    parts = line.split(": ")
    cuts = range(1, min(len(parts), _MOST_PARTS + 1))
    return [(": ".join(parts[:cut]), ": ".join(parts[cut:])) for cut in cuts]


def in_unit(text: str, unit: str) -> str:
    """A text about slides as one about what is an item of a comparison ("patient").

    Metrics, also those of packages, and notes of tables describe the usual case, in which an item
    is a slide.
    """
    return _in_word(text, "slide", unit)


def in_group(text: str, group_name: str) -> str:
    """A text about groups with the word of the data's card for them ("patient")."""
    return _in_word(text, "group", group_name) if group_name else text


def _in_word(text: str, word: str, other: str) -> str:
    """A text with another word, singular and plural."""
    for old, new in ((word, other), (word.capitalize(), other[0].upper() + other[1:])):
        parts = re.split(rf"\b{old}(?=s?\b)", text)
        text = new.join(parts)
    return text


def shortened(name: str) -> str:
    """A name for a message: the middle of a very long one is left out."""
    return name if len(name) <= 2 * _HALF else f"{name[:_HALF]}...{name[-_HALF:]}"


def with_source(label: str, source: str) -> str:
    """The label of an imported row, with the mark that names who trained it."""
    return f"{label} ({FROM} {source})"


def without_source(label: str) -> str:
    """A label without that mark, if it has one."""
    return re.sub(rf" \({FROM} [^()]+\)\Z", "", label)


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """The known names that a name may have been meant for, the most similar first, at most 3.

    Capital and small letters are alike.
    """
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    return [folded[other] for other in near]


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: what may be meant, or else all known names."""
    known = list(known)
    near = near_names(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"


def split_settings(text: str) -> tuple[str, dict[str, str]]:
    """Take ``name:key=value,key=value`` apart.

    Blanks around keys and values are dropped. Nothing is judged: a key without a value has the
    value "", and of two values of one key the last counts.

    Returns:
        The name, and the settings in their order.
    """
    name, _, settings = text.partition(":")
    pairs = [item.partition("=") for item in settings.split(",")] if settings else []
    return name, {key.strip(): value.strip() for key, _, value in pairs}
