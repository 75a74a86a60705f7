"""Yardsticks: references that see labels and groups, but no features.

A method is worth what it adds to them. The tables of every dataset with known groups have them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np


class Yardstick(ABC):
    """Predicts from the labels and groups of training slides alone."""

    version: ClassVar[int] = 1
    """Raise it if a change alters results."""

    @abstractmethod
    def predict(
        self, labels: np.ndarray, groups: np.ndarray, test_groups: np.ndarray, classes: int
    ) -> np.ndarray:
        """Probabilities of the test slides.

        Args:
            labels: fine labels of the training slides ``[T]``.
            groups: their groups ``[T]``.
            test_groups: groups of the test slides ``[B]``.
            classes: number of fine classes, C.

        Returns:
            ``[B, C]``, rows summing to 1.
        """
