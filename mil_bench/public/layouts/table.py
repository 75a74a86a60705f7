"""Plain tables with one row per instance, separated by commas and without a heading.

UCI's MUSK data are laid out like this: molecule, conformation, 166 numbers, class.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.intake.readers import RawBag
from mil_bench.public.layouts.interface import Fetched, PublicBag

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


def table(fetched: Fetched, written: Container[str]) -> Iterator[PublicBag]:
    """The bags of a table, in the order of their first rows."""
    columns = fetched.recipe.columns
    features: dict[str, list[list[float]]] = {}
    labels: dict[str, str] = {}
    with fetched.path.open(newline="", encoding="utf-8") as file:
        for number, cells in enumerate(csv.reader(file), 1):
            if not cells:
                continue
            try:
                at = int(columns.label) % len(cells)
                bag, label = cells[columns.bag], cells[at].strip()
                others = {columns.bag, at, *columns.ignored}
                numbers = [float(cell) for n, cell in enumerate(cells) if n not in others]
            except (ValueError, IndexError) as error:
                raise fetched.unreadable(f"line {number}: {error}") from error
            if labels.setdefault(bag, label) != label:
                raise fetched.unreadable(f"line {number}: bag '{bag}' has two labels")
            features.setdefault(bag, []).append(numbers)
    widths = {len(numbers) for rows in features.values() for numbers in rows}
    if len(widths) != 1:
        raise fetched.unreadable(f"rows of {', '.join(map(str, sorted(widths)))} features")
    for bag, rows in features.items():
        if bag not in written:
            raw = RawBag(np.asarray(rows, dtype=np.float32))
            yield PublicBag(bag, raw, fetched.class_name(labels[bag]), fetched.file.split)
