"""Everything that is counted of a split: leaks, tests, classes, label conflicts, centres.

Nothing is judged here, except by ``SplitAudit.leaks``. ``mil_bench.report.audit_sentences`` puts it
into words.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from mil_bench.datasets.card import PATIENT
from mil_bench.split_files.overlaps import NearDuplicates, Overlap, Traits, overlaps
from mil_bench.split_files.refusals import refusals
from mil_bench.splits.plan import ROLES, Fold, kind_of_test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.datasets.slides import Slides
    from mil_bench.splits.lists import SplitLists


@dataclass(frozen=True)
class Conflict:
    """A slide whose label in the files differs from the metadata, or that has several in the files.

    Args:
        slide: its id.
        in_files: its labels in the split files.
        in_metadata: its label in the metadata, "" if they do not know the slide.
    """

    slide: str
    in_files: tuple[str, ...]
    in_metadata: str


@dataclass(frozen=True)
class SplitAudit:
    """Everything that was counted.

    Args:
        title: what was audited, in words.
        metadata: the source of labels and groups, "" if the split files are all there is.
        group_name: what a group is, "" if groups are unknown.
        kind: whether the test parts are a cross-validation, in words.
        numbers: the numbers of the folds in the files.
        faults: why a run refuses the lists as they are.
        sizes: per fold, the number of slides by role.
        overlaps: the pairs of roles that both have slides.
        tested: number of tests to the number of slides tested that often; 0 counts those in no
            test part.
        classes: names of the classes.
        class_counts: per fold, role to one count per class.
        without_auc: per fold, the classes without a positive or without a negative test slide;
            () in a fold with test slides whose class is unknown.
        labelled: number of slides that the files give a label.
        conflicts: labels that differ.
        labels_are_numbers: whether labels in the files were read as positions in the order of the
            classes.
        unknown: slides that the metadata do not know.
        unlabelled: per fold, the number of test slides whose class is unknown.
        respelled: ids as the files spell them to ids as the metadata do, where they differ.
        without_group: slides whose group is unknown although others' are known; each counts as its
            own group.
        group_notes: what counting groups cannot detect, one sentence each.
        unlisted: slides of the metadata in no fold.
        searched: whether near-duplicates were searched for.
        centres: per fold, role to centre to its share of the slides; empty if centres are unknown.
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
    unlabelled: tuple[int, ...]
    respelled: Mapping[str, str]
    without_group: tuple[str, ...]
    group_notes: tuple[str, ...]
    unlisted: tuple[str, ...]
    searched: bool
    centres: tuple[Mapping[str, Mapping[str, float]], ...]

    @property
    def leaks(self) -> list[str]:
        """What test shares with training or validation: "slide", the group's name, both or none."""
        kinds = []
        for overlap in self.overlaps:
            if overlap.role == "test":
                kinds += ["slide"] * bool(sum(overlap.slides))
                kinds += [self.group_name] * bool(sum(overlap.groups or ()))
        return list(dict.fromkeys(kinds))

    def to_json(self) -> dict[str, Any]:
        """A plain value for ``--json``."""
        return dataclasses.asdict(self) | {"leaks": self.leaks}


