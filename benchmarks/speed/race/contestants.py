"""One contestant of the training benchmark in its own process: builds models, trains on request.

    python -m mil_bench.benchmarks.speed.race.contestants '{"kind": "ours", "method": "abmil", ...}'

Every line on standard input requests one epoch of its folds. The answer is a line of JSON: seconds,
seconds of CPU time, and the peak memory in MB: of the process or, on a GPU, of the GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mil_bench.benchmarks.speed.race.cells import FOLDS, HIERARCHY, Spec, features
from mil_bench.benchmarks.speed.race.core_models import ABMIL, WIDTH
from mil_bench.benchmarks.speed.race.disk import read_slide
from mil_bench.benchmarks.speed.race.floor import products
from mil_bench.benchmarks.speed.race.loops import LOOPS
from torch import Tensor, nn

from mil_bench import devices, registry, seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore
from mil_bench.methods import BagByBag, Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.memory import freed_memory_kept
from mil_bench.training.stack import LoopedStack, Step, grouped
from mil_bench.training.trainer import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.hierarchy import LabelHierarchy


class Wrapped(BagByBag):
    """The ABMIL of the loop, as somebody would bring a model of their own."""

    recipe = Recipe(learning_rate=5e-4, epochs=20, weight_decay=1e-4)

    def build(self, in_dim: int, hierarchy: LabelHierarchy) -> nn.Module:  # noqa: ARG002
        """See the class."""
        return ABMIL(hierarchy.n_fine)


def _ours(spec: Spec) -> Callable[[], None]:
    """Our stack, fed from memory or from the store."""
    method = Wrapped if spec.kind == "wrapped" else registry.methods.load(spec.method)
    device = torch.device(spec.device)
    identities = [("speed", k) for k in spec.folds]
    methods = []
    for identity in identities:
        with seeds.torch_seeded(*identity):
            methods.append(method(WIDTH, HIERARCHY).to(device))
    stack = (FoldStack if spec.kind.startswith("stacked") else LoopedStack)(
        methods, method.recipe, identities
    )
    schedule = Schedule.of([spec.trains(k) for k in range(FOLDS)], method.recipe, ("speed",))
    trains = np.stack([np.isin(np.arange(spec.bags), spec.trains(k)) for k in spec.folds])
    reads, streams = (spec.kind.endswith(end) for end in ("reading", "streamed"))
    feed = None
    if reads or streams:
        feed = Feed(BagStore(Path(spec.place) / "bags.h5"), device, may_stay=reads)
    held = [] if feed else features(spec)
    labels, sizes = torch.from_numpy(spec.labels()), torch.from_numpy(spec.sizes())
    epochs = iter(range(10**6))

    def packed(bags: np.ndarray) -> BagBatch:
        rows = held[bags[0]] if len(bags) == 1 else torch.cat([held[b] for b in bags])
        return BagBatch.pack(rows, sizes[bags], devices.send(labels[bags], device))

    # The recipe's batches of several bags are packed once, since the loop's bags are ready, too.
    epoch = schedule.epoch(0)
    ready = None if feed or len(epoch[0]) == 1 else [packed(bags) for bags in epoch]
    if ready:
        held.clear()

    def train() -> None:
        number, losses = next(epochs), []
        batches = (schedule.epoch(number) if ready is None else epoch)[: spec.steps]
        source = feed.ahead(batches) if feed else ready or map(packed, batches)
        weights = [torch.from_numpy(trains[:, bags].astype(np.float32)) for bags in batches]
        sent = devices.send(torch.cat(weights, 1), device).split([len(b) for b in batches], 1)
        numbers = range(number * len(batches), (number + 1) * len(batches))
        for group in grouped(map(Step, source, weights, numbers, sent)):
            losses.append(stack.train(group, 0.5))
        torch.cat(losses).nanmean(0).tolist()

    return train


def _loop(spec: Spec) -> Callable[[], None]:
    """The authors' loop, fold after fold, from memory or from a file per slide."""
    loop, device = LOOPS[spec.method], torch.device(spec.device)
    reads = spec.kind.endswith("reading")
    held = [] if reads else features(spec)
    labels = torch.from_numpy(spec.labels()).to(device)
    parent = [HIERARCHY.coarse.index(HIERARCHY.coarse[p]) for p in HIERARCHY.parent]
    models = [loop.build(parent).to(device).train() for _ in spec.folds]
    optimizers = [loop.optimizer(model) for model in models]
    rng = np.random.default_rng(0)

    def bag(i: int) -> Tensor:
        if not reads:
            return held[i]
        return read_slide(spec, i).to(device)

    def train() -> None:
        for k, model, optimizer in zip(spec.folds, models, optimizers, strict=True):
            order = rng.permutation(spec.trains(k))
            loop.epoch(
                model,
                optimizer,
                len(order),
                lambda i, order=order: (bag(order[i]), labels[order[i], None]),
            )

    return train


def _floor(spec: Spec) -> Callable[[], None]:
    """Only the matrix products of ``products``, into memory that is already allocated."""
    held = features(spec)
    batch = registry.methods.load(spec.method).recipe.batch_size if spec.method == "hmil" else 1
    work = []
    for k in spec.folds:
        own = spec.trains(k)
        work += [
            products(spec.method, [held[b] for b in own[i : i + batch]])
            for i in range(0, len(own), batch)
        ]

    def train() -> None:
        for run in work:
            run()

    return train


MAKERS = {"ours": _ours, "wrapped": _ours, "stacked": _ours, "loop": _loop, "floor": _floor}


def serve(train: Callable[[], None], device: str) -> None:
    """Train an epoch for every line on standard input, and answer with its cost."""
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, own = time.perf_counter(), time.process_time()
        train()
        devices.synchronize(device)
        answer = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - own,
            "memory": _peak_memory(device),
        }
        print(json.dumps(answer), flush=True)


def _peak_memory(device: str) -> float:
    """In MB; on a GPU, that of the GPU."""
    if devices.is_gpu(device):
        return devices.peak_memory(torch.device(device)) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Build what the argument describes, and serve."""
    known = {field.name for field in dataclasses.fields(Spec)}
    given = {name: value for name, value in json.loads(sys.argv[1]).items() if name in known}
    spec = Spec(**{**given, "folds": tuple(given["folds"])})
    torch.set_num_threads(spec.threads)
    kind = spec.kind.partition("-")[0]
    # Ours trains with the settings of our worker processes, the others with those of a script.
    with freed_memory_kept() if MAKERS[kind] is not _loop else contextlib.nullcontext():
        serve(MAKERS[kind](spec), spec.device)


if __name__ == "__main__":
    main()
