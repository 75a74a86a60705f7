"""Features that stay on a GPU against features that are streamed to it, at the size of PANDA."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING

from mil_bench.benchmarks.speed.race.cells import FOLDS, Spec
from mil_bench.benchmarks.speed.race.disk import write_store
from mil_bench.benchmarks.speed.race.turns import compete
from mil_bench.benchmarks.speed.timing import table

if TYPE_CHECKING:
    from pathlib import Path

PANDA_SLIDES = 10_616
_TARGET = 0.8  # of the speed of features that stay
_STEPS = 2000  # per turn; an epoch would take half a minute


def streamed(device: str, folder: Path | None, slides: int = PANDA_SLIDES, rows: int = 500) -> str:
    """Train ABMIL from a store of float16 features in both ways; a table.

    On a CPU both are the same way: features are read from the store when they are needed.

    Args:
        device: "cpu" or "cuda".
        folder: where the store is written, 13 GB of it; None for the system's temporary folder.
        slides: number of bags.
        rows: median number of rows per bag.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        folds = tuple(range(FOLDS))
        spec = Spec("", "abmil", rows, slides, folds, 1, device, place, _STEPS)
        write_store(spec)
        kinds = dict.fromkeys(("stacked-reading", "stacked-streamed"), (1, sys.executable))
        medians = compete(kinds, spec, 1, 2)
    stays, streams = (medians[kind].wall for kind in kinds)
    head = ["slides", "resident, s", "streamed, s", "speed: streamed / resident", "target"]
    values = [f"{slides:,}", f"{stays:.3f}", f"{streams:.3f}", f"{stays / streams:.0%}"]
    return table(head, [[*values, f"{_TARGET:.0%}"]])
