"""How people and programs spell ids and labels: characters nobody sees, look-alikes, no answer."""

from __future__ import annotations

import re
import unicodedata

WORDS_FOR_NONE = frozenset(
    {
        *(
            "nan",
            "na",
            "n/a",
            "n.a.",
            "#n/a",
            "#na",
            "<na>",
            "none",
            "null",
            "#null!",
            "nil",
            "nat",
        ),
        *("unknown", "missing", "undefined", "not available", "not known", "-", "--", "?", "."),
    }
)
"""Words that tables use for a missing value, in lower case."""

_JOINERS = "\u200c\u200d"  # without a width, but part of how some scripts are written
_BLANKS = re.compile(r"(?<=\w)[\s_\-\u2010-\u2015\u2212]+(?=\w)")  # not the sign of a number
# Cyrillic and Greek letters that look like Latin ones, in lower case.
_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d"
    "\u0432\u043a\u043c\u043d\u0442\u03b1\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "aeopcyxijshdqwbkmhtaeikvoptux",
)


def visible(text: str) -> str:
    """A text as it is seen: in NFC, without characters of no width, with plain blanks inside.

    Editors and spreadsheets leave zero-width spaces, byte-order marks, marks of the writing
    direction and unbreakable blanks in cells.
    """
    seen = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) != "Cf")
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in seen)
    return unicodedata.normalize("NFC", spaced).strip()


def without_point(text: str) -> str:
    """A whole number without the decimal point that pandas gives it ("1.0" becomes "1")."""
    return re.sub(r"(?<=\d)[.,]0+$", "", text) if re.fullmatch(r"-?\d+[.,]0+", text) else text


def look(text: str) -> str:
    """What a reader cannot distinguish: case, kind of blank or dash, letters of other alphabets."""
    seen = unicodedata.normalize("NFKC", visible(text)).casefold().translate(_LOOK_ALIKES)
    return _BLANKS.sub(" ", without_point(seen)).strip()


def means_nothing(text: str) -> bool:
    """Whether a text is a word for a missing value, or blank."""
    return not text or text.casefold() in WORDS_FOR_NONE
