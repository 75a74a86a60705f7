"""Keeps a page small enough to be sent: its largest parts are files beside it instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 3_000_000
"""Most bytes of a page: it goes through every mail server, and a browser shows it at once."""
_NOTE = 1000  # bytes that say what a part was and where its file is, with long names


@dataclass(frozen=True)
class Part:
    """A table or a figure of a page.

    Args:
        identity: of its element on the page ("figure-roc").
        title: its heading.
        file: with the same content, relative to the page.
        size: of what the page holds of it, in bytes.
    """

    identity: str
    title: str
    file: str
    size: int


def too_large(parts: Iterable[Part], excess: int) -> dict[str, Part]:
    """The parts that a page leaves out: the largest, as few as bring it within its limit.

    Args:
        parts: all of a page; of two equally large ones, the first is left out.
        excess: bytes by which the page with all of them is too large.

    Returns:
        Identity to part, the largest first. All parts that are larger than the note in their place
        if even that is not enough.
    """
    chosen: dict[str, Part] = {}
    for part in sorted(parts, key=lambda part: -part.size):
        if excess <= 0 or part.size <= _NOTE:
            break
        chosen[part.identity] = part
        excess -= part.size - _NOTE
    return chosen
