"""A short training on every device, in processes of their own."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, NamedTuple

from mil_bench import devices
from mil_bench.commands.machine.finding import Finding
from mil_bench.running.executors import local
from mil_bench.running.setup import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

SECONDS = 10.0
"""Duration of a training."""
_ROWS, _WIDTH, _FOLDS, _BAGS = 500, 1024, 10, 8
_NEAR = 0.05  # share by which a first loss with products in bfloat16 may differ from a CPU's
_REMEDIES = (
    ("no kernel image", "Install a torch that was built for this GPU, or use --device cpu."),
    ("out of memory", "End what else uses the memory of the device, or use --device cpu."),
)


class Trained(NamedTuple):
    """What a training reached.

    Args:
        rate: bags per second, counted once per fold.
        loss: the first one of the first fold.
    """

    rate: float
    loss: float


def findings(method: str, seconds: float, say: Callable[[str], None]) -> Iterator[Finding]:
    """Speed of every device as a ratio to one core.

    Args:
        method: name of the method that is trained.
        seconds: how long each training takes.
        say: is told what is going on.
    """
    places = [(devices.CPU, 1)] + ([(devices.CPU, cores())] if cores() > 1 else [])
    first: Trained | None = None
    for device, workers in [*places, *((name, 1) for name in devices.gpu_names())]:
        on_cores = "one core" if workers == 1 else f"{workers} cores"
        subject = f"training on {on_cores if devices.is_cpu(device) else device}"
        say(f"{subject}: {seconds:.0f} seconds")
        try:
            trained = _together(device, workers, method, seconds)
        except Exception as error:  # a driver may raise anything
            yield Finding(subject, "fails", *_fault(error))
            continue
        first = first or trained
        yield _judged(subject, trained, first)


def _together(device: str, workers: int, method: str, seconds: float) -> Trained:
    """The sum over processes that train at the same time."""
    with local(workers) as pool:
        futures = [pool.submit(train, device, method, seconds) for _ in range(workers)]
        parts = [future.result() for future in futures]
    return Trained(sum(part.rate for part in parts), parts[0].loss)


def _judged(subject: str, trained: Trained, first: Trained) -> Finding:
    seen = f"{trained.rate:,.0f} bags per second"
    if trained is not first:
        seen += f", {trained.rate / first.rate:.1f} times one core"
    if abs(trained.loss - first.loss) <= _NEAR * abs(first.loss):
        return Finding(subject, seen)
    problem = f"The first loss is {trained.loss:.4g}, that of one core is {first.loss:.4g}."
    remedy = "Do not trust results of this device; try another driver or torch."
    return Finding(subject, seen, problem, remedy)


def _fault(error: Exception) -> tuple[str, str]:
    """Problem and remedy."""
    if isinstance(error, BrokenExecutor):
        problem = "The process died, most likely for want of memory or by a fault of the driver."
        return problem, "Use --workers 1; if that dies as well, try another torch or driver."
    line = str(error).strip().partition("\n")[0]
    text = f"{type(error).__name__}: {line}"
    remedy = next((r for part, r in _REMEDIES if part in text.lower()), "")
    return text, remedy or "Use --device cpu until this works."


def train(device: str, method: str, seconds: float) -> Trained:
    """Train a method on made bags as a worker does; runs in a process of its own.

    Args:
        device: its name.
        method: its name.
        seconds: how long.
    """
    import torch

    from mil_bench import registry, seeds
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.running.denormals import denormals_as_zero
    from mil_bench.training.fold_stack import FoldStack
    from mil_bench.training.memory import freed_memory_kept
    from mil_bench.training.stack import LoopedStack, Step

    torch.set_num_threads(1)
    place = torch.device(device)
    build = registry.methods.load(method)
    hierarchy = LabelHierarchy.flat(["a", "b", "c"])
    folds = 1 if devices.is_cpu(place) else _FOLDS
    with seeds.torch_seeded("doctor", "weights"):
        methods = [build(_WIDTH, hierarchy).to(place) for _ in range(folds)]
    draws = seeds.torch_generator("doctor", "bags")
    bags = [
        BagBatch.pack(
            torch.randn(_ROWS, _WIDTH, generator=draws).to(place),
            torch.tensor([_ROWS]),
            torch.tensor([number % 3], device=place),
        )
        for number in range(_BAGS)
    ]
    kind = LoopedStack if devices.is_cpu(place) else FoldStack
    stack = kind(methods, build.recipe, [("doctor", k) for k in range(folds)])
    weight = torch.ones(folds, 1)
    there = weight.to(place)

    def epoch(number: int) -> Tensor:
        steps = [Step(each, weight, number * _BAGS + i, there) for i, each in enumerate(bags)]
        return stack.train(steps, 0.0).cpu()  # waits for the device

    with denormals_as_zero(), freed_memory_kept():
        loss = epoch(0)[0, 0].item()  # not timed: it builds kernels and fills caches
        started, number = time.perf_counter(), 0
        while number == 0 or time.perf_counter() - started < seconds:
            number += 1
            epoch(number)
    return Trained(number * _BAGS * folds / (time.perf_counter() - started), loss)
