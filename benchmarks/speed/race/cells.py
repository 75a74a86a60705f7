"""A cell of the training benchmark: a method, sizes of bags, and folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mil_bench.benchmarks.speed.race.core_models import WIDTH
from torch import Tensor

from mil_bench.hierarchy import LabelHierarchy

HIERARCHY = LabelHierarchy.from_groups(
    {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]}
)
FOLDS = 10


@dataclass(frozen=True)
class Spec:
    """What a contestant trains.

    Args:
        kind: "ours", "wrapped", "stacked", "loop" or "floor"; with "-reading" if bags are read from
            disk, and "-streamed" if they never stay on a GPU.
        method: its name.
        rows: median number of rows per bag.
        bags: number of bags; a fold trains on eight tenths of them.
        folds: the folds, of ten, that this process trains.
        threads: number of torch's threads.
        device: "cpu" or "cuda".
        place: folder with the bags on disk, for kinds that read.
        steps: most steps of ours per turn, None for an epoch.
    """

    kind: str
    method: str
    rows: int
    bags: int
    folds: tuple[int, ...]
    threads: int
    device: str = "cpu"
    place: str = ""
    steps: int | None = None

    def sizes(self) -> np.ndarray:
        """Rows of every bag, log-normal around ``rows``; the same for all contestants."""
        spread = np.exp(0.6 * np.random.default_rng(self.rows).standard_normal(self.bags))
        return np.maximum(16, self.rows * spread).astype(np.int64)

    def trains(self, k: int) -> np.ndarray:
        """The bags on which fold k trains; a tenth is for validation, a tenth for testing."""
        part = np.arange(self.bags) % FOLDS
        return np.flatnonzero((part != k) & (part != (k + 1) % FOLDS))

    def labels(self) -> np.ndarray:
        """Fine classes of the bags."""
        return np.arange(self.bags) % HIERARCHY.n_fine


def features(spec: Spec) -> list[Tensor]:
    """The bags in memory, on the device."""
    rng = np.random.default_rng(1)
    return [
        torch.from_numpy(rng.standard_normal((n, WIDTH), np.float32)).to(spec.device)
        for n in spec.sizes()
    ]
