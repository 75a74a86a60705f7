r"""Names of methods, classes and settings as figures show them: text, whatever they hold.

A name is a user's own. What no font can draw, what would turn the direction of writing and what
would break an SVG file is shown by its code (``\u202e``); a very long name loses its middle.
"""

from __future__ import annotations

import textwrap
from functools import cache
from typing import TYPE_CHECKING

from matplotlib import font_manager

from mil_bench.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

MAIN_FONT = "DejaVu Sans"
"""Comes with matplotlib, so figures look the same on every machine."""
_OTHER_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Microsoft YaHei",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
    "WenQuanYi Zen Hei",
)
"""Draw what the first font lacks, where they are installed."""
_LONGEST = 60
_LETTER = 0.0078
"""Width of a letter in inches per point of its size; a generous mean."""


@cache
def fonts() -> tuple[str, ...]:
    """The fonts of all figures: the main one, then those of the others that are installed."""
    installed = set(font_manager.get_font_names())
    return (MAIN_FONT, *(name for name in _OTHER_FONTS if name in installed))


@cache
def _drawable() -> frozenset[int]:
    """Code points that some font of ours has."""
    files = (font_manager.findfont(name, fallback_to_default=False) for name in fonts())
    return frozenset(point for file in files for point in font_manager.get_font(file).get_charmap())


def text_of_name(name: str) -> str:
    """A name in characters that can be drawn, in one line."""
    known = _drawable()
    return "".join(
        c if ord(c) in known else c.encode("unicode_escape").decode() for c in one_line(name)
    )


def texts_of(names: Iterable[str], longest: int = _LONGEST) -> dict[str, str]:
    """Each name to its text; names that are equal once they are shortened are numbered.

    Args:
        names: the names of one figure.
        longest: most characters; of a longer name, its beginning and its end are shown.
    """
    texts: dict[str, str] = {}
    for name in dict.fromkeys(names):
        text = text_of_name(name)
        if len(text) > longest:
            end = longest // 3
            text = f"{text[: longest - end - 1]}…{text[-end:]}"
        same, number = text, 1
        while text in texts.values():
            number += 1
            text = f"{same} ({number})"
        texts[name] = text
    return texts


def wrapped(text: str, inches: float, size: float = 9) -> str:
    """A text in lines that fit a width, broken at blanks and hyphens if it has any."""
    letters = max(4, int(inches / (_LETTER * size)))
    return textwrap.fill(text, letters) if len(text) > letters else text


def set_title(axes: Axes, text: str, inches: float, size: float = 9) -> None:
    """Title a panel with a name, in several lines if it is wider than the panel."""
    axes.set_title(wrapped(text, inches, size), fontsize=size)
