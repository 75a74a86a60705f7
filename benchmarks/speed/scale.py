"""Whether the time of training grows in proportion to the dataset, and memory does not grow.

    python -m mil_bench.benchmarks.speed.scale [--method abmil] [--rows 20] [--width 256]

Memory: one epoch of a fold on stores of 1,000 to 33,520 bags, each in a new process; the maximum
before a training step and before a validation step, whose batches have up to 8,192 rows. Time: the
exponent of its growth from 1,000 to 16,000 bags.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mil_bench.benchmarks.speed.reading import own_memory, some_store
from mil_bench.benchmarks.speed.timing import table
from rich.console import Console

from mil_bench import registry
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore
from mil_bench.training.memory import freed_memory_kept
from mil_bench.training.stack import LoopedStack, Step
from mil_bench.training.trainer import FoldRoles, Schedule, fit

_MEMORY, _TIME = (3352, 33520), (1000, 4000, 16000)


def train(path: Path, method: str) -> tuple[float, float, float]:
    """One epoch of one fold, with a tenth of the bags for validation.

    Returns:
        Seconds of CPU time; MB beyond model and torch while it trains; the same until the end of
        validation.
    """
    torch.set_num_threads(1)
    kind, store = registry.methods.load(method), BagStore(path)
    recipe = kind.recipe.__class__(learning_rate=1e-4, epochs=1, batch_size=kind.recipe.batch_size)
    stack = LoopedStack([kind(store.width, store.hierarchy)], recipe, [("scale",)])
    feed, bags = Feed(store, torch.device("cpu")), np.arange(len(store))
    # Allocates the moments and torch's set-up before memory is measured.
    stack.train([Step(feed.batch(bags[:1]), torch.ones(1, 1), 0)], 0.0)
    role = FoldRoles(bags[bags % 10 > 0], bags[bags % 10 == 0])
    before, started = own_memory(), time.process_time()
    most = {"train": before, "forward": before}

    def watched(name: str) -> None:
        step = getattr(stack, name)

        def run(*arguments: object) -> object:
            most[name] = max(most[name], own_memory())
            return step(*arguments)

        setattr(stack, name, run)

    watched("train")
    watched("forward")
    with freed_memory_kept():
        fit(
            stack,
            feed,
            [role],
            Schedule.of([role.train], recipe, ("scale",)),
            recipe,
            lambda *_: None,
        )
        after = own_memory()
    seconds = time.process_time() - started
    return seconds, most["train"] - before, max(most["forward"], after) - before


def _in_a_process(place: Path, bags: int, arguments: argparse.Namespace) -> list[float]:
    path = place / f"{bags}.h5"
    if not path.exists():
        some_store(path, bags, arguments.rows, arguments.width, "float16")
    command = [
        sys.executable,
        "-m",
        "mil_bench.benchmarks.speed.scale",
        "--method",
        arguments.method,
        "--store",
        str(path),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [float(number) for number in shown]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="abmil")
    parser.add_argument("--rows", type=int, default=20, metavar="N", help="rows per bag")
    parser.add_argument("--width", type=int, default=256, metavar="N", help="feature width")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.store:
        print(*train(arguments.store, arguments.method))
        return
    lines, seconds = [], {}
    with Console(stderr=True).status("measuring"), tempfile.TemporaryDirectory() as place:
        for bags in sorted({*_MEMORY, *_TIME}):
            seconds[bags], *grown = _in_a_process(Path(place), bags, arguments)
            lines.append([f"{bags:,}", f"{seconds[bags]:.2f}", *(f"{each:.0f}" for each in grown)])
    head = [
        "bags",
        "an epoch of a fold, processor s",
        "memory beyond model and torch, MB, training",
        "until validated",
    ]
    print(table(head, lines))
    exponent = np.polyfit(np.log(_TIME), np.log([seconds[bags] for bags in _TIME]), 1)[0]
    print(f"\ntime grows with the number of bags to the power {exponent:.3f} (target: below 1.05)")


if __name__ == "__main__":
    main()
