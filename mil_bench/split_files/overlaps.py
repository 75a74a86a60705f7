"""Which slides of one role share a slide, a group or a near-duplicate with another role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        groups: those whose group is in the other roles; None if groups are unknown.
        shared_slides: the slides that ``slides`` counts.
        grouped_slides: the slides that ``groups`` counts.
        shared_groups: the groups they belong to.
        same_label: those with a slide of their group and their label in the other roles; None if
            either is unknown.
        near_duplicates: those with an equal or almost equal bag in the other roles; None if
            features are not packed.
    """

    role: str
    others: tuple[str, ...]
    of: tuple[int, ...]
    slides: tuple[int, ...]
    groups: tuple[int, ...] | None
    same_label: tuple[int, ...] | None
    near_duplicates: tuple[int, ...] | None
    shared_slides: tuple[tuple[str, ...], ...]
    grouped_slides: tuple[tuple[str, ...], ...] | None
    shared_groups: tuple[tuple[str, ...], ...] | None


@dataclass(frozen=True)
class Traits:
    """What may be shared between slides.

    Args:
        label: slide to the name of its class.
        group: slide to its group, None if groups are unknown.
        near_duplicates: slide to the slides with an equal or almost equal bag, None if features
            are not packed.
    """

    label: Mapping[str, str]
    group: Mapping[str, str] | None
    near_duplicates: Mapping[str, frozenset[str]] | None


def near_duplicates_of(pairs: pd.DataFrame | None) -> Mapping[str, frozenset[str]] | None:
    """Slide to its near-duplicates, from pairs with the columns slide_a and slide_b."""
    if pairs is None:
        return None
    others: dict[str, set[str]] = {}
    for a, b in zip(pairs["slide_a"], pairs["slide_b"], strict=True):
        others.setdefault(a, set()).add(b)
        others.setdefault(b, set()).add(a)
    return {slide: frozenset(names) for slide, names in others.items()}


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
    if traits.group is not None:
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
    if traits.near_duplicates is not None:
        alike = traits.near_duplicates
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
        shared_slides=listed,
        grouped_slides=grouped,
        shared_groups=shared,
    )


def _sharing(slides: set[str], others: set[str], trait_of: Mapping[str, Any]) -> tuple[str, ...]:
    """The slides whose trait another has too; slides without the trait share nothing."""
    traits = {trait_of[slide] for slide in others if slide in trait_of}
    return tuple(sorted(s for s in slides if s in trait_of and trait_of[s] in traits))
