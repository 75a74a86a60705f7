"""The folds of a split, what they promise, and the digest that names them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLES = ("train", "val", "test")


@dataclass(frozen=True)
class Fold:
    """Slide ids by role, each sorted, so that folds of the same slides are equal and train equally.

    Args:
        train: slides that train.
        val: slides that choose the epoch.
        test: slides that test.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        for role in ROLES:
            object.__setattr__(self, role, tuple(sorted(getattr(self, role))))


@dataclass(frozen=True)
class SplitPlan:
    """The folds of a split and what they promise.

    Args:
        protocol: the protocol that made them.
        folds: the folds, in order.
        group_name: what a group is ("patient"), or "" if groups are unknown.
        leaks: per fold, the number of test slides whose group also trains or validates.
        val_leaks: per fold, the number of validation slides whose group also trains.
        source: where the folds come from, in words for a caption; "" if the protocol's name says
            it all.
        facts: what a caption must add, one clause each.
        repeats: how often the protocol was repeated, each time with other folds. The folds of a
            repeat follow each other.
    """

    protocol: str
    folds: tuple[Fold, ...]
    group_name: str
    leaks: tuple[int, ...]
    val_leaks: tuple[int, ...]
    source: str = ""
    facts: tuple[str, ...] = ()
    repeats: int = 1

    @cached_property
    def digest(self) -> str:
        """Names the exact assignment of slides: 16 hex digits."""
        return folds_digest(self.folds, self.repeats)

    @property
    def count(self) -> str:
        """The number of folds in words: "10 folds", "3 repeats x 10 folds"."""
        folds = plural(len(self.folds) // self.repeats, "fold")
        return folds if self.repeats == 1 else f"{self.repeats} repeats x {folds}"

    def repeat_of(self, fold: int) -> int:
        """The repeat that a fold belongs to, from 1."""
        return 1 + fold * self.repeats // len(self.folds)

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold; without repeats it is what versions before them wrote."""
        value = dataclasses.asdict(self)
        if self.repeats == 1:
            del value["repeats"]
        return value

    @property
    def leak_sentence(self) -> str:
        """What a caption must say about groups that are shared between roles."""
        if not self.group_name:
            return "patients are unknown, so training and test may share some"
        leaks, val_leaks = sum(self.leaks), sum(self.val_leaks)
        if leaks:
            tested = sum(len(fold.test) for fold in self.folds)
            return (
                f"LEAKS: {leaks} of {tested} test slides ({leaks / tested:.1%}) share a "
                f"{self.group_name} with training or validation"
            )
        if val_leaks:
            return (
                f"no test slide shares a {self.group_name} with training or validation, but "
                f"{val_leaks} validation slides share one with training"
            )
        return f"no {self.group_name} is shared between training, validation and test"


def folds_digest(folds: Sequence[Fold], repeats: int = 1) -> str:
    """Names an exact assignment of slides to ordered folds and roles: 16 hex digits."""
    lists = [[f.train, f.val, f.test] for f in folds]
    text = json.dumps(lists if repeats == 1 else [repeats, lists], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parts_of(folds: Sequence[Fold], repeats: int) -> list[Sequence[Fold]]:
    """The folds of each repeat."""
    size = len(folds) // repeats
    return [folds[start : start + size] for start in range(0, repeats * size, size)]


def kind_of_test(folds: Sequence[Fold], repeats: int = 1) -> str:
    """What the test parts are together, in words: a cross-validation, or only hold-outs."""
    if repeats > 1:
        kinds = {kind_of_test(part) for part in parts_of(folds, repeats)}
        if len(kinds) == 1:
            return f"{repeats} repeats of {kinds.pop()}"
    times = Counter(slide for fold in folds for slide in set(fold.test))
    if not times:
        return "no test part"
    if len(folds) == 1:
        return "one hold-out"
    if max(times.values()) > 1:
        return f"{len(folds)} Monte-Carlo hold-outs"
    slides = {slide for fold in folds for role in ROLES for slide in getattr(fold, role)}
    if set(times) == slides:
        return f"{len(folds)}-fold cross-validation"
    return f"{len(folds)} disjoint hold-outs"
