"""Training in a worker: a small value goes in, results come out as values. The parent records them."""

from __future__ import annotations

import contextlib
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

import mil_bench
from mil_bench import registry, seeds
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore
from mil_bench.code_version import commit
from mil_bench.errors import MilBenchError, TrainingError
from mil_bench.evaluation.predictions import Predictions
from mil_bench.methods import Method, Recipe
from mil_bench.running.executors import report
from mil_bench.running.result_store import Failure, FoldResult, PrunedFold
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.memory import freed_memory_kept
from mil_bench.training.stack import LoopedStack, Stack
from mil_bench.training.trainer import FoldHistory, FoldRoles, Schedule, fit, predict
from mil_bench.training.witnesses import WitnessWatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mil_bench.methods.yardstick import Yardstick
    from mil_bench.planning.plan import Job
    from mil_bench.splits.plan import SplitPlan


@dataclass(frozen=True)
class Task:
    """Some folds of a job, and where to find the bags.

    Args:
        job: what to train.
        folds: which folds.
        splits: all folds of the job; the order of bags depends on all of them, so that a fold's
            result does not depend on which folds are trained beside it.
        store: path of the bag store.
        device: "cpu" or "cuda".
        plugins: files whose methods are offered beside the installed ones.
        limits: for each of ``folds`` one number an epoch; a fold whose validation loss never got
            below is given up.
    """

    job: Job
    folds: tuple[int, ...]
    splits: SplitPlan
    store: Path
    device: str
    plugins: tuple[Path, ...] = ()
    limits: tuple[np.ndarray | None, ...] = ()


@dataclass(frozen=True)
class EpochDone:
    """Sent after every epoch of a task."""

    label: str
    seed: int
    folds: tuple[int, ...]
    epoch: int
    epochs: int


def attempt(task: Task) -> list[FoldResult | PrunedFold] | Failure:
    """``train``, with whatever it throws as a value: a method may throw anything, also what cannot be pickled."""
    started = time.monotonic()
    try:
        return train(task)
    except Exception as error:
        reason = (
            str(error) if isinstance(error, MilBenchError) else f"{type(error).__name__}: {error}"
        )
        return Failure(reason, round(time.monotonic() - started, 3), getattr(error, "epochs", 0))


def train(task: Task) -> list[FoldResult | PrunedFold]:
    """Train the folds of a task and predict their test slides once; reports an ``EpochDone`` after every epoch.

    A fold that is given up on the way predicts nothing.

    Raises:
        TrainingError: a loss is not finite.
    """
    started = time.monotonic()
    job, device = task.job, torch.device(task.device)
    store = BagStore(task.store)
    for plugin in task.plugins:
        registry.methods.add_file(plugin, Method)
    if job.method in registry.yardsticks.names():
        return [_measure(task, store, k) for k in task.folds]
    feed = Feed(store, device)
    recipe = Recipe(**{**job.recipe, "betas": tuple(job.recipe["betas"])})
    identity = (job.seed, job.dataset, job.method)
    all_train = [store.index_of(fold.train) for fold in task.splits.folds]
    limits = task.limits or (None,) * len(task.folds)
    roles = [
        FoldRoles(all_train[k], store.index_of(task.splits.folds[k].val), limit)
        for k, limit in zip(task.folds, limits, strict=True)
    ]

    def on_epoch(epoch: int, histories: list[FoldHistory]) -> None:
        report(EpochDone(job.label, job.seed, task.folds, epoch + 1, recipe.epochs))

    with _one_thread(), freed_memory_kept():
        stack = _build_stack(task, store, recipe, device)
        histories = fit(
            stack, feed, roles, Schedule.of(all_train, recipe, identity), recipe, on_epoch
        )
        predictions = [
            None
            if histories[i].pruned
            else _predict(stack, feed, store, task.splits.folds[k].test, i)
            for i, k in enumerate(task.folds)
        ]
    seconds = round((time.monotonic() - started) / len(task.folds), 3)
    results: list[FoldResult | PrunedFold] = []
    for i, k in enumerate(task.folds):
        curves = {
            name: getattr(histories[i], name) for name in ("train_loss", "val_loss", "val_accuracy")
        }
        if (predicted := predictions[i]) is None:
            results.append(PrunedFold(k, curves, seconds))
            continue
        found = FoldResult(
            fold=k,
            predictions=predicted,
            best_epoch=histories[i].best_epoch,
            curves=curves,
            slides={
                role: len(getattr(task.splits.folds[k], role)) for role in ("train", "val", "test")
            },
            seconds=seconds,
            environment=_environment(device),
            in_dim=store.width,
            weights={name: _array(value) for name, value in stack.state(i).items()},
        )
        results.append(found)
    return results


