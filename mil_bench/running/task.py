"""Tasks: what a worker gets, as small values without torch, features or slide ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.bags.store import BagStore
    from mil_bench.planning.plan import Job
    from mil_bench.splits.plan import SplitPlan


@dataclass(frozen=True, eq=False)
class FoldTask:
    """One fold to train, as positions in the bag store.

    Args:
        fold: its number.
        train: bits of a mask over all bags of the store, see ``Task.positions``.
        val: positions of the validation slides, in the order of the split.
        test: positions of the test slides, in the order of the split.
        limits: one number per epoch; a fold whose lowest validation loss is above is pruned. None
            to train it to its end.
    """

    fold: int
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    limits: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """Some folds of a job that are trained together, and where the bags are.

    Args:
        job: what to train.
        folds: which folds.
        ever_train: bits of the mask of bags that any fold of the whole plan trains on. The order of
            bags depends on all folds, so that a fold's result does not depend on which folds are
            trained with it.
        mean_train: number of training slides per fold, averaged over all folds of the plan.
        store: path of the bag store.
        device: "cpu" or "cuda".
        plugins: files whose methods are offered beside the installed ones.
        labels: path of the label file whose labels count, None for those of the store.
        deterministic: whether a GPU computes in the same order every time.
    """

    job: Job
    folds: tuple[FoldTask, ...]
    ever_train: np.ndarray
    mean_train: float
    store: Path
    device: str
    plugins: tuple[Path, ...] = ()
    labels: Path | None = None
    deterministic: bool = False

    @property
    def key(self) -> str:
        """Names the task within a run."""
        return f"{self.job.key}-{'-'.join(map(str, self.numbers))}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the folds."""
        return tuple(part.fold for part in self.folds)

    @staticmethod
    def positions(bits: np.ndarray) -> np.ndarray:
        """Positions of the bags of a packed mask, ascending."""
        return np.flatnonzero(np.unpackbits(bits))


@dataclass(frozen=True)
class Begun:
    """Sent when a task begins.

    Args:
        task: key of the task.
        process: id of the process that trains it.
    """

    task: str
    process: int


@dataclass(frozen=True)
class EpochDone:
    """Sent after every epoch of a task.

    Args:
        task: key of the task.
        label: of the job.
        seed: of the job.
        folds: of the task.
        epoch: number of the epoch, from 1.
        epochs: number of epochs that the recipe asks for.
        note: what the user should know about how the method is trained, "" if nothing.
    """

    task: str
    label: str
    seed: int
    folds: tuple[int, ...]
    epoch: int
    epochs: int
    note: str = ""


class TaskMaker:
    """Makes the tasks of a plan.

    Args:
        splits: the folds.
        bags: the store that the tasks refer to.
        device: "cpu" or "cuda".
        plugins: files whose methods are offered beside the installed ones.
    """

    def __init__(
        self, splits: SplitPlan, bags: BagStore, device: str, plugins: tuple[Path, ...] = ()
    ) -> None:
        self._splits, self._bags, self._device, self._plugins = splits, bags, device, plugins
        train = [bags.index_of(fold.train) for fold in splits.folds]
        self._train = [self._bits(part) for part in train]
        self._ever_train = self._bits(np.concatenate(train))
        self._mean_train = float(np.mean([len(part) for part in train]))

    def task(
        self, job: Job, folds: Sequence[int], limits: Sequence[np.ndarray | None] = ()
    ) -> Task:
        """A task for some folds of a job, each with its limits for pruning, if there are any."""
        parts = []
        for fold, limit in zip(folds, limits or [None] * len(folds), strict=True):
            roles = self._splits.folds[fold]
            val, test = self._bags.index_of(roles.val), self._bags.index_of(roles.test)
            narrow = np.min_scalar_type(len(self._bags))
            parts.append(
                FoldTask(fold, self._train[fold], val.astype(narrow), test.astype(narrow), limit)
            )
        return Task(
            job,
            tuple(parts),
            self._ever_train,
            self._mean_train,
            Path(self._bags.path).absolute(),  # a plugin may change the current folder
            self._device,
            tuple(path.absolute() for path in self._plugins),
            self._bags.labels_path and self._bags.labels_path.absolute(),
        )

    def _bits(self, positions: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(self._bags), dtype=bool)
        mask[positions] = True
        return np.packbits(mask)
