"""The bags of the benchmark on disk: a file per slide as TRIDENT writes it, and a packed store."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from mil_bench.benchmarks.speed.race.cells import HIERARCHY, Spec, features
from mil_bench.benchmarks.speed.race.core_models import WIDTH
from torch import Tensor

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import create_store


def write_bags(spec: Spec) -> None:
    """Write every bag of a cell twice into its folder."""
    place, bags = Path(spec.place), [rows.numpy() for rows in features(spec)]
    header = StoreHeader(
        "speed", HIERARCHY, sum(map(len, bags)), WIDTH, "float32", "made for timing", "patient"
    )
    with create_store(place / "bags.h5", header) as writer:
        for i, (rows, label) in enumerate(zip(bags, spec.labels(), strict=True)):
            writer.add(Bag(Slide(f"slide-{i:04d}", int(label), f"patient-{i}"), rows))
            with h5py.File(place / f"slide-{i:04d}.h5", "w") as file:
                file.create_dataset("features", data=rows, chunks=(1, WIDTH))


def write_store(spec: Spec) -> None:
    """Write a store of a cell's bags in float16, of any size: its bags share their rows."""
    sizes = spec.sizes()
    header = StoreHeader(
        "speed", HIERARCHY, int(sizes.sum()), WIDTH, "float16", "made for timing", "patient"
    )
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((int(sizes.max()), WIDTH), np.float32).astype(np.float16)
    with create_store(Path(spec.place) / "bags.h5", header) as writer:
        for i, (size, label) in enumerate(zip(sizes.tolist(), spec.labels(), strict=True)):
            writer.add(Bag(Slide(f"slide-{i:05d}", int(label), f"patient-{i}"), rows[:size]))


def read_slide(spec: Spec, i: int) -> Tensor:
    """A slide's features from its file, opened and read completely as scripts do."""
    with h5py.File(Path(spec.place) / f"slide-{i:04d}.h5") as file:
        return torch.from_numpy(file["features"][:])
