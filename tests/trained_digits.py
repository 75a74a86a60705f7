"""A tiny run of every method on digits, which tests of predictions and maps share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from feature_files import write_h5

import mil_bench
from mil_bench.bags.store import BagStore

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

DIGITS = "digits:bags=70,rows=8"


class TrainedDigits(NamedTuple):
    """The run, its bags, and where both are."""

    result: RunResult
    store: BagStore
    folder: Path

    @property
    def words(self) -> list[str]:
        """Options of a command that uses it."""
        return ["--results", str(self.folder / "results"), "--data", str(self.folder / "data")]


@cache
def trained_digits(base: Path) -> TrainedDigits:
    """All methods, 2 folds, 1 epoch; trained once per session, in its temporary folder."""
    folder = base / "trained-digits"
    places = {"results": folder / "results", "data": folder / "data"}
    quiet = {"tracking": False, "progress": False, "on": "inline"}
    result = mil_bench.run("all", DIGITS, folds=2, epochs=1, **places, **quiet)
    assert not result.failures
    return TrainedDigits(result, BagStore(next((folder / "data").glob("*.h5"))), folder)


def write_slides(trained: TrainedDigits, folder: Path, slides: list[str], **more: object) -> Path:
    """Bags of the run as CLAM's files, with coordinates in a row of patches of 100 pixels."""
    for slide in slides:
        features = np.array(trained.store.bag(int(trained.store.index_of((slide,))[0])).features)
        coords = np.stack([100 * np.arange(len(features)), np.zeros(len(features), int)], 1)
        write_h5(folder / f"{slide}.h5", features, coords, **more)
    return folder
