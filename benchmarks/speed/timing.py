"""Times that can be compared: medians of runs that take turns."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def alternate(
    runs: Mapping[str, Callable[[], float | None]],
    repeats: Iterable[int],
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Median seconds of each run; runs take turns, so that other load affects all of them alike.

    Args:
        runs: functions by name; one that returns seconds is not timed from outside.
        repeats: a turn for each element.
        between: called before every run, and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in repeats:
        for name, run in runs.items():
            between()
            started = time.perf_counter()
            measured = run()
            elapsed = time.perf_counter() - started
            seconds[name].append(elapsed if measured is None else measured)
    return {name: statistics.median(times) for name, times in seconds.items()}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core inside the block, if the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
