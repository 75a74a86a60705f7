"""Training in a worker: a task goes in, results come out as values. The parent stores them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import mil_bench
from mil_bench import devices, registry, seeds
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore
from mil_bench.datasets.card import MEAN
from mil_bench.datasets.patients import combined
from mil_bench.errors import TrainingError
from mil_bench.evaluation.predictions import (
    REPEATS,
    UP_TO_ROUNDING,
    Predictions,
    TrainedFold,
)
from mil_bench.methods import Fit, Method, Recipe
from mil_bench.methods.recipe import recipe_from_json
from mil_bench.running.code_version import commit
from mil_bench.running.denormals import denormals_as_zero
from mil_bench.running.faults import advice_for, reason_of, whole_traceback
from mil_bench.running.result_store import Failure, PrunedFold
from mil_bench.running.task import Begun, EpochDone, FoldTask, Task
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.memory import freed_memory_kept, in_parts_that_fit
from mil_bench.training.own_fit import FittedFolds
from mil_bench.training.sampling import BalancedDraws, balanced
from mil_bench.training.stack import LoopedStack, Models
from mil_bench.training.trainer import FoldHistory, FoldRoles, Schedule, fit, predict
from mil_bench.training.witnesses import WitnessWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mil_bench.methods.yardstick import Yardstick
    from mil_bench.planning.plan import Job


def attempt(
    task: Task, on_epoch: Callable[[EpochDone | Begun], None]
) -> list[TrainedFold | PrunedFold] | Failure:
    """``train``, with everything that a method may raise as a value, ``sys.exit()`` included.

    Raises:
        KeyboardInterrupt: Ctrl-C, if this is the process of the run itself.
    """
    started, folder = time.monotonic(), Path.cwd()
    try:
        on_epoch(Begun(task.key, os.getpid()))
        return train(task, on_epoch)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and multiprocessing.parent_process() is None:
            raise
        seconds = round(time.monotonic() - started, 3)
        epochs = getattr(error, "epochs", 0)
        reason = reason_of(error) + advice_for(error)
        return Failure(reason, seconds, epochs, whole_traceback(error))
    finally:
        os.chdir(folder)  # a method may have left it


def train(
    task: Task,
    on_epoch: Callable[[Any], None] = lambda event: None,  # noqa: ARG005 - nobody listens
) -> list[TrainedFold | PrunedFold]:
    """Train the folds of a task and predict their test slides once; pruned folds predict nothing.

    Args:
        task: what to train.
        on_epoch: is called after every epoch.

    Raises:
        TrainingError: a loss is not finite.
    """
    store = _bags_of(task)
    for plugin in task.plugins:
        registry.methods.add_file(plugin, Method)
    if not task.job.is_trained:
        return [_measure(task, store, part) for part in task.folds]
    device, remarks = torch.device(task.device), [""]

    def together(folds: Sequence[FoldTask], may_stay: bool) -> list[TrainedFold | PrunedFold]:
        feed = Feed(store, device, may_stay=may_stay)

        def on_event(event: EpochDone) -> None:  # the parent knows the whole task only
            on_epoch(replace(event, task=task.key, note=event.note or remarks[-1]))

        return _train_together(replace(task, folds=tuple(folds)), store, feed, on_event)

    def say(remark: str) -> None:
        remarks.append(f"{task.job.label}: {remark}")

    order = devices.same_order(device) if task.deterministic else contextlib.nullcontext()
    with _one_thread(), denormals_as_zero(), freed_memory_kept(), order:
        return in_parts_that_fit(task.folds, together, device, say)


def _train_together(
    task: Task, store: BagStore, feed: Feed, on_epoch: Callable[[EpochDone], None]
) -> list[TrainedFold | PrunedFold]:
    """Train all folds of a task at the same time."""
    started = time.monotonic()
    job, device = task.job, torch.device(task.device)
    recipe = recipe_from_json(job.recipe)

    def report(epoch: int, histories: list[FoldHistory]) -> None:  # noqa: ARG001 - only counted
        note = _note(models, job.label, device)
        on_epoch(
            EpochDone(task.key, job.label, job.seed, task.numbers, epoch + 1, recipe.epochs, note)
        )

    models, parameters = _build(task, store, recipe, device)
    roles = _roles(task, store, recipe)
    if isinstance(models, FittedFolds):
        histories = models.fit(feed, roles, report)
    else:
        assert isinstance(recipe, Recipe)
        bags, identity = Task.positions(task.ever_train), (job.seed, job.dataset, job.method)
        schedule = Schedule.over(bags, task.mean_train, recipe, identity)
        histories = fit(models, feed, roles, schedule, recipe, report)
    predictions = [
        None if histories[k].pruned else _predict(models, feed, store, part.test, k)
        for k, part in enumerate(task.folds)
    ]
    seconds = round((time.monotonic() - started) / len(task.folds), 3)
    results: list[TrainedFold | PrunedFold] = []
    for k, part in enumerate(task.folds):
        history = histories[k]
        curves = _curves(history)
        if (predicted := predictions[k]) is None:
            results.append(PrunedFold(part.fold, curves, seconds))
            continue
        measured, by_slide = _measured(predicted, job)
        result = TrainedFold(
            seed=job.seed,
            fold=part.fold,
            job_key=job.key,
            predictions=measured,
            by_slide=by_slide,
            epochs=recipe.epochs,
            best_epoch=history.best_epoch,
            curves=curves,
            slides=_sizes(part, store),
            seconds=seconds,
            environment=_environment(device, task.deterministic),
            in_dim=store.width,
            parameters=parameters,
            weights={name: _array(value) for name, value in models.state(k).items()},
        )
        results.append(result)
    return results


def _bags_of(task: Task) -> BagStore:
    """The bags of a task.

    Raises:
        TrainingError: the label file is not the one with which the run was planned.
    """
    store = combined(BagStore(task.store, task.labels), task.job.combine)
    if task.labels is not None and store.digest != task.job.data_digest:
        raise TrainingError(f"{task.labels.name} was replaced while the run trained; run it again")
    return store


def _roles(task: Task, store: BagStore, recipe: Recipe | Fit) -> list[FoldRoles]:
    """What each fold of a task trains and validates on."""
    roles = []
    for part in task.folds:
        train = Task.positions(part.train)
        labels = store.labels[train]
        worth = balanced(labels) if recipe.class_weights == "balanced" else None
        identity = (task.job.seed, task.job.dataset, task.job.method, part.fold)
        draws = None
        if isinstance(recipe, Recipe) and recipe.sampler == "balanced":
            draws = BalancedDraws(train, labels, worth, identity)
        roles.append(FoldRoles(train, part.val.astype(np.int64), part.limits, worth, draws))
    return roles


def _sizes(part: FoldTask, store: BagStore) -> dict[str, int]:
    """Number of slides by role."""
    bags = {"train": Task.positions(part.train), "val": part.val, "test": part.test}
    return {role: sum(len(store.ranges[bag]) for bag in own.tolist()) for role, own in bags.items()}


def _measured(predicted: Predictions, job: Job) -> tuple[Predictions, Predictions | None]:
    """What is measured of a fold; and, if slides of a patient are averaged, what of."""
    return (predicted.of_patients(), predicted) if job.combine == MEAN else (predicted, None)


def _measure(task: Task, store: BagStore, part: FoldTask) -> TrainedFold:
    """A yardstick's fold: nothing is trained, no image is read."""
    yardstick: Yardstick = registry.yardsticks.load(task.job.method)()
    groups = store.slides["group"].to_numpy()
    train, test = Task.positions(part.train), part.test
    fine = yardstick.predict(
        store.labels[train], groups[train], groups[test], store.hierarchy.n_fine
    )
    made = Predictions(_slides(store, test), store.labels[test], fine, _groups(store, test))
    predictions, by_slide = _measured(made, task.job)
    environment = _environment(torch.device("cpu"))
    return TrainedFold(
        task.job.seed,
        part.fold,
        task.job.key,
        predictions,
        by_slide=by_slide,
        slides=_sizes(part, store),
        environment=environment,
    )


