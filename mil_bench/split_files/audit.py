"""What a split is worth: who stands on two sides, who is tested, which classes are there, what contradicts metadata.

Everything here is counted; nothing is judged but what ``leaks`` says.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from mil_bench.splits.plan import ROLES, Fold, kind_of_test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.datasets.slides import Slides
    from mil_bench.splits.lists import SplitLists

_PAIRS = (("test", ("train",)), ("test", ("val",)), ("test", ("train", "val")), ("val", ("train",)))


@dataclass(frozen=True)
class Overlap:
    """How many slides of a role meet slides of other roles, fold by fold.

    Args:
        role: whose slides are counted.
        others: the roles they meet.
        of: slides of the role; 0 in a fold where the other roles list none, so that nothing can be
            counted there.
        slides: those that the other roles list too.
        groups: those whose group is in the other roles; None where groups are unknown.
        shared_slides: which slides ``slides`` counts.
        grouped_slides: which slides ``groups`` counts.
        shared_groups: the groups they belong to.
        same_label: those that meet a slide of their group and their label there; None where either
            is unknown.
        near_duplicates: those with an equal or almost equal bag there; None where features are not
            packed.
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
class Conflict:
    """A slide whose label in the split files is not that of the metadata, or that has several in the files."""

    slide: str
    in_files: tuple[str, ...]
    in_metadata: str


@dataclass(frozen=True)
class SplitAudit:
    """Everything that was counted.

    Args:
        title: what was audited, in words.
        metadata: where labels and groups are known from, "" where the split files are all there is.
        group_name: what a group is, "" where groups are unknown.
        kind: whether the test parts make a cross-validation, in words.
        numbers: numbers of the folds in the files.
        faults: why the lists cannot be followed as they are.
        sizes: for each fold the number of slides by role.
        overlaps: the pairs of roles that both have slides.
        tested: number of tests to the number of slides tested that often; 0 counts those in no test
            part.
        classes: names of the classes.
        class_counts: for each fold, role to one count a class.
        without_auc: for each fold the classes without a positive or without a negative test slide.
        labelled: number of slides that the files give a label.
        conflicts: labels that differ.
        labels_are_numbers: whether labels in the files were read as positions in the order of the
            classes.
        unknown: slides that the metadata do not know.
        near_miss: what one of those may mean, "" without a guess.
        without_group: slides whose group is not known although others' are; each counts as its own.
        group_notes: what counting groups cannot see, one sentence each.
        unlisted: slides of the metadata in no fold.
        centres: for each fold, role to centre to its share of the slides; empty where centres are
            unknown.
    """

    title: str
    metadata: str
    group_name: str
    kind: str
    numbers: tuple[int, ...]
    faults: tuple[str, ...]
    sizes: tuple[Mapping[str, int], ...]
    overlaps: tuple[Overlap, ...]
    tested: Mapping[int, int]
    classes: tuple[str, ...]
    class_counts: tuple[Mapping[str, tuple[int, ...]], ...]
    without_auc: tuple[tuple[str, ...], ...]
    labelled: int
    conflicts: tuple[Conflict, ...]
    labels_are_numbers: bool
    unknown: tuple[str, ...]
    near_miss: str
    without_group: tuple[str, ...]
    group_notes: tuple[str, ...]
    unlisted: tuple[str, ...]
    centres: tuple[Mapping[str, Mapping[str, float]], ...]

    @property
    def leaks(self) -> list[str]:
        """What stands on both sides of training (with validation) and test: "slide", the group's name, both or none."""
        found = []
        for overlap in self.overlaps:
            if overlap.role == "test":
                found += ["slide"] * bool(sum(overlap.slides))
                found += [self.group_name] * bool(sum(overlap.groups or ()))
        return list(dict.fromkeys(found))

    def to_json(self) -> dict[str, Any]:
        """A plain value for ``--json``."""
        return dataclasses.asdict(self) | {"leaks": self.leaks}


