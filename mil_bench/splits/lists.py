"""Slides by fold and role as someone's files list them, before anything is promised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import seeds
from mil_bench.splits.plan import ROLES, Fold, kind_of_test
from mil_bench.splits.stratified import cut_validation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

_VALIDATION_PARTS = (
    9  # of 90 % that train and validate, a ninth validates: 80/10/10, as in HMIL's splits
)


@dataclass(frozen=True)
class SplitLists:
    """What split files list. Roles may be missing, slides may stand twice: an audit wants to see that.

    Args:
        title: what was read, in words ("HMIL's pickles in BRACS").
        folds: the folds; a role that is not listed is empty.
        numbers: the numbers of the folds in the files' names.
        labels: slide to the labels that the files give it; empty where they give none.
        groups: slide to the patient that the files give it; empty where they give none.
        first: number of the first fold where none is missing.
    """

    title: str
    folds: tuple[Fold, ...]
    numbers: tuple[int, ...]
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    first: int = 0

    @property
    def slides(self) -> list[str]:
        """All slides that are listed anywhere, sorted."""
        return sorted(
            {slide for fold in self.folds for role in ROLES for slide in getattr(fold, role)}
        )

    @property
    def source(self) -> str:
        """Where the folds come from and what they are, for captions."""
        return f"{self.title}, {kind_of_test(self.folds)}"

    def problems(self) -> list[str]:
        """Why these lists cannot be followed, one line each; that nothing at all validates can be mended."""
        found = []
        absent = sorted({*range(self.first, max(self.numbers))} - set(self.numbers))
        if absent:
            there = f"there are {first_of(self.numbers)}, and the first is {self.first}"
            found.append(f"fold {first_of(absent)} is missing; {there}")
        validates = any(fold.val for fold in self.folds)
        for number, fold in zip(self.numbers, self.folds, strict=True):
            for role in ROLES:
                slides = getattr(fold, role)
                if not slides and (role != "val" or validates):
                    found.append(f"fold {number} lists no {role} slides")
                twice = [slide for slide, times in Counter(slides).items() if times > 1]
                if twice:
                    found.append(
                        f"fold {number} lists {len(twice)} slides twice in {role}: {first_of(twice)}"
                    )
            parts = [set(getattr(fold, role)) for role in ROLES]
            both = sorted((parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2]))
            if both:
                found.append(f"fold {number} has {len(both)} slides in two roles: {first_of(both)}")
        return found

    def with_validation(self, slides: pd.DataFrame, group_name: str) -> SplitLists:
        """The lists with a validation part cut from every training part, groups kept whole; the title says so.

        Args:
            slides: columns slide, label (class index) and group of all training slides.
            group_name: what a group is, "" where every slide is its own.

        Raises:
            SplitError: a training part has too few groups.
        """
        labels, groups, ids = (slides[column].to_numpy() for column in ("label", "group", "slide"))
        row_of = {slide: row for row, slide in enumerate(ids)}
        made = []
        for k, fold in enumerate(self.folds):
            rows = np.array([row_of[slide] for slide in fold.train])
            train, val = cut_validation(
                rows, labels, groups, _VALIDATION_PARTS, seeds.derive("split-import", "val", k)
            )
            made.append(Fold(tuple(ids[train]), tuple(ids[val]), fold.test))
        rule = (
            f"by mil-bench, a ninth of the training {group_name or 'slide'}s, stratified and seeded"
        )
        return replace(
            self, title=f"{self.title} (no validation part there; cut {rule})", folds=tuple(made)
        )


def first_of(names: Sequence[int | str]) -> str:
    """The first five of some names."""
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
