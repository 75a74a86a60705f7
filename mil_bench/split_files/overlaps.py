"""Which slides of one role share a slide, a group or a near-duplicate with another role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pandas as pd

    from mil_bench.splits.plan import Fold

_PAIRS = (("test", ("train",)), ("test", ("val",)), ("test", ("train", "val")), ("val", ("train",)))


@dataclass(frozen=True)
class Overlap:
    """How many slides of a role overlap with slides of other roles, per fold.

    Args:
        role: the role whose slides are counted.
        others: the roles that they are compared with.
        of: slides of the role; 0 in a fold without slides of the other roles, where nothing can be
            counted.
        slides: those that are in the other roles too.
        groups: those whose group is in the other roles; None if groups are unknown, or those of
            all slides of one side.
        shared_slides: the slides that ``slides`` counts.
        grouped_slides: the slides that ``groups`` counts.
        shared_groups: the groups they belong to.
        ungrouped: slides of any of these roles whose group is unknown, over all folds.
        same_label: those with a slide of their group and their label in the other roles; None if
            either is unknown.
        near_duplicates: those with an equal or almost equal bag in the other roles; None if
            features are not packed, or those of no slide of one side.
        unsearched: slides of any of these roles whose features are not packed, over all folds.
    """

    role: str
    others: tuple[str, ...]
    of: tuple[int, ...]
    slides: tuple[int, ...]
    groups: tuple[int, ...] | None
    same_label: tuple[int, ...] | None
    near_duplicates: tuple[int, ...] | None
    ungrouped: int
    unsearched: int
    shared_slides: tuple[tuple[str, ...], ...]
    grouped_slides: tuple[tuple[str, ...], ...] | None
    shared_groups: tuple[tuple[str, ...], ...] | None


@dataclass(frozen=True)
class NearDuplicates:
    """Slides with equal or almost equal bags.

    Args:
        others: slide to its near-duplicates; slides without any are absent.
        searched: the slides whose bags were compared.
    """

    others: Mapping[str, frozenset[str]]
    searched: frozenset[str]

    @classmethod
    def of(cls, pairs: pd.DataFrame, searched: Iterable[str]) -> NearDuplicates:
        """From pairs with the columns slide_a and slide_b."""
        others: dict[str, set[str]] = {}
        for a, b in zip(pairs["slide_a"], pairs["slide_b"], strict=True):
            others.setdefault(a, set()).add(b)
            others.setdefault(b, set()).add(a)
        return cls(
            {slide: frozenset(names) for slide, names in others.items()}, frozenset(searched)
        )


@dataclass(frozen=True)
class Traits:
    """What may be shared between slides.

    Args:
        label: slide to the name of its class.
        group: slide to its group, None if groups are unknown.
        near_duplicates: None if features are not packed.
    """

    label: Mapping[str, str]
    group: Mapping[str, str] | None
    near_duplicates: NearDuplicates | None


def overlaps(folds: Sequence[Fold], traits: Traits) -> tuple[Overlap, ...]:
    """Every overlap between roles that the folds have.

    A pair of roles is left out if no fold has slides of both, or one of the others has none at all.
    """
    return tuple(
        _overlap(folds, role, others, traits)
        for role, others in _PAIRS
        if all(any(getattr(fold, other) for fold in folds) for other in others)
        and any(
            getattr(fold, role) and any(getattr(fold, other) for other in others) for fold in folds
        )
    )


def _overlap(folds: Sequence[Fold], role: str, others: tuple[str, ...], traits: Traits) -> Overlap:
    sides = [
        (set(getattr(fold, role)), {slide for other in others for slide in getattr(fold, other)})
        for fold in folds
    ]
    grouped = shared = same_label = near_duplicates = None
    if traits.group is not None and _comparable(sides, traits.group):
        group = traits.group
        grouped = tuple(_sharing(*side, group) for side in sides)
        shared = tuple(tuple(sorted({group[slide] for slide in slides})) for slides in grouped)
        if traits.label:
            both = {
                slide: (name, traits.label[slide])
                for slide, name in group.items()
                if slide in traits.label
            }
            same_label = tuple(len(_sharing(*side, both)) for side in sides)
    searched = traits.near_duplicates.searched if traits.near_duplicates is not None else ()
    if traits.near_duplicates is not None and _comparable(sides, searched):
        alike = traits.near_duplicates.others
        near_duplicates = tuple(
            sum(not compared.isdisjoint(alike.get(slide, ())) for slide in slides)
            for slides, compared in sides
        )
    listed = tuple(tuple(sorted(slides & compared)) for slides, compared in sides)
    return Overlap(
        role=role,
        others=others,
        of=tuple(len(slides) if compared else 0 for slides, compared in sides),
        slides=tuple(map(len, listed)),
        groups=None if grouped is None else tuple(map(len, grouped)),
        same_label=same_label,
        near_duplicates=near_duplicates,
        ungrouped=_outside(sides, traits.group or ()),
        unsearched=_outside(sides, searched),
        shared_slides=listed,
        grouped_slides=grouped,
        shared_groups=shared,
    )


def _comparable(sides: Sequence[tuple[set[str], set[str]]], known: Collection[str]) -> bool:
    """Whether some fold has a known slide on both sides."""
    return any(all(any(slide in known for slide in side) for side in both) for both in sides)


def _outside(sides: Sequence[tuple[set[str], set[str]]], known: Collection[str]) -> int:
    """The number of slides on either side that are not known."""
    return sum(slide not in known for slide in set().union(*(a | b for a, b in sides)))


def _sharing(slides: set[str], others: set[str], trait_of: Mapping[str, Any]) -> tuple[str, ...]:
    """The slides whose trait another has too; slides without the trait share nothing."""
    traits = {trait_of[slide] for slide in others if slide in trait_of}
    return tuple(sorted(s for s in slides if s in trait_of and trait_of[s] in traits))