@dataclass(frozen=True)
class _Known:
    """What counting needs of every slide: class name, group, ids of its near-duplicates."""

    label: Mapping[str, str]
    group: Mapping[str, str] | None
    twins: Mapping[str, frozenset[str]] | None


def audit(
    lists: SplitLists,
    table: Slides | None,
    classes: Sequence[str],
    near_duplicates: pd.DataFrame | None,
) -> SplitAudit:
    """Count everything that may be wrong with a split.

    Args:
        lists: the folds, also incomplete ones.
        table: labels, groups and centres; None where only the files tell them.
        classes: names of the fine classes, empty for those that the files name.
        near_duplicates: columns slide_a, slide_b, share; None where features are not packed.
    """
    frame = (
        table.frame
        if table is not None
        else pd.DataFrame(columns=["slide", "label", "group", "centre"])
    )
    official = {
        slide: classes[label] for slide, label in zip(frame["slide"], frame["label"], strict=True)
    }
    named, as_numbers = _named_labels(lists, classes)
    one_label = {slide: texts[0] for slide, texts in named.items() if len(texts) == 1}
    known = _Known({**one_label, **official}, _groups(lists, table), _twins(near_duplicates))
    classes = tuple(classes) or tuple(sorted(set(one_label.values())))
    counts = [
        {role: _class_counts(getattr(fold, role), known, classes) for role in ROLES}
        for fold in lists.folds
    ]
    listed = set(lists.slides)
    unknown = tuple(sorted(listed - set(official))) if table is not None else ()
    return SplitAudit(
        title=lists.title,
        metadata=table.origin if table is not None else "",
        group_name=_group_name(lists, table),
        kind=kind_of_test(lists.folds),
        numbers=lists.numbers,
        faults=tuple(lists.problems()),
        sizes=tuple({role: len(getattr(fold, role)) for role in ROLES} for fold in lists.folds),
        overlaps=tuple(
            filter(None, (_overlap(lists.folds, role, others, known) for role, others in _PAIRS))
        ),
        tested=_times_tested(lists),
        classes=classes,
        class_counts=tuple(counts),
        without_auc=tuple(_without_auc(count["test"], classes) for count in counts),
        labelled=len(named),
        conflicts=_conflicts(named, official, set(classes)),
        labels_are_numbers=as_numbers,
        unknown=unknown,
        near_miss=table.near_miss(unknown) if table is not None else "",
        without_group=tuple(sorted(table.without_group & listed)) if table is not None else (),
        group_notes=table.group_notes(listed) if table is not None else (),
        unlisted=tuple(sorted(set(official) - listed)),
        centres=_centres(lists.folds, frame),
    )


def _named_labels(
    lists: SplitLists, classes: Sequence[str]
) -> tuple[dict[str, tuple[str, ...]], bool]:
    """Slide to the class names that the files give it, and whether they were numbers that had to be translated."""
    texts = {text for several in lists.labels.values() for text in several}
    numbers = (
        bool(texts)
        and bool(classes)
        and all(text.isdecimal() for text in texts)
        and not texts <= set(classes)
    )
    name_of = {str(c): name for c, name in enumerate(classes)} if numbers else {}
    named = {
        slide: tuple(sorted(name_of.get(t, t) for t in several))
        for slide, several in lists.labels.items()
    }
    return named, numbers


def _groups(lists: SplitLists, table: Slides | None) -> Mapping[str, str] | None:
    if table is not None and table.group_name:
        return dict(zip(table.frame["slide"], table.frame["group"], strict=True))
    return lists.groups or None


def _group_name(lists: SplitLists, table: Slides | None) -> str:
    if table is not None and table.group_name:
        return table.group_name
    return "case" if lists.groups else ""


def _twins(pairs: pd.DataFrame | None) -> Mapping[str, frozenset[str]] | None:
    if pairs is None:
        return None
    found: dict[str, set[str]] = {}
    for a, b in zip(pairs["slide_a"], pairs["slide_b"], strict=True):
        found.setdefault(a, set()).add(b)
        found.setdefault(b, set()).add(a)
    return {slide: frozenset(others) for slide, others in found.items()}


