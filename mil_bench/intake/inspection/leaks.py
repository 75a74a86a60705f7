"""Finds feature columns that are the label.

It has been published: a MUSK1 file with the instance label as its last feature. A column that is
the label, whatever its scale, with a little noise, one class against the rest or the coarse
classes, in every instance or only in the witnesses, shows in one of three statistics of a bag: its
minimum, mean or maximum. Sorted by that statistic, the bags fall into narrow clusters with wide
gaps between them, and each cluster holds whole classes. A column is reported if both hold:

- Narrow: every cluster is at most a tenth as wide as the narrowest gap. A real feature that
  separates the classes scatters within them about as much as between them. A column with one value
  per bag (which a feature of single patches never has) needs no narrow clusters: a running number
  of slides sorted by class is a leak too.
- Beyond chance: clusters of m1, m2, ... of n bags hold whole classes with a probability of
  clusters! * m1! m2! ... / n! if labels are assigned at random. Over all columns and the three
  statistics, less than one such clustering in a thousand data sets is expected. So a class of one
  or two bags never raises an alarm: it is always alone in its cluster.

Only the range of each class in each column is kept, so memory does not grow with the number of
bags.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_NARROW = 0.1
_EXPECTED_FALSE_ALARMS = 1e-3
_STATISTICS = ("minimum", "mean", "maximum")


@dataclass(frozen=True)
class LeakingColumn:
    """A column that gives the label away.

    Args:
        column: its position, counted from 0.
        statistic: which statistic of a bag shows it: "minimum", "mean" or "maximum".
        clusters: the classes that share a cluster, from the lowest values to the highest.
    """

    column: int
    statistic: str
    clusters: tuple[tuple[int, ...], ...]


class LabelLeaks:
    """Takes every bag once, then says which columns are the label.

    Args:
        classes: number of classes, C.
        width: number of columns, D.
    """

    def __init__(self, classes: int, width: int) -> None:
        self._counts = np.zeros(classes, dtype=np.int64)
        self._low = np.full((3, classes, width), np.inf, dtype=np.float32)
        self._high = np.full((3, classes, width), -np.inf, dtype=np.float32)
        self._is_constant = np.ones(width, dtype=bool)

    def add(self, label: int, lowest: np.ndarray, mean: np.ndarray, highest: np.ndarray) -> None:
        """Add a bag's minimum, mean and maximum ``[D]``, all finite."""
        numbers = np.stack([lowest, np.clip(mean, lowest, highest), highest])  # a mean is rounded
        self._counts[label] += 1
        np.minimum(self._low[:, label], numbers, out=self._low[:, label])
        np.maximum(self._high[:, label], numbers, out=self._high[:, label])
        self._is_constant &= lowest == highest

    def constant_within_bags(self) -> np.ndarray:
        """Positions of columns that vary between bags but not within any."""
        low, high = self._low[0].min(0), self._high[0].max(0)
        return np.flatnonzero(self._is_constant & (low < high))

    def columns(self) -> list[LeakingColumn]:
        """The columns that are the label, each once."""
        present = np.flatnonzero(self._counts)
        if len(present) < 2:
            return []
        leaks: dict[int, LeakingColumn] = {}
        for low, high, statistic in zip(
            self._low[:, present], self._high[:, present], _STATISTICS, strict=True
        ):
            for column in np.flatnonzero(_somewhere_apart(low, high)):
                clusters = _clusters(
                    low[:, column],
                    high[:, column],
                    0.0 if self._is_constant[column] else _NARROW,
                )
                if clusters and self._beyond_chance(
                    [present[list(cluster)] for cluster in clusters]
                ):
                    named = tuple(tuple(int(present[c]) for c in cluster) for cluster in clusters)
                    leaks.setdefault(int(column), LeakingColumn(int(column), statistic, named))
        return [leaks[column] for column in sorted(leaks)]

    def _beyond_chance(self, clusters: Sequence[np.ndarray]) -> bool:
        sizes = [int(self._counts[cluster].sum()) for cluster in clusters]
        chance = (
            math.lgamma(len(sizes) + 1)
            + sum(math.lgamma(m + 1) for m in sizes)
            - math.lgamma(sum(sizes) + 1)
        )
        looks = len(_STATISTICS) * self._low.shape[2]
        return chance + math.log(looks) < math.log(_EXPECTED_FALSE_ALARMS)


def _somewhere_apart(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Columns in which the ranges of the classes ``[C, D]`` do not all touch: a quick sieve."""
    order = np.argsort(low, axis=0)
    reached = np.maximum.accumulate(np.take_along_axis(high, order, 0), axis=0)
    return np.any(np.take_along_axis(low, order, 0)[1:] > reached[:-1], axis=0)


def _clusters(low: np.ndarray, high: np.ndarray, narrow: float) -> list[list[int]]:
    """Classes in clusters of touching ranges; none if a cluster is too wide.

    Args:
        low: lowest value of each class ``[C]``.
        high: highest value of each class ``[C]``.
        narrow: greatest width of a cluster as a share of the narrowest gap; 0 allows any width.
    """
    clusters: list[list[int]] = []
    ends: list[tuple[float, float]] = []
    for c in np.argsort(low, kind="stable"):
        if ends and low[c] <= ends[-1][1]:
            clusters[-1].append(int(c))
            ends[-1] = ends[-1][0], max(ends[-1][1], float(high[c]))
        else:
            clusters.append([int(c)])
            ends.append((float(low[c]), float(high[c])))
    gap = min(after[0] - before[1] for before, after in pairwise(ends)) if len(ends) > 1 else 0.0
    if gap <= 0 or (narrow and max(b - a for a, b in ends) > narrow * gap):
        return []
    return clusters
