"""Progress: a wrapper around an iteration, and the display that it uses (``display``)."""

from __future__ import annotations

import sys
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
    """A display that is removed at the end; nothing if there is neither terminal nor notebook."""
    if not (sys.stderr.isatty() or "IPython" in sys.modules):
        yield from items  # without importing rich, which takes a tenth of a second
        return
    from mil_bench.progress.display import Display

    display = Display(what)
    display.start(count)
    try:
        for number, item in enumerate(items, 1):
            yield item
            display.update(number)
    finally:
        display.stop()
