"""Predicts a slide from the labels of its patient's other slides: no image, no training."""

from __future__ import annotations

import numpy as np

from mil_bench.methods.yardstick import Yardstick

# The class frequencies count as one slide more, next to the labels of the patient's own slides.
_PRIOR_WEIGHT = 1.0


class GroupLookup(Yardstick):
    """Yardstick without images: predicts the training labels of the slide's patient (or centre)."""

    def predict(
        self, labels: np.ndarray, groups: np.ndarray, test_groups: np.ndarray, classes: int
    ) -> np.ndarray:
        """Mean of the group's training labels and the class frequencies, see ``_PRIOR_WEIGHT``."""
        frequencies = np.bincount(labels, minlength=classes) / len(labels)
        counts = {g: np.bincount(labels[groups == g], minlength=classes) for g in np.unique(groups)}
        own = np.stack([counts.get(g, np.zeros(classes)) for g in test_groups])  # [B, C]
        return (own + _PRIOR_WEIGHT * frequencies) / (own.sum(1, keepdims=True) + _PRIOR_WEIGHT)
