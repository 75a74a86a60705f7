"""Slides by fold and role as split files list them, before anything is promised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import seeds
from mil_bench.splits.plan import ROLES, Fold, kind_of_test, parts_of
from mil_bench.splits.validation import cut_validations
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd

# A ninth of the 90 % that train and validate: 80/10/10, as in HMIL's splits.
_VALIDATION_PARTS = 9


@dataclass(frozen=True)
class SplitLists:
    """What split files list. Roles may be missing and slides may be repeated, for an audit to see.

    Args:
        title: what was read, in words ("HMIL's pickles in BRACS").
        folds: the folds; a role that is not listed is empty.
        numbers: the numbers of the folds in the files' names.
        labels: slide to the labels that the files give it; empty if they give none.
        groups: slide to the patient that the files give it; empty if they give none.
        first: the number that the first fold should have.
        protocol: the protocol that made them, "" if another tool did.
        dataset: slug of the dataset whose slides they list, "" if the files do not say it.
        refusals: why a run refuses the file itself, one line each; an import may still read it.
        respelled: ids as the files spell them to ids as the metadata do, where they differ.
        repeats: how often a cross-validation was repeated with other folds.
    """

    title: str
    folds: tuple[Fold, ...]
    numbers: tuple[int, ...]
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    first: int = 0
    protocol: str = ""
    dataset: str = ""
    refusals: tuple[str, ...] = ()
    respelled: Mapping[str, str] = field(default_factory=dict)
    repeats: int = 1

    @property
    def slides(self) -> list[str]:
        """All slides that are listed anywhere, sorted."""
        return sorted(
            {slide for fold in self.folds for role in ROLES for slide in getattr(fold, role)}
        )

    @property
    def source(self) -> str:
        """Where the folds come from and what they are, for captions."""
        return f"{self.title}, {kind_of_test(self.folds, self.repeats)}"

    def problems(self) -> list[str]:
        """Why these lists cannot be followed, one line each.

        If no fold has a validation part, that is no problem: one can be held out.
        """
        problems = []
        absent = sorted({*range(self.first, max(self.numbers))} - set(self.numbers))
        if absent:
            missing, present = (
                first_names(list(map(str, numbers))) for numbers in (absent, self.numbers)
            )
            problems.append(
                f"fold {missing} is missing; the files have {present}, and the first should be "
                f"{self.first}"
            )
        validates = any(fold.val for fold in self.folds)
        for number, fold in zip(self.numbers, self.folds, strict=True):
            for role in ROLES:
                slides = getattr(fold, role)
                if not slides and (role != "val" or validates):
                    problems.append(f"fold {number} lists no {role} slides")
                twice = [slide for slide, times in Counter(slides).items() if times > 1]
                if twice:
                    problems.append(
                        f"fold {number} lists {len(twice)} of its {role} slides more than once: "
                        f"{first_names(twice)}"
                    )
            parts = [set(getattr(fold, role)) for role in ROLES]
            both = sorted((parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2]))
            if both:
                problems.append(
                    f"fold {number} lists {len(both)} of its slides in more than one role: "
                    f"{first_names(both)}"
                )
        return problems + self._wrong_repeats()

    def _wrong_repeats(self) -> list[str]:
        """Why the folds are not those of a cross-validation that was repeated so often."""
        if self.repeats == 1:
            return []
        if len(self.folds) % self.repeats:
            return [f"{plural(len(self.folds), 'fold')} cannot be {self.repeats} repeats"]
        problems = []
        for number, part in enumerate(parts_of(self.folds, self.repeats), start=1):
            times = Counter(slide for fold in part for slide in set(fold.test))
            twice = sorted(slide for slide, often in times.items() if often > 1)
            if twice:
                slides = plural(len(twice), "slide")
                problems.append(
                    f"repeat {number} tests {slides} in more than one fold: {first_names(twice)}"
                )
        return problems

    def only(self, known: Collection[str], where: str) -> SplitLists:
        """The lists without the slides that are not known; the title says so.

        Args:
            known: the slides to keep.
            where: where the known slides are from ("the packed store study.h5").
        """
        listed = self.slides
        unknown = [slide for slide in listed if slide not in known]
        if not unknown:
            return self
        title = (
            f"{self.title} (without {len(unknown)} of {plural(len(listed), 'slide')}, "
            f"not in {where})"
        )
        kept = [
            Fold(*(tuple(s for s in getattr(fold, role) if s in known) for role in ROLES))
            for fold in self.folds
        ]
        return replace(self, title=title, folds=tuple(kept))

    def with_validation(self, slides: pd.DataFrame, group_name: str) -> SplitLists:
        """The lists with a validation part held out of every training part; the title says so.

        Args:
            slides: columns slide, label (class index) and group of all training slides.
            group_name: what a group is, "" if every slide is its own.

        Raises:
            SplitError: a training part has too few groups.
        """
        labels, groups, ids = (slides[column].to_numpy() for column in ("label", "group", "slide"))
        row_of = {slide: row for row, slide in enumerate(ids)}
        rests = [np.array([row_of[slide] for slide in fold.train]) for fold in self.folds]
        seed = seeds.derive("split-import", "val")
        cuts = cut_validations(rests, labels, groups, _VALIDATION_PARTS, seed)
        folds = [
            Fold(tuple(ids[train]), tuple(ids[val]), fold.test)
            for (train, val), fold in zip(cuts, self.folds, strict=True)
        ]
        rule = (
            "without a validation part; mil-bench holds out a ninth of the training "
            f"{group_name or 'slide'}s, stratified and seeded"
        )
        title = f"{self.title} ({rule})" if self.title else rule
        return replace(self, title=title, folds=tuple(folds))
