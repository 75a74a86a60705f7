"""Partitions of slides that keep groups whole and class shares alike."""

from __future__ import annotations

import warnings

import numpy as np

from mil_bench.errors import SplitError

Cut = tuple[np.ndarray, np.ndarray]
"""Row numbers that stay, and row numbers that are held out."""


def cut_groups(
    rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, parts: int, seed: int
) -> list[Cut]:
    """Divide rows into parts by group, stratified by label; each cut holds out one part.

    Args:
        rows: numbers of the rows to divide.
        labels: class index of every row, also of those that are not divided.
        groups: group of every row.
        parts: how many are wanted; fewer are made if there are fewer groups, or fewer rows of
            every class.
        seed: decides among equally good ways.

    Raises:
        SplitError: there are not enough groups for two parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    n_groups = len(set(groups[rows]))
    parts = min(parts, n_groups, np.bincount(labels[rows]).max())
    if parts < 2:
        raise SplitError(
            f"{n_groups} groups are too few to hold out a validation part. Use fewer folds."
        )
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # scikit-learn warns of a class with fewer members than folds; the audit names such folds.
        warnings.simplefilter("ignore", UserWarning)
        return [(rows[a], rows[b]) for a, b in splitter.split(rows, labels[rows], groups[rows])]
