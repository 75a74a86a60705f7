"""Percentages with standard errors, and simulations in several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from mil_bench.report.tables import Cell

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")


def percent(is_so: np.ndarray) -> Cell:
    """Percentage with its standard error.

    Args:
        is_so: of every benchmark, bool or a share ``[n]``; not numbers are left out.
    """
    shares = np.asarray(is_so, dtype=float)
    shares = shares[~np.isnan(shares)]
    return Cell(100 * float(shares.mean()), 100 * float(shares.std() / np.sqrt(len(shares))))


def simulate_all(pool: Executor, simulate: Callable[[int], T], repeats: int, title: str) -> list[T]:
    """Results of the benchmarks with numbers 0 to ``repeats`` - 1."""
    results = pool.map(simulate, range(repeats), chunksize=10)
    return list(track(results, title, repeats, console=Console(stderr=True)))