def audit(
    lists: SplitLists,
    table: Slides | None,
    classes: Sequence[str],
    near_duplicates: NearDuplicates | None,
) -> SplitAudit:
    """Count everything that may be wrong with a split.

    Args:
        lists: the folds, also incomplete ones.
        table: labels, groups and centres; None if only the files tell them.
        classes: names of the fine classes, empty for those that the files name.
        near_duplicates: None if features are not packed.
    """
    frame = pd.DataFrame(columns=["slide", "label", "group", "centre"])
    if table is not None:
        frame = table.frame
    official = {
        slide: classes[label] for slide, label in zip(frame["slide"], frame["label"], strict=True)
    }
    named, as_numbers = _named_labels(lists, classes)
    one_label = {slide: texts[0] for slide, texts in named.items() if len(texts) == 1}
    classes = tuple(classes) or tuple(sorted(set(one_label.values())))
    groups, group_name = _groups(lists, table)
    traits = Traits({**one_label, **official}, groups, near_duplicates)
    found = overlaps(lists.folds, traits)
    counts = [
        {role: _class_counts(getattr(fold, role), traits.label, classes) for role in ROLES}
        for fold in lists.folds
    ]
    unlabelled = [sum(s not in traits.label for s in fold.test) for fold in lists.folds]
    listed = set(lists.slides)
    unknown = tuple(sorted(listed - set(official))) if table is not None else ()
    return SplitAudit(
        title=lists.title,
        metadata=table.origin if table is not None else "",
        group_name=group_name,
        kind=kind_of_test(lists.folds, lists.repeats),
        numbers=lists.numbers,
        faults=tuple(refusals(lists, table, traits.label, classes, found)),
        sizes=tuple({role: len(getattr(fold, role)) for role in ROLES} for fold in lists.folds),
        overlaps=found,
        tested=_times_tested(lists),
        classes=classes,
        class_counts=tuple(counts),
        without_auc=tuple(
            () if unknown else _without_auc(count["test"], classes)
            for count, unknown in zip(counts, unlabelled, strict=True)
        ),
        labelled=len(named),
        conflicts=_conflicts(named, official, set(classes)),
        labels_are_numbers=as_numbers,
        unknown=unknown,
        unlabelled=tuple(unlabelled),
        respelled=lists.respelled,
        without_group=tuple(sorted(table.without_group & listed)) if table is not None else (),
        group_notes=table.group_notes(listed) if table is not None else (),
        unlisted=tuple(sorted(set(official) - listed)),
        searched=near_duplicates is not None,
        centres=_centres(lists.folds, frame),
    )


def _named_labels(
    lists: SplitLists, classes: Sequence[str]
) -> tuple[dict[str, tuple[str, ...]], bool]:
    """Slide to the class names that the files give it, and whether they were numbers."""
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


def _groups(lists: SplitLists, table: Slides | None) -> tuple[Mapping[str, str] | None, str]:
    """Slide to group, and what a group is, by the metadata or else the files."""
    if table is not None and table.group_name:
        group_of = dict(zip(table.frame["slide"], table.frame["group"], strict=True))
        return group_of, table.group_name
    return (lists.groups, PATIENT) if lists.groups else (None, "")


def _times_tested(lists: SplitLists) -> dict[int, int]:
    times = Counter(slide for fold in lists.folds for slide in set(fold.test))
    return dict(sorted(Counter(times[slide] for slide in lists.slides).items()))


def _class_counts(
    slides: Sequence[str], label_of: Mapping[str, str], classes: Sequence[str]
) -> tuple[int, ...]:
    counts = Counter(label_of.get(slide, "") for slide in slides)
    return tuple(counts[name] for name in classes)


def _without_auc(counts: Sequence[int], classes: Sequence[str]) -> tuple[str, ...]:
    total = sum(counts)
    return tuple(name for name, n in zip(classes, counts, strict=True) if total and n in (0, total))


def _conflicts(
    named: Mapping[str, tuple[str, ...]], official: Mapping[str, str], classes: set[str]
) -> tuple[Conflict, ...]:
    conflicts = []
    for slide, texts in sorted(named.items()):
        label = official.get(slide, "")
        if len(texts) > 1 or (label and texts != (label,)) or not set(texts) <= classes:
            conflicts.append(Conflict(slide, texts, label))
    return tuple(conflicts)


def _centres(folds: Sequence[Fold], frame: pd.DataFrame) -> tuple[dict[str, dict[str, float]], ...]:
    """Per fold and role, the share of every centre among the slides that the metadata know."""
    if not any(frame["centre"]):
        return ()
    centre_of = {
        slide: centre or "unknown"
        for slide, centre in zip(frame["slide"], frame["centre"], strict=True)
    }
    names = sorted(set(centre_of.values()))
    shares = []
    for fold in folds:
        counts = {
            role: Counter(centre_of[slide] for slide in getattr(fold, role) if slide in centre_of)
            for role in ROLES
        }
        shares.append(
            {
                role: {name: count[name] / count.total() for name in names}
                for role, count in counts.items()
                if count
            }
        )
    return tuple(shares)
