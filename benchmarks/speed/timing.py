"""Times that can be compared: alternating runs, medians, ratios."""

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
    """Median seconds of each run; they take turns, so that what else the machine does hits all alike.

    Args:
        runs: what is timed by name; a run that returns seconds is believed, else it is timed from
            outside.
        repeats: one turn each.
        between: called before every run, outside the time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in repeats:
        for name, run in runs.items():
            between()
            started = time.perf_counter()
            own = run()
            seconds[name].append(time.perf_counter() - started if own is None else own)
    return {name: statistics.median(times) for name, times in seconds.items()}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core inside the block, where the system can."""
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
    """A markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
