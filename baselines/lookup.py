"""Looking a slide up by its patient: no image, no training."""

from __future__ import annotations

import numpy as np

from mil_bench.methods.yardstick import Yardstick

_PRIOR_WEIGHT = (
    1.0  # a patient's labels count against the class frequencies as if those were one more slide
)


class GroupLookup(Yardstick):
    """Image-free yardstick: a slide gets its patient's (or centre's) training labels, else the class frequencies."""

    def predict(
        self, labels: np.ndarray, groups: np.ndarray, test_groups: np.ndarray, classes: int
    ) -> np.ndarray:
        """Class frequencies, pulled towards the labels of the slide's own group as far as it has any."""
        frequencies = np.bincount(labels, minlength=classes) / len(labels)
        counts = {g: np.bincount(labels[groups == g], minlength=classes) for g in np.unique(groups)}
        own = np.stack([counts.get(g, np.zeros(classes)) for g in test_groups])  # [B, C]
        return (own + _PRIOR_WEIGHT * frequencies) / (own.sum(1, keepdims=True) + _PRIOR_WEIGHT)
