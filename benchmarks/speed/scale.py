"""How time and memory grow with the number of bags in training, and with a bag in prediction.

    python -m mil_bench.benchmarks.speed.scale [--method abmil] [--rows 20] [--width 256]
    python -m mil_bench.benchmarks.speed.scale --bag 200000 [--width 1024] [--methods NAME ...]

The first: whether the time of training grows in proportion to the dataset, and memory does not
grow. Memory: one epoch of a fold on stores of 1,000 to 33,520 bags, each in a new process; the
maximum before a training step and before a validation step, whose batches have up to 8,192 rows.
Time: the exponent of its growth from 1,000 to 16,000 bags.

The second: what methods need to predict one bag of so many rows, and to make its map. Each is in a
new process, untrained and with its default settings (``wikg:pooling=attention`` gives others).
Memory is the highest of the process while it computes, beyond what it had with the features in
memory and the method set up.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mil_bench.benchmarks.bracs import BRACS
from mil_bench.benchmarks.speed.reading import own_memory, some_store
from mil_bench.benchmarks.speed.timing import table
from rich.console import Console

from mil_bench import registry
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore
from mil_bench.methods import Fit
from mil_bench.methods.settings import defaults_of, parse_settings
from mil_bench.training.memory import freed_memory_kept
from mil_bench.training.stack import LoopedStack, Step
from mil_bench.training.trainer import FoldRoles, Schedule, fit
from mil_bench.wording import split_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.methods import Method

_MEMORY, _TIME = (3352, 33520), (1000, 4000, 16000)
_SMALL = 20  # bags and their rows, with which a method is set up


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


def use(name: str, rows: int, width: int) -> list[float]:
    """What one bag costs.

    Args:
        name: of the method, with settings.
        rows: of the bag.
        width: of the features.

    Returns:
        MB, processor seconds and seconds of a prediction; then those of a map, NaN if there is
        none.
    """
    method = _set_up(name, width)
    features = torch.randn(rows, width)
    coords = torch.stack([torch.arange(rows) % 512, torch.arange(rows) // 512], dim=1)
    bags = BagBatch.pack(
        features, torch.tensor([rows]), torch.zeros(1, dtype=torch.int64), 256.0 * coords
    )
    parts: list[Callable[[BagBatch], object]] = [method]
    if not method.without_map:
        parts.append(method.instance_map)
    before = _memory("VmRSS")
    costs = [cost for part in parts for cost in _costs(part, bags, before)]
    return costs + [math.nan] * (6 - len(costs))


def _set_up(name: str, width: int) -> Method:
    """A method in evaluation mode that has seen small bags, so that torch is set up, too."""
    plain, given = split_settings(name)
    kind = registry.methods.load(plain)
    settings = parse_settings(plain, given, defaults_of(kind))
    method: Method = kind(width, BRACS.hierarchy, **settings)
    n, classes = _SMALL, BRACS.hierarchy.n_fine
    coords = 256.0 * torch.stack([torch.arange(n * n) % n, torch.arange(n * n) // n], dim=1)
    bags = BagBatch.pack(
        torch.randn(n * n, width), torch.full((n,), n), torch.arange(n) % classes, coords
    )
    if isinstance(method.recipe, Fit):
        method.fit([(bags, torch.ones(n))], [bags])
    method.eval()
    with torch.inference_mode():
        method(bags)
        method.instance_map(bags)
    return method


def _costs(part: Callable[[BagBatch], object], bags: BagBatch, before: float) -> list[float]:
    """MB beyond those ``before``, processor seconds and seconds."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far is the present one
    processor, started = time.process_time(), time.perf_counter()
    with torch.inference_mode():
        part(bags)
    seconds = [time.process_time() - processor, time.perf_counter() - started]
    return [_memory("VmHWM") - before, *seconds]


def _memory(name: str) -> float:
    """Megabytes of this process: present ones, "VmRSS", or the most so far, "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def _print_bags(rows: int, width: int, methods: list[str]) -> None:
    """Measure what the bag costs, and print it method by method: some take many minutes."""
    print(f"A bag of {rows:,} x {width:,}, {torch.get_num_threads()} threads\n")
    head = ["method"]
    for what in ("prediction", "map"):
        head += [f"{what}: memory beyond the features, MB", "processor s", "s"]
    print(table(head, []), flush=True)
    for name in methods:
        costs = _new_process("--bag", str(rows), "--width", str(width), "--use", name)
        cells = map(_shown, costs, ("{:,.0f}", "{:,.1f}", "{:,.1f}") * 2)
        print(f"| {' | '.join([name, *cells])} |", flush=True)


def _shown(value: float, form: str) -> str:
    return "none" if math.isnan(value) else form.format(value)


def _new_process(*words: str) -> list[float]:
    """The numbers that this command prints in a new process."""
    command = [sys.executable, "-m", "mil_bench.benchmarks.speed.scale", *words]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return [float(number) for number in shown]


def _print_growth(method: str, rows: int, width: int) -> None:
    """Measure and print how training grows with the number of bags."""
    lines, seconds = [], {}
    with Console(stderr=True).status("measuring"), tempfile.TemporaryDirectory() as place:
        for bags in sorted({*_MEMORY, *_TIME}):
            path = Path(place) / f"{bags}.h5"
            some_store(path, bags, rows, width, "float16")
            seconds[bags], *grown = _new_process("--method", method, "--store", str(path))
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="abmil")
    parser.add_argument("--rows", type=int, default=20, metavar="N", help="rows per bag")
    parser.add_argument(
        "--width", type=int, metavar="N", help="feature width (256, or 1,024 with --bag)"
    )
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bag", type=int, metavar="ROWS", help="predict one bag of so many rows")
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help="that predict the bag (default: all)"
    )
    parser.add_argument("--use", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    width = arguments.width or (1024 if arguments.bag else 256)
    if arguments.store:
        print(*train(arguments.store, arguments.method))
    elif arguments.use:
        print(*use(arguments.use, arguments.bag, width))
    elif arguments.bag:
        _print_bags(arguments.bag, width, arguments.methods or registry.methods.names())
    else:
        _print_growth(arguments.method, arguments.rows, width)


if __name__ == "__main__":
    main()
