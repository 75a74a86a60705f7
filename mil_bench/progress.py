"""Progress bars as wrappers around an iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps an iteration, given the items, their number and what is being done."""


def unwatched(
    items: Iterable[Any],
    count: int,  # noqa: ARG001  # as in Watch
    what: str,  # noqa: ARG001
) -> Iterable[Any]:
    """No progress bar."""
    return items


def progress_bar(items: Iterable[Any], count: int, what: str) -> Iterable[Any]:
    """A bar on standard error; nothing if that is no terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, count, console=console, disable=not console.is_terminal)
