"""Cutting slides into parts that keep groups whole and class shares alike."""

from __future__ import annotations

import warnings

import numpy as np

from mil_bench.errors import SplitError

Cut = tuple[np.ndarray, np.ndarray]
"""Row numbers that stay, and row numbers that are cut off."""


def cut_groups(
    rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, parts: int, seed: int
) -> list[Cut]:
    """Deal rows into parts by group, stratified by label; one cut a part.

    Args:
        rows: numbers of the rows to deal.
        labels: class index of every row, also of those not dealt.
        groups: group of every row.
        parts: how many are wanted; fewer are made where there are fewer groups, or fewer rows of
            every class.
        seed: decides among equally good ways.

    Raises:
        SplitError: there are not groups enough for two parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    parts = min(parts, len(set(groups[rows])), np.bincount(labels[rows]).max())
    if parts < 2:
        raise SplitError(
            f"{len(set(groups[rows]))} groups are too few to cut a validation part from. Ask for fewer folds."
        )
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # "The least populated class has fewer members than folds": such folds are shown as
        # undefined later on.
        warnings.simplefilter("ignore", UserWarning)
        return [(rows[a], rows[b]) for a, b in splitter.split(rows, labels[rows], groups[rows])]


def cut_validation(
    rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, parts: int, seed: int
) -> Cut:
    """Rows that train, and one part of them that validates."""
    choices = cut_groups(rows, labels, groups, parts, seed)
    # Where few groups hold a class, the first choice may validate on all of them: leave some for
    # training.
    return max(choices, key=lambda choice: len(set(labels[choice[0]])))
