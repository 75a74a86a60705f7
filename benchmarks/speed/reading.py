"""Reading packed bags against copying the same bytes from a memory map; opening large stores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from mil_bench.benchmarks.speed.timing import alternate, one_core, table

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore, StoreHeader, create_store
from mil_bench.hierarchy import LabelHierarchy

_WIDTH = 1024
_BLOCK = 16  # bags in a row: what the one frees of memory must not be found by the other
_CLASSES = LabelHierarchy.flat(("a", "b"))


def measure_bags(place: Path, rows: int, repeats: int) -> str:
    """The table of a random bag's reading, for both number types."""
    lines = []
    for dtype in ("float32", "float16"):
        store = some_store(place / f"{dtype}.h5", 32, rows, _WIDTH, dtype)
        feed = Feed(store, torch.device("cpu"))
        rng = np.random.default_rng(1)

        def copy(store=store, rng=rng) -> None:
            for bag in rng.integers(0, len(store), _BLOCK).tolist():
                np.array(store.features[store.offsets[bag] : store.offsets[bag + 1]])

        def read(feed=feed, store=store, rng=rng) -> None:
            for bag in rng.integers(0, len(store), _BLOCK).tolist():
                feed.batch(np.array([bag]))

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with one_core():
            float(store.features.max())  # into the page cache
            seconds = alternate({"copy": copy, "read": read}, range(5 * repeats))
        torch.set_num_threads(threads)
        seconds = {name: each / _BLOCK for name, each in seconds.items()}
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


def measure_opening(place: Path, repeats: int) -> str:
    """The table of opening stores of 3,352 and 33,520 bags, and of memory while bags are read from them."""
    lines = []
    for bags in (3352, 33520):
        path = place / f"{bags}.h5"
        some_store(path, bags, 20, 64, "float16")
        BagStore(path)

        def opened(path=path) -> None:
            BagStore(path)

        seconds = alternate({"open": opened}, range(repeats))["open"]
        # In a process of its own, or what was allocated before would hide the growth.
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


def some_store(path: Path, bags: int, rows: int, width: int, dtype: str) -> BagStore:
    """A store of random bags of about so many rows."""
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
    """Megabytes this process holds for itself; pages of a mapped file belong to the system, which takes them back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1e3
    return float("nan")


def _print_growth(path: Path) -> None:
    """Memory that opening takes, and that reading 2,000 bags on top takes."""
    Feed(BagStore(path), torch.device("cpu")).batch(np.array([0]))  # what torch sets up once
    before = own_memory()
    store = BagStore(path)
    feed = Feed(store, torch.device("cpu"))
    opened = own_memory()
    for bag in np.random.default_rng(0).integers(0, len(store), 2000):
        feed.batch(np.array([bag]))
    print(f"{opened - before:.1f} {own_memory() - before:.1f}")


if __name__ == "__main__":
    _print_growth(Path(sys.argv[1]))
