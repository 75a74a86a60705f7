"""The training loop: validation selects the epoch, and test bags take no part.

``fit`` receives the positions of training and validation bags only. Test bags are predicted once,
afterwards, by a separate call of ``predict``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mil_bench import devices, seeds
from mil_bench.errors import TrainingError
from mil_bench.training.optim import Plateau
from mil_bench.training.sampling import BalancedDraws, drawn_batches
from mil_bench.training.stack import Identity, Models, Stack, Step, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mil_bench.bags.batch import BagBatch
    from mil_bench.bags.feed import Feed
    from mil_bench.methods import Output, Recipe


@dataclass(frozen=True)
class FoldRoles:
    """Positions in the store of the bags on which fold k trains and validates.

    ``limits`` has one number per epoch: a fold is pruned if its lowest validation loss so far is
    above it. ``worth`` has the weight of every training bag in the loss; None is 1 for all. With
    ``draws``, which all folds have or none, a fold trains on what is drawn from its training bags.
    """

    train: np.ndarray
    val: np.ndarray
    limits: np.ndarray | None = None  # [epochs]
    worth: np.ndarray | None = None  # [len(train)]
    draws: BalancedDraws | None = None


@dataclass(frozen=True)
class Schedule:
    """The order of bags, the same for every fold of a job.

    Args:
        bags: positions of all bags on which any fold of the job trains, including folds that are
            trained elsewhere.
        batch: bags per step, such that a fold's share of them is the recipe's batch size on
            average.
        identity: seeds the order of every epoch.
        share: the recipe's batch size.
    """

    bags: np.ndarray
    batch: int
    identity: Identity
    share: int

    @classmethod
    def of(cls, train_parts: Sequence[np.ndarray], recipe: Recipe, identity: Identity) -> Schedule:
        """From the training parts of all folds of a job."""
        mean_train = float(np.mean([len(part) for part in train_parts]))
        return cls.over(np.unique(np.concatenate(train_parts)), mean_train, recipe, identity)

    @classmethod
    def over(
        cls, bags: np.ndarray, mean_train: float, recipe: Recipe, identity: Identity
    ) -> Schedule:
        """From the bags on which any fold trains, ascending, and the mean number per fold."""
        share = mean_train / len(bags)
        together = max(1, math.floor(recipe.batch_size / share))
        return cls(bags, together, identity, recipe.batch_size)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Batches of one epoch, of nearly equal size."""
        order = seeds.generator(*self.identity, "order", epoch).permutation(self.bags)
        return np.array_split(order, math.ceil(len(order) / self.batch))


@dataclass
class FoldHistory:
    """Curves of one fold, with a value per epoch, and its selected epoch.

    ``val_loss`` is the plain cross-entropy of the fine classes, the same for every method. A
    method's own loss may change with the epoch, which would make epochs incomparable. ``pruned``
    is set if training ended because the lowest validation loss was above its limit.
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = -1
    pruned: bool = False

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.train_loss)

    def improved(self) -> bool:
        """Whether the last epoch has the lowest validation loss so far, and is the first to."""
        return self.best_epoch < 0 or self.val_loss[-1] < self.val_loss[self.best_epoch]

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether the last improvement was more epochs ago than the recipe allows."""
        return patience is not None and self.epochs - 1 - self.best_epoch >= patience

    def is_over(self, limits: np.ndarray | None) -> bool:
        """Whether the lowest validation loss is above the last epoch's limit.

        Args:
            limits: ``[epochs]``.
        """
        return limits is not None and bool(self.val_loss[self.best_epoch] > limits[self.epochs - 1])


def fit(
    stack: Stack,
    feed: Feed,
    roles: Sequence[FoldRoles],
    schedule: Schedule,
    recipe: Recipe,
    on_epoch: Callable[[int, list[FoldHistory]], None],
) -> list[FoldHistory]:
    """Train every fold, and load its weights of the epoch with the lowest validation loss.

    Args:
        stack: K newly built folds.
        feed: reads batches.
        roles: one entry per fold.
        schedule: the order of bags.
        recipe: epochs, patience.
        on_epoch: called after every epoch with its number and the histories.

    Raises:
        TrainingError: a fold's loss is not finite.
    """
    histories = [FoldHistory() for _ in roles]
    active = np.ones(len(roles), dtype=bool)
    plateaus = [Plateau(recipe) for _ in roles] if recipe.schedule == "plateau" else None
    for epoch in range(recipe.epochs):
        progress = epoch / recipe.epochs
        planned = list(_planned(schedule, roles, active, epoch))
        mean_loss = _epoch(stack, feed, planned, progress)
        for k in np.flatnonzero(active).tolist():
            history = histories[k]
            if close_epoch(stack, feed, roles[k].val, history, mean_loss[k], k):
                stack.keep(k)
            if plateaus:
                stack.scale_rate(k, plateaus[k].after(history.val_loss[-1]))
            history.pruned = history.is_over(roles[k].limits)
            active[k] = not (history.pruned or history.out_of_patience(recipe.patience))
        on_epoch(epoch, histories)
        if not active.any():
            break
    stack.restore()
    return histories


def _weights(bags: np.ndarray, roles: FoldRoles) -> np.ndarray:
    """A fold's weights of these bags, which are ascending, ``[bags]``."""
    weights = np.zeros(len(bags), dtype=np.float32)
    weights[np.searchsorted(bags, roles.train)] = 1.0 if roles.worth is None else roles.worth
    return weights


