"""The training loop: validation chooses the epoch, test bags never come near it.

``fit`` receives the positions of training and validation bags only. Test bags are predicted once,
afterwards, by a separate call of ``predict``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from mil_bench import seeds
from mil_bench.errors import TrainingError
from mil_bench.training.stack import Identity, Stack, Step, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mil_bench.bags.batch import BagBatch
    from mil_bench.bags.feed import Feed
    from mil_bench.methods import Output, Recipe


@dataclass(frozen=True)
class FoldRoles:
    """Positions in the store of the bags that fold k trains on and validates on.

    ``limits`` holds one number an epoch: a fold whose lowest validation loss so far lies above it
    is given up.
    """

    train: np.ndarray
    val: np.ndarray
    limits: np.ndarray | None = None  # [epochs]


@dataclass(frozen=True)
class Schedule:
    """The order of bags, the same for every fold of a job.

    Args:
        bags: positions of all bags that any fold of the job trains on, also folds trained
            elsewhere.
        batch: bags a step so that a fold's own share of them is the recipe's batch size on average.
        identity: seeds the order of every epoch.
    """

    bags: np.ndarray
    batch: int
    identity: Identity

    @classmethod
    def of(cls, train_parts: Sequence[np.ndarray], recipe: Recipe, identity: Identity) -> Schedule:
        """From the training parts of all folds of a job."""
        mean_train = float(np.mean([len(part) for part in train_parts]))
        return cls.over(np.unique(np.concatenate(train_parts)), mean_train, recipe, identity)

    @classmethod
    def over(
        cls, bags: np.ndarray, mean_train: float, recipe: Recipe, identity: Identity
    ) -> Schedule:
        """From the bags that any fold trains on, ascending, and the mean number that one fold trains on."""
        share = mean_train / len(bags)
        return cls(bags, max(1, math.floor(recipe.batch_size / share)), identity)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Batches of one epoch, of nearly equal size."""
        order = seeds.generator(*self.identity, "order", epoch).permutation(self.bags)
        return np.array_split(order, math.ceil(len(order) / self.batch))


@dataclass
class FoldHistory:
    """Per-epoch curves of one fold, and the epoch it kept.

    ``val_loss`` is the plain cross-entropy of the fine classes, the same for every method: a
    method's own loss may change its weights with the epoch, which would make epochs incomparable.
    ``pruned`` says that the fold was given up because its lowest validation loss lay above its
    limit.
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
        """Whether the newest epoch has the lowest validation loss so far; the earliest of equals is kept."""
        return self.best_epoch < 0 or self.val_loss[-1] < self.val_loss[self.best_epoch]

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether the last improvement lies further back than the recipe allows."""
        return patience is not None and self.epochs - 1 - self.best_epoch >= patience

    def is_over(self, limits: np.ndarray | None) -> bool:
        """Whether the lowest validation loss so far lies above the newest epoch's limit ``[epochs]``."""
        return limits is not None and bool(self.val_loss[self.best_epoch] > limits[self.epochs - 1])


def fit(
    stack: Stack,
    feed: Feed,
    roles: Sequence[FoldRoles],
    schedule: Schedule,
    recipe: Recipe,
    on_epoch: Callable[[int, list[FoldHistory]], None],
) -> list[FoldHistory]:
    """Train every fold and leave it at the epoch with its lowest validation loss.

    Args:
        stack: K fresh folds.
        feed: reads batches.
        roles: one entry a fold.
        schedule: the order of bags.
        recipe: epochs, patience.
        on_epoch: called after every epoch with its number and the histories.

    Raises:
        TrainingError: a fold's loss is not finite.
    """
    histories = [FoldHistory() for _ in roles]
    active = np.ones(len(roles), dtype=bool)
    trains = np.stack([np.isin(schedule.bags, r.train) for r in roles])  # [K, bags of the schedule]
    for epoch in range(recipe.epochs):
        progress = epoch / recipe.epochs
        mean_loss = _epoch(stack, feed, schedule, trains & active[:, None], epoch, progress)
        for k in np.flatnonzero(active):
            _close_epoch(stack, feed, roles[k].val, histories[k], mean_loss[k], int(k))
            histories[k].pruned = histories[k].is_over(roles[k].limits)
            active[k] = not (histories[k].pruned or histories[k].out_of_patience(recipe.patience))
        on_epoch(epoch, histories)
        if not active.any():
            break
    stack.restore()
    return histories


