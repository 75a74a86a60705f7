"""Validation parts of all folds of a plan together: balanced, and every group in its turn."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.errors import SplitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.splits.stratified import Cut


def cut_validations(
    rests: Sequence[np.ndarray], labels: np.ndarray, groups: np.ndarray, parts: int, seed: int
) -> list[Cut]:
    """Hold out a validation part of every fold; groups stay whole.

    Each group is offered to all folds at once, large groups first, and validates where it brings
    the class counts nearest to those wanted. No group validates twice before every group was
    offered, so no group validates in fold after fold and never trains.

    Args:
        rests: per fold, numbers of the rows that train or validate.
        labels: class index of every row.
        groups: group of every row.
        parts: the inverse of the share of a rest that is wanted; it is lower where there are fewer
            groups, or fewer rows of every class.
        seed: decides among equally good groups.

    Returns:
        Per fold, positions in its rest: those that train, and those that validate.

    Raises:
        SplitError: a fold has less than two groups.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    counts = np.stack([_counted(rest, labels, group_of, len(names)) for rest in rests])
    turns = _Turns(counts, np.array([_share(count, parts) for count in counts]), seed)
    turns.fill()
    turns.fill_empty_folds()
    held_out = [turns.validates[k, group_of[rest]] for k, rest in enumerate(rests)]
    return [(rest[~held], rest[held]) for rest, held in zip(rests, held_out, strict=True)]


def _counted(rest: np.ndarray, labels: np.ndarray, group_of: np.ndarray, groups: int) -> np.ndarray:
    """``[groups, classes]`` rows of a fold."""
    counts = np.zeros((groups, labels.max() + 1), dtype=np.int32)
    np.add.at(counts, (group_of[rest], labels[rest]), 1)
    return counts


def _share(counts: np.ndarray, parts: int) -> float:
    """The share of a fold's rows, counted per group and class, that is to validate."""
    n_groups = np.count_nonzero(counts.any(1))
    parts = min(parts, n_groups, counts.sum(0).max())
    if parts < 2:
        raise SplitError(
            f"{n_groups} groups are too few to hold out a validation part. Use fewer folds."
        )
    return 1 / float(parts)


class _Turns:
    """Which groups validate in which folds.

    Args:
        counts: ``[folds, groups, classes]`` rows that train or validate.
        shares: ``[folds]`` share of them that is to validate.
        seed: decides among equally good groups.
    """

    def __init__(self, counts: np.ndarray, shares: np.ndarray, seed: int) -> None:
        self._counts = counts
        self._rows = counts.max(0)  # [groups, classes]
        self._present: np.ndarray = counts.sum(axis=2) > 0
        self._wanted = counts.sum(1) * shares[:, None]
        self._held = np.zeros_like(self._wanted)
        self._left = counts.sum(1)
        self._rng = np.random.default_rng(seed)
        self.validates: np.ndarray = np.zeros(counts.shape[:2], dtype=bool)
        """``[folds, groups]``"""

    def fill(self) -> None:
        """Offer every group once to all folds, and again while folds want more than all groups."""
        supply = self._rows.sum(axis=0)
        scarcity = supply.sum() / self._wanted.sum()
        if scarcity >= 1:
            self._offer(self._wanted, np.maximum(supply - self._wanted.sum(axis=0), 0))
            return
        for k in itertools.count(1):
            share = min(1.0, k * scarcity)
            if not self._offer(self._wanted * share, np.zeros_like(supply)) and share == 1:
                return

    def _offer(self, wanted: np.ndarray, idle: np.ndarray) -> bool:
        """Offer every group once; whether one was taken.

        Args:
            wanted: ``[folds, classes]`` rows that are to validate.
            idle: ``[classes]`` rows that need not validate. They compete as one more fold, so that
                large groups do not all validate.
        """
        passed, took = np.zeros_like(idle), False
        for g in self._order():
            best, gain = self._best_fold(g, wanted)
            if best is not None and (not idle.any() or gain > _gain(self._rows[g], passed, idle)):
                self._take(best, g)
                took = True
            else:
                passed += self._rows[g]
        return took

    def fill_empty_folds(self) -> None:
        """Where no group fits, one validates that leaves the most classes and did so least."""
        for k in np.flatnonzero(~self.validates.any(axis=1)):
            candidates = np.flatnonzero(self._present[k])
            left = np.count_nonzero(self._left[k] > self._counts[k, candidates], axis=1)
            gains = [_gain(self._counts[k, g], self._held[k], self._wanted[k]) for g in candidates]
            order = np.lexsort((gains, -self._times()[candidates], left))
            self._take(int(k), int(candidates[order[-1]]))

    def _order(self) -> np.ndarray:
        """Groups that validated least first, then large ones, then by chance."""
        chance = self._rng.permutation(len(self._rows))
        return np.lexsort((chance, -self._rows.sum(1), self._times()))

    def _times(self) -> np.ndarray:
        """``[groups]`` in how many folds they validate."""
        return np.asarray(self.validates.sum(axis=0))

    def _best_fold(self, g: int, wanted: np.ndarray) -> tuple[int | None, float]:
        """The fold where a group validates best, and what is gained; None if it may in none."""
        counts = self._counts[:, g]
        trains = self._present[:, g] & ~self.validates[:, g]
        may = trains & ((self._left > counts) | (counts == 0)).all(1)
        if not may.any() or (trains.sum() == 1 and self._present[:, g].sum() > 1):
            return None, 0.0
        gains = np.where(may, _gain(counts, self._held, wanted), -np.inf)
        best = int(gains.argmax())
        return (best, float(gains[best])) if gains[best] > 0 else (None, 0.0)

    def _take(self, k: int, g: int) -> None:
        self.validates[k, g] = True
        self._held[k] += self._counts[k, g]
        self._left[k] -= self._counts[k, g]


def _gain(counts: np.ndarray, held: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How much nearer to the wanted class counts rows come, as a chi-squared distance.

    Args:
        counts: ``[..., classes]`` rows to add.
        held: ``[..., classes]`` rows that are there.
        wanted: ``[..., classes]`` rows that are wanted.
    """
    scale = np.divide(1.0, wanted, out=np.zeros_like(wanted, dtype=float), where=wanted > 0)
    nearer = 2 * (wanted - held) - counts
    return np.asarray((nearer * counts * scale).sum(-1))