def _build(
    task: Task, store: BagStore, recipe: Recipe | Fit, device: torch.device
) -> tuple[LoopedStack | FoldStack | FittedFolds, int]:
    """The fastest stack for the device, and how many parameters each of its models has.

    On a CPU it trains fold after fold, on a GPU all folds as one.
    """
    job = task.job
    build = registry.methods.load(job.method)
    identities = [(job.seed, job.dataset, job.method, fold) for fold in task.numbers]
    methods = []
    for identity in identities:
        with seeds.torch_seeded(*identity, "weights"):
            methods.append(build(store.width, store.hierarchy, **job.params).to(device))
    parameters = sum(weight.numel() for weight in methods[0].parameters())
    if isinstance(recipe, Fit):
        return FittedFolds(methods, identities), parameters
    kind = FoldStack if build.stackable and not devices.is_cpu(device) else LoopedStack
    return kind(methods, recipe, identities), parameters


def _curves(history: FoldHistory) -> dict[str, list[float]]:
    """What a fold's epochs gave, by name."""
    return {
        "train_loss": history.train_loss,
        "val_loss": history.val_loss,
        "val_accuracy": history.val_accuracy,
    }


def _note(stack: Models, label: str, device: torch.device) -> str:
    """Why the folds are not computed as one on a device where others are; "" if they are."""
    if isinstance(stack, FoldStack):
        reason = stack.why_looped
    elif isinstance(stack, FittedFolds):
        reason = ""
    else:
        reason = "" if devices.is_cpu(device) else "the method declares stackable = False"
    return f"{label} is trained fold after fold: {reason}" if reason else ""


def _predict(models: Models, feed: Feed, store: BagStore, test: np.ndarray, k: int) -> Predictions:
    """What fold k predicts for its test bags."""
    witnesses = WitnessWatch()
    bags = test.astype(np.int64)
    predicted = predict(models, feed, bags, k, witnesses)
    slides, coarse = _slides(store, bags), predicted.coarse_logits
    is_finite = predicted.fine_logits.isfinite().all(1).numpy()
    if not is_finite.all():
        raise TrainingError(
            f"the predictions of {(~is_finite).sum()} test {store.unit}s are not finite "
            f"(first: {slides[~is_finite][0]}); check their features"
        )
    return Predictions(
        slides=slides,
        labels=predicted.labels.numpy(),
        fine=predicted.fine_logits.double().softmax(1).numpy(),
        groups=_groups(store, bags),
        coarse_head=None if coarse is None else coarse.double().softmax(1).numpy(),
        attention_auc=witnesses.aucs,
    )


def _slides(store: BagStore, bags: np.ndarray) -> np.ndarray:
    """Ids of the bags."""
    return store.slides["slide"].to_numpy()[bags].astype(str)


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


def _environment(device: torch.device, deterministic: bool = False) -> dict[str, str]:
    """What trained; of a GPU also how well a repetition agrees, see ``RunResult.caption``."""
    agreement = "bit for bit" if deterministic else UP_TO_ROUNDING
    repeats = {} if devices.is_cpu(device) else {REPEATS: agreement}
    return repeats | {
        "mil_bench": mil_bench.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": devices.model_of(device),
    }