def _epoch(
    stack: Stack, feed: Feed, schedule: Schedule, trains: np.ndarray, epoch: int, progress: float
) -> list[float]:
    """One pass over the bags; ``trains [K, bags of the schedule]`` says who trains on what. The folds' mean losses.

    Bags that only folds elsewhere train on are not read. Such steps still count, so that a step's
    number, and its dropout, do not depend on which folds are trained together.
    """
    batches = schedule.epoch(epoch)

    def own(bags: np.ndarray) -> np.ndarray:
        return trains[:, np.searchsorted(schedule.bags, bags)]  # [K, B]

    used = [i for i, bags in enumerate(batches) if own(bags).any()]
    parts = (batches[i][own(batches[i]).any(0)] for i in used)
    weights = (own(batches[i]) for i in used)
    steps = (
        Step(
            batch,
            torch.from_numpy(weight[:, weight.any(0)].astype(np.float32)),
            epoch * len(batches) + i,
        )
        for i, weight, batch in zip(used, weights, feed.ahead(parts), strict=True)
    )
    total, count = torch.zeros(len(trains), dtype=torch.float64), np.zeros(len(trains))
    for group in grouped(steps):
        moved = torch.stack([step.weight.any(1) for step in group])  # [steps, K]
        losses = stack.train(group, progress).double()
        total = total.to(losses.device) + torch.where(moved.to(losses.device), losses, 0.0).sum(0)
        count += moved.sum(0).numpy()
    return [a / b if b else math.nan for a, b in zip(total.tolist(), count.tolist(), strict=True)]


def _close_epoch(
    stack: Stack, feed: Feed, val: np.ndarray, history: FoldHistory, train_loss: float, k: int
) -> None:
    """Validate fold k and keep its weights if they are the best so far."""
    out = predict(stack, feed, val, k)
    val_loss = F.cross_entropy(out.fine_logits, out.labels).item()
    if not math.isfinite(train_loss) or not math.isfinite(val_loss):
        raise TrainingError(
            f"the loss is not finite after epoch {history.epochs + 1} "
            f"(training {train_loss}, validation {val_loss}); lower the learning rate or check the features",
            history.epochs + 1,
        )
    history.train_loss.append(train_loss)
    history.val_loss.append(val_loss)
    history.val_accuracy.append((out.fine_logits.argmax(1) == out.labels).float().mean().item())
    if history.improved():
        history.best_epoch = history.epochs - 1
        stack.keep(k)


@dataclass(frozen=True)
class Predicted:
    """Outputs of one fold for some bags, on the CPU, in the order asked for."""

    fine_logits: torch.Tensor  # [B, C]
    coarse_logits: torch.Tensor | None  # [B, G]
    labels: torch.Tensor  # [B]


def predict(
    stack: Stack,
    feed: Feed,
    bags: np.ndarray,
    k: int,
    on_batch: Callable[[BagBatch, Output], None] | None = None,
) -> Predicted:
    """Fold k's logits for the bags at these positions, in evaluation mode and without gradients.

    Args:
        stack: the trained folds.
        feed: reads batches.
        bags: positions in the store ``[B]``.
        k: which fold.
        on_batch: sees every batch with its output before both are let go; what belongs to instances
            is too large to be kept for all bags.
    """
    fine, coarse, labels = [], [], []
    for batch in feed.ahead(feed.by_rows(bags)):
        out = stack.forward(k, batch)
        if on_batch is not None:
            on_batch(batch, out)
        fine.append(out.fine.cpu())
        labels.append(batch.labels.cpu())
        if out.coarse is not None:
            coarse.append(out.coarse.cpu())
    return Predicted(torch.cat(fine), torch.cat(coarse) if coarse else None, torch.cat(labels))
