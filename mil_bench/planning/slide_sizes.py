"""Slides that have fewer or more instances than a method accepts, found before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mil_bench.errors import InputError
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore
    from mil_bench.splits.plan import SplitPlan


def form_problems(method: Any) -> list[str]:
    """What is wrong with the ``min_rows`` and ``max_rows`` that a method declares."""
    least, most = method.min_rows, method.max_rows
    problems = []
    if type(least) is not int or least < 1:
        problems.append(f"its min_rows is {least!r}, not a whole number from 1 on")
    if most is not None and (type(most) is not int or most < 1):
        problems.append(f"its max_rows is {most!r}, neither None nor a whole number from 1 on")
    if not problems and most is not None and most < least:
        problems.append(f"its max_rows, {most}, is less than its min_rows, {least}")
    return problems


def require_sizes(label: str, method: Any, splits: SplitPlan, store: BagStore) -> None:
    """Refuse a method if slides of the split have fewer or more instances than it accepts.

    Args:
        label: of the method's row, for messages.
        method: its class, with ``min_rows`` and ``max_rows``.
        splits: the folds; slides in none of them do not count.
        store: the bags, of which only the index is read.

    Raises:
        InputError: names some of the slides, their number and what to do.
    """
    folds = splits.folds
    used = {slide for fold in folds for slide in (*fold.train, *fold.val, *fold.test)}
    bags = store.index_of(tuple(sorted(used)))
    slides, rows = store.slides["slide"].to_numpy()[bags], store.sizes[bags]
    problems = []
    for broken, limit in (
        (rows < method.min_rows, f"fewer than {plural(method.min_rows, 'instance')} (min_rows)"),
        (
            rows > (method.max_rows or np.inf),
            f"more than {plural(method.max_rows or 0, 'instance')} (max_rows)",
        ),
    ):
        if broken.any():
            named = [f"{s} ({n})" for s, n in zip(slides[broken], rows[broken], strict=True)]
            count = plural(len(named), f"{store.unit} has", f"{store.unit}s have")
            problems.append(f"{count} {limit}: {first_names(named)}")
    if problems:
        raise InputError(
            f"{store.unit}s for {label}",
            problems,
            "Leave the method out, or make folds without them (mil-bench splits make "
            "--labels TABLE) and give them with --splits. Nothing was trained.",
        )