class _Planned(NamedTuple):
    bags: np.ndarray  # positions [B]
    weight: np.ndarray  # [K, B], float32
    number: int


def _planned(
    schedule: Schedule, roles: Sequence[FoldRoles], active: np.ndarray, epoch: int
) -> Iterator[_Planned]:
    """The steps of an epoch.

    Bags on which only folds elsewhere train are left out. Their steps still count, so that the
    number of a step, and thus its dropout, does not depend on which folds are trained together.

    Args:
        schedule: the order of bags.
        roles: one entry per fold.
        active: whether a fold is still trained ``[K]``.
        epoch: its number.
    """
    if roles[0].draws is not None:
        draws = [role.draws if on else None for role, on in zip(roles, active, strict=True)]
        most = len(schedule.bags)  # no fold has more draws
        for i, (bags, weight) in enumerate(drawn_batches(draws, schedule.share, epoch)):
            yield _Planned(bags, weight, epoch * most + i)
        return
    trains = np.stack([_weights(schedule.bags, r) for r in roles]) * active[:, None]
    batches = schedule.epoch(epoch)
    for i, bags in enumerate(batches):
        weight = trains[:, np.searchsorted(schedule.bags, bags)]  # [K, B]
        used = weight.any(0)
        if used.any():
            yield _Planned(bags[used], weight[:, used], epoch * len(batches) + i)


def _epoch(stack: Stack, feed: Feed, planned: Sequence[_Planned], progress: float) -> list[float]:
    """The steps of an epoch; the mean loss of every fold."""
    losses, moved = [], []
    for group in grouped(_steps(feed, planned)):
        losses.append(stack.train(group, progress))
        moved.append(torch.stack([step.weight.any(1) for step in group]))  # [steps, K]
    # Read here and not after each group, so that a GPU never waits for the next steps to be queued.
    parts = torch.cat(losses).cpu().double().split([len(part) for part in moved])
    total, count = torch.zeros(len(stack), dtype=torch.float64), torch.zeros(len(stack))
    for of_group, has_moved in zip(parts, moved, strict=True):
        total += torch.where(has_moved, of_group, 0.0).sum(0)
        count += has_moved.sum(0)
    return [a / b if b else math.nan for a, b in zip(total.tolist(), count.tolist(), strict=True)]


def _steps(feed: Feed, planned: Sequence[_Planned]) -> Iterator[Step]:
    """The planned steps with their batches; the weights of all go to the device in one copy."""
    weights = [torch.from_numpy(step.weight.astype(np.float32)) for step in planned]
    sent = devices.send(torch.cat(weights, 1), feed.device)
    parts = sent.split([weight.shape[1] for weight in weights], 1)
    batches = feed.ahead(step.bags for step in planned)
    for step, batch, weight, part in zip(planned, batches, weights, parts, strict=True):
        yield Step(batch, weight, step.number, part)


def close_epoch(
    models: Models, feed: Feed, val: np.ndarray, history: FoldHistory, train_loss: float, k: int
) -> bool:
    """Validate fold k; returns whether its weights are the best so far.

    Args:
        models: the folds.
        feed: reads batches.
        val: positions of the fold's validation bags.
        history: of the fold; gets the values of the epoch.
        train_loss: of the epoch.
        k: number of the fold.

    Raises:
        TrainingError: a loss is not finite.
    """
    out = predict(models, feed, val, k)
    val_loss = F.cross_entropy(out.fine_logits, out.labels).item()
    if not math.isfinite(train_loss) or not math.isfinite(val_loss):
        raise TrainingError(
            f"the loss is not finite after epoch {history.epochs + 1} "
            f"(training {train_loss}, validation {val_loss}); "
            "lower the learning rate or inspect the features",
            history.epochs + 1,
        )
    history.train_loss.append(train_loss)
    history.val_loss.append(val_loss)
    history.val_accuracy.append((out.fine_logits.argmax(1) == out.labels).float().mean().item())
    improved = history.improved()
    if improved:
        history.best_epoch = history.epochs - 1
    return improved


@dataclass(frozen=True)
class Predicted:
    """Outputs of one fold for some bags, on the CPU, in the order of the request."""

    fine_logits: torch.Tensor  # [B, C]
    coarse_logits: torch.Tensor | None  # [B, G]
    labels: torch.Tensor  # [B]


def predict(
    models: Models,
    feed: Feed,
    bags: np.ndarray,
    k: int,
    on_batch: Callable[[BagBatch, Output], None] | None = None,
) -> Predicted:
    """Fold k's logits for the bags at these positions, in evaluation mode and without gradients.

    Args:
        models: the trained folds.
        feed: reads batches.
        bags: positions in the store ``[B]``.
        k: number of the fold.
        on_batch: called with every batch and its output; outputs per instance are too large to be
            stored for all bags.
    """
    fine, coarse, labels = [], [], []
    for batch in feed.ahead(feed.by_rows(bags)):
        out = models.forward(k, batch)
        if on_batch is not None:
            on_batch(batch, out)
        fine.append(out.fine)
        labels.append(batch.labels)
        if out.coarse is not None:
            coarse.append(out.coarse)
    return Predicted(
        torch.cat(fine).cpu(),
        torch.cat(coarse).cpu() if coarse else None,
        torch.cat(labels).cpu(),
    )
