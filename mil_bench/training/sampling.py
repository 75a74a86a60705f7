"""Training bags drawn with replacement, so that the classes come equally often.

This is the sampler that CLAM's authors call weighted (``torch.utils.data.WeightedRandomSampler``).
Each fold draws for itself, from its own training bags: what it draws depends on its seed and on the
epoch, and not on the folds that are trained with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mil_bench import seeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class BalancedDraws:
    """The draws of one fold: as many in an epoch as the fold has training bags.

    Args:
        bags: positions of the training bags ``[n]``.
        labels: their classes ``[n]``.
        worth: what each counts in the loss ``[n]``, None for 1.
        identity: of the training; seeds the draws.
    """

    bags: np.ndarray
    labels: np.ndarray
    worth: np.ndarray | None
    identity: tuple[str | int, ...]

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the bags that are drawn, and what each counts, both ``[n]``, in order."""
        chances = torch.from_numpy(balanced(self.labels))
        generator = seeds.torch_generator(*self.identity, "draws", epoch)
        draws = torch.multinomial(chances, len(self.bags), replacement=True, generator=generator)
        worth = np.ones(len(self.bags)) if self.worth is None else self.worth
        return self.bags[draws.numpy()], worth[draws.numpy()]


def drawn_batches(
    folds: Sequence[BalancedDraws | None], size: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of an epoch: what each fold has drawn next, together.

    Args:
        folds: the draws of every fold, None for a fold that is no longer trained.
        size: draws per fold and batch.
        epoch: its number.

    Yields:
        Positions of the bags ``[B]``, and each fold's weights of them ``[K, B]``. A bag that a fold
        has drawn twice is there twice.
    """
    drawn = [None if fold is None else fold.epoch(epoch) for fold in folds]
    longest = max((len(each[0]) for each in drawn if each), default=0)
    for start in range(0, longest, size):
        part = slice(start, start + size)
        rows = []
        for each in drawn:
            row: dict[tuple[int, int], float] = {}  # by bag, and how often the fold had it before
            for bag, worth in zip(*(a[part] for a in each), strict=True) if each else ():
                times = sum(before == bag for before, _ in row)
                row[int(bag), times] = float(worth)
            rows.append(row)
        bags = sorted({key for row in rows for key in row})  # a fold's order is that of it alone
        weights = [[row.get(key, 0.0) for key in bags] for row in rows]
        yield np.array([bag for bag, _ in bags]), np.array(weights, dtype=np.float32)


def balanced(labels: np.ndarray) -> np.ndarray:
    """A weight per bag, inversely proportional to the frequency of its class, with mean 1.

    Args:
        labels: of the bags ``[B]``.
    """
    _, position, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(counts) * counts))[position]
