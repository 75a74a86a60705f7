"""Reading packed bags compared with copying from a memory map; opening large stores."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mil_bench.benchmarks.speed.timing import alternate, one_core, table

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.feed import Feed
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import BagStore, create_store
from mil_bench.hierarchy import LabelHierarchy

_WIDTH = 1024
# Bags read in a row, so that one contestant does not profit from memory that the other freed.
_BLOCK = 16
_CLASSES = LabelHierarchy.flat(("a", "b"))


def measure_bags(place: Path, rows: int, repeats: int) -> str:
    """The table of reading a random bag, for both number types."""
    lines = []
    for dtype in ("float32", "float16"):
        store = some_store(place / f"{dtype}.h5", 32, rows, _WIDTH, dtype)
        feed = Feed(store, torch.device("cpu"))
        rng = np.random.default_rng(1)
        runs = {"copy": partial(_copy, store, rng), "read": partial(_read, store, feed, rng)}
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with one_core():
            float(store.features.max())  # into the page cache
            seconds = alternate(runs, range(5 * repeats))
        torch.set_num_threads(threads)
        seconds = {name: total / _BLOCK for name, total in seconds.items()}
        times = [f"{1e3 * seconds['copy']:.2f}", f"{1e3 * seconds['read']:.2f}"]
        lines.append(
            [
                f"{dtype}, about {rows} x {_WIDTH}",
                *times,
                f"{seconds['read'] / seconds['copy']:.2f}",
                "1.5",
            ]
        )
    return table(
        ["bag", "copy from the map, ms", "as a float32 batch, ms", "ratio", "target"], lines
    )


def _copy(store: BagStore, rng: np.random.Generator) -> None:
    """Copy random bags from the memory map."""
    for bag in rng.integers(0, len(store), _BLOCK).tolist():
        np.array(store.features[store.rows_of(bag)])


def _read(store: BagStore, feed: Feed, rng: np.random.Generator) -> None:
    """Read random bags as batches."""
    for bag in rng.integers(0, len(store), _BLOCK).tolist():
        feed.batch(np.array([bag]))


def measure_opening(place: Path, repeats: int) -> str:
    """The table of opening stores of 3,352 and 33,520 bags, and of memory while reading bags."""
    lines = []
    for bags in (3352, 33520):
        path = place / f"{bags}.h5"
        some_store(path, bags, 20, 64, "float16")
        BagStore(path)

        seconds = alternate({"open": partial(_open, path)}, range(repeats))["open"]
        # In a new process, since memory allocated before would hide the growth.
        command = [sys.executable, "-m", "mil_bench.benchmarks.speed.reading", str(path)]
        grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        lines.append(
            [f"{bags:,}", f"{path.stat().st_size / 1e6:.0f} MB", f"{seconds:.3f}", "1", *grown]
        )
    return table(
        [
            "bags",
            "file",
            "opening, s",
            "target",
            "memory, opened, MB",
            "memory, 2,000 bags read, MB",
        ],
        lines,
    )


def _open(path: Path) -> None:
    BagStore(path)


def some_store(path: Path, bags: int, rows: int, width: int, dtype: str) -> BagStore:
    """A store of random bags.

    Args:
        path: the file to write.
        bags: number of bags.
        rows: mean number of rows per bag.
        width: of the features.
        dtype: of the features.
    """
    rng = np.random.default_rng(0)
    sizes = (rows * rng.uniform(0.7, 1.3, bags)).astype(int)
    header = StoreHeader(
        "speed", _CLASSES, int(sizes.sum()), width, dtype, "made for timing", "patient"
    )
    with create_store(path, header) as writer:
        for i, n in enumerate(sizes.tolist()):
            features = rng.standard_normal((n, width), dtype=np.float32).astype(dtype)
            slide = Slide(f"slide-{i:06d}", i % 2, f"patient-{i // 3:06d}")
            writer.add(Bag(slide, features))
    return BagStore(path)


def own_memory() -> float:
    """Megabytes of this process without pages of mapped files, which the system can reclaim."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1e3
    return float("nan")


def _print_growth(path: Path) -> None:
    """Print the memory after opening, and after also reading 2,000 bags."""
    Feed(BagStore(path), torch.device("cpu")).batch(np.array([0]))  # torch's set-up
    before = own_memory()
    store = BagStore(path)
    feed = Feed(store, torch.device("cpu"))
    opened = own_memory()
    for bag in np.random.default_rng(0).integers(0, len(store), 2000):
        feed.batch(np.array([bag]))
    print(f"{opened - before:.1f} {own_memory() - before:.1f}")


if __name__ == "__main__":
    _print_growth(Path(sys.argv[1]))