def _measure(task: Task, store: BagStore, k: int) -> FoldResult:
    """A yardstick's fold: nothing is trained, no image is read."""
    yardstick: Yardstick = registry.yardsticks.load(task.job.method)()
    fold, groups = task.splits.folds[k], store.slides["group"].to_numpy()
    train, test = store.index_of(fold.train), store.index_of(fold.test)
    fine = yardstick.predict(
        store.labels[train], groups[train], groups[test], store.hierarchy.n_fine
    )
    slides = {role: len(getattr(fold, role)) for role in ("train", "val", "test")}
    predictions = Predictions(
        np.array(fold.test, dtype=str), store.labels[test], fine, _groups(store, test)
    )
    return FoldResult(k, predictions, -1, {}, slides, 0.0, _environment(torch.device("cpu")))


def _build_stack(task: Task, store: BagStore, recipe: Recipe, device: torch.device) -> Stack:
    """The fastest stack for the device: on a CPU fold after fold, on a GPU all folds as one."""
    job = task.job
    build = registry.methods.load(job.method)
    identities = [(job.seed, job.dataset, job.method, k) for k in task.folds]
    methods = []
    for identity in identities:
        with seeds.torch_seeded(*identity, "weights"):
            methods.append(build(store.width, store.hierarchy, **job.params).to(device))
    kind = FoldStack if device.type == "cuda" and build.stackable else LoopedStack
    return kind(methods, recipe, identities)


def _predict(
    stack: Stack, feed: Feed, store: BagStore, slides: tuple[str, ...], k: int
) -> Predictions:
    """What fold k of the stack says about some slides."""
    witnesses = WitnessWatch()
    predicted = predict(stack, feed, store.index_of(slides), k, witnesses)
    coarse = predicted.coarse_logits
    if not predicted.fine_logits.isfinite().all():
        bad = [
            s
            for s, row in zip(slides, predicted.fine_logits, strict=True)
            if not row.isfinite().all()
        ]
        raise TrainingError(
            f"the predictions of {len(bad)} test slides are not finite (first: {bad[0]}); check their features"
        )
    return Predictions(
        slides=np.array(slides, dtype=str),
        labels=predicted.labels.numpy(),
        fine=predicted.fine_logits.double().softmax(1).numpy(),
        groups=_groups(store, store.index_of(slides)),
        coarse_head=None if coarse is None else coarse.double().softmax(1).numpy(),
        attention_auc=witnesses.aucs,
    )


def _array(value: torch.Tensor) -> np.ndarray:
    """A tensor for NumPy, which has no bfloat16."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _groups(store: BagStore, bags: np.ndarray) -> np.ndarray:
    """Groups of the bags as text; "" where the store knows none."""
    groups = store.slides["group"].to_numpy()[bags] if store.group_name else np.full(len(bags), "")
    return groups.astype(str)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One compute thread inside the block.

    Bags are small, so two trainings side by side are faster than one on two threads, and results do
    not depend on how many cores a machine has.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _environment(device: torch.device) -> dict[str, str]:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "mil_bench": mil_bench.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": name,
    }
