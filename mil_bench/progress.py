"""How long work is watched: a progress bar is a wrap around an iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps an iteration, given it, the number of its items and what is being done."""


def unwatched(items: Iterable[Any], count: int, what: str) -> Iterable[Any]:
    """No progress bar."""
    return items