def _overlap(
    folds: Sequence[Fold], role: str, others: tuple[str, ...], known: _Known
) -> Overlap | None:
    """The overlap of a role with others, None where no fold lists both sides or one of the others stands nowhere."""
    sides = [
        (set(getattr(fold, role)), {slide for other in others for slide in getattr(fold, other)})
        for fold in folds
    ]
    everywhere = all(any(getattr(fold, other) for fold in folds) for other in others)
    if not everywhere or not any(own and met for own, met in sides):
        return None
    grouped = shared = same_label = twins = None
    if known.group is not None:
        grouped = tuple(_meeting(*side, known.group) for side in sides)
        shared = tuple(
            tuple(sorted({known.group[slide] for slide in slides})) for slides in grouped
        )
        if known.label:
            both = {
                s: (group, known.label[s]) for s, group in known.group.items() if s in known.label
            }
            same_label = tuple(len(_meeting(*side, both)) for side in sides)
    if known.twins is not None:
        twins = tuple(
            sum(not met.isdisjoint(known.twins.get(slide, ())) for slide in own)
            for own, met in sides
        )
    listed = tuple(tuple(sorted(own & met)) for own, met in sides)
    return Overlap(
        role=role,
        others=others,
        of=tuple(len(own) if met else 0 for own, met in sides),
        slides=tuple(map(len, listed)),
        groups=None if grouped is None else tuple(map(len, grouped)),
        same_label=same_label,
        near_duplicates=twins,
        shared_slides=listed,
        grouped_slides=grouped,
        shared_groups=shared,
    )


def _meeting(own: set[str], met: set[str], mark_of: Mapping[str, Any]) -> tuple[str, ...]:
    """The slides that have a mark which the others have too; unmarked slides meet nobody."""
    seen = {mark_of[slide] for slide in met if slide in mark_of}
    return tuple(sorted(slide for slide in own if slide in mark_of and mark_of[slide] in seen))


def _times_tested(lists: SplitLists) -> dict[int, int]:
    times = Counter(slide for fold in lists.folds for slide in set(fold.test))
    return dict(sorted(Counter(times[slide] for slide in lists.slides).items()))


def _class_counts(slides: Sequence[str], known: _Known, classes: Sequence[str]) -> tuple[int, ...]:
    counts = Counter(known.label.get(slide, "") for slide in slides)
    return tuple(counts[name] for name in classes)


def _without_auc(counts: Sequence[int], classes: Sequence[str]) -> tuple[str, ...]:
    total = sum(counts)
    return tuple(name for name, n in zip(classes, counts, strict=True) if total and n in (0, total))


def _conflicts(
    named: Mapping[str, tuple[str, ...]], official: Mapping[str, str], classes: set[str]
) -> tuple[Conflict, ...]:
    found = []
    for slide, texts in sorted(named.items()):
        label = official.get(slide, "")
        if len(texts) > 1 or (label and texts != (label,)) or not set(texts) <= classes:
            found.append(Conflict(slide, texts, label))
    return tuple(found)


def _centres(folds: Sequence[Fold], frame: pd.DataFrame) -> tuple[dict[str, dict[str, float]], ...]:
    """For each fold and role the share of every centre among the slides that the metadata know."""
    centre_of = dict(zip(frame["slide"], frame["centre"], strict=True))
    if not any(centre_of.values()):
        return ()
    names = sorted({centre or "unknown" for centre in centre_of.values()})
    made = []
    for fold in folds:
        counts = {
            r: Counter(centre_of[s] or "unknown" for s in getattr(fold, r) if s in centre_of)
            for r in ROLES
        }
        made.append(
            {
                r: {name: count[name] / count.total() for name in names}
                for r, count in counts.items()
                if count
            }
        )
    return tuple(made)
