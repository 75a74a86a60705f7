"""Pieces that many messages have in common: counts, first names, near matches, settings."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_NAMES = 5
_HALF = 100
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


def in_unit(text: str, unit: str) -> str:
    """A text about slides as one about what is an item of a comparison ("patient").

    Metrics, also those of packages, and notes of tables describe the usual case, in which an item
    is a slide.
    """
    for slide, other in (("slide", unit), ("Slide", unit[0].upper() + unit[1:])):
        text = re.sub(rf"\b{slide}(s?)\b", rf"{other}\1", text)
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
    """The known names that a name may have been meant for, the most similar first, at most 3."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)


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
