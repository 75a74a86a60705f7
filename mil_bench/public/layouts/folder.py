"""Folders with one feature file per slide, as CLAM, TRIDENT and others write them.

A file is fetched, opened with the readers for users' own files in a process that can be ended,
packed and removed before the next one is fetched.
"""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.intake.folders import FoundFile
from mil_bench.intake.row_packing import (
    OpenedFile,
    Problems,
    Spread,
    load_one,
    open_one,
    spread_over,
)
from mil_bench.public.layouts.interface import Fetched, Layout, PublicBag

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from mil_bench.intake.readers import RawBag


@contextlib.contextmanager
def folder() -> Iterator[Layout]:
    """Reads files in a process of its own."""
    with spread_over(1) as spread:
        yield partial(_bags, spread)


def _bags(spread: Spread, fetched: Fetched, written: Container[str]) -> Iterator[PublicBag]:
    """The one slide of a file."""
    slide = without_ending(PurePosixPath(fetched.name).stem)
    if slide in written:
        return
    opened = next(spread(open_one, [FoundFile(fetched.path, slide, slide)]))
    if not isinstance(opened, OpenedFile):
        raise fetched.unreadable("; ".join(opened))
    raw = next(spread(_load, [opened]))
    if isinstance(raw, tuple):
        raise fetched.unreadable("; ".join(raw))
    yield PublicBag(slide, raw, split=fetched.file.split)


def _load(opened: OpenedFile) -> RawBag | Problems:
    return load_one(opened.file)
