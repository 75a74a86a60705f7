"""An audit of a split in words, the worst first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mil_bench.errors import printable
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.split_files.audit import SplitAudit
    from mil_bench.split_files.overlaps import Overlap

_NAMES = {"train": "training", "val": "validation", "test": "test"}
_NOT_SEARCHED = "Near-duplicate bags were not searched for, because no features are packed."


def sentences(audit: SplitAudit, not_searched: str = _NOT_SEARCHED) -> list[str]:
    """What a reader must know, the worst first.

    Args:
        audit: what was counted.
        not_searched: what to say if near-duplicates were not searched for.
    """
    lines = [_metadata(audit), *(f"FAULT: {fault}." for fault in audit.faults), *conflicts(audit)]
    for overlap in audit.overlaps:
        if overlap.others != ("train", "val"):
            lines += _overlap(audit, overlap)
    lines += [*_shared(audit), *audit.group_notes, *_tested(audit), *_classes(audit)]
    lines += [*_labels(audit), *_respelled(audit), *_unlisted(audit), *_centres(audit)]
    if not audit.searched:
        lines.append(not_searched)
    return [printable(line).replace("\n", "\\n") for line in lines]


def conflicts(audit: SplitAudit) -> list[str]:
    """Labels in the files that contradict the metadata or each other, in one sentence or none."""
    if not audit.conflicts:
        return []
    names = [
        f"{conflict.slide} ({' and '.join(conflict.in_files)}"
        + (f"; metadata: {conflict.in_metadata})" if conflict.in_metadata else ")")
        for conflict in audit.conflicts
    ]
    share = _share(len(names), audit.labelled, "labelled slides")
    return [
        f"CONFLICTS: in the files, {share} have a label that contradicts the metadata, the classes "
        f"or another file: {first_names(names)}.{_numbers(audit)}"
    ]


def _metadata(audit: SplitAudit) -> str:
    if audit.metadata and audit.group_name:
        return f"Labels and {audit.group_name}s come from the {audit.metadata}."
    origin = "There is no label table and no packed store, so only the split files are known"
    if audit.metadata:
        origin = f"Labels come from the {audit.metadata}"
    if not audit.group_name:
        origin += "; patients are unknown, so their leaks cannot be counted"
    return f"{origin}."


def _overlap(audit: SplitAudit, overlap: Overlap) -> list[str]:
    role, other = _NAMES[overlap.role], _NAMES[overlap.others[0]]
    group, total = audit.group_name, sum(overlap.of)
    same_slide, same_group = sum(overlap.slides), sum(overlap.groups or ())
    sign = "LEAKS: " if overlap.role == "test" else ""
    blind = [
        number
        for number, size, counted in zip(audit.numbers, audit.sizes, overlap.of, strict=True)
        if size[overlap.role] and not counted
    ]
    lines = []
    if blind:
        lists, its = ("list", "their") if len(blind) > 1 else ("lists", "its")
        lines.append(
            f"{_folds(blind).capitalize()} {lists} no {other} slides, so {its} {role} slides "
            f"cannot be compared with {other} slides."
        )
    if same_slide:
        share = _share(same_slide, total, f"{role} slides")
        lines.append(f"{sign}{share} are also {other} slides.")
    if overlap.groups is not None and same_group:
        share = _share(same_group, total, f"{role} slides")
        line = f"{sign}{share} share a {group} with {other} slides"
        if overlap.same_label is not None:
            number = sum(overlap.same_label)
            line += f", {_percent(number, total)} share {group} and label"
        if len(overlap.of) > 1:
            line += f"; per fold: {_by_fold(overlap.groups, overlap.of)}"
        lines.append(f"{line}.")
    elif overlap.groups is not None:
        where = " of the other folds" if blind else ""
        unknown = overlap.ungrouped + len(audit.without_group)
        note = f" (slides without a known {group}: {unknown})" if unknown else ""
        lines.append(
            f"No {_known(overlap.ungrouped)}{role} slide{where} shares a {group} with "
            f"{_known(overlap.ungrouped)}{other} slides{note}."
        )
    return lines + _near_duplicates(overlap)


def _near_duplicates(overlap: Overlap) -> list[str]:
    if overlap.near_duplicates is None:
        return []
    role, other = _NAMES[overlap.role], _NAMES[overlap.others[0]]
    number, total = sum(overlap.near_duplicates), sum(overlap.of)
    if number:
        who = _share(number, total, f"{role} slides") + " have"
    else:
        who = f"No {'packed ' if overlap.unsearched else ''}{role} slide has"
    among = f"{'packed ' if overlap.unsearched else ''}{other} slides"
    note = f" (slides without packed features: {overlap.unsearched})" if overlap.unsearched else ""
    return [f"{who} a near-duplicate bag among {among}{note}."]


def _known(others: int) -> str:
    return "known " if others else ""


def _shared(audit: SplitAudit) -> list[str]:
    """The first groups and slides that test shares with the rest; ``--json`` has all of them."""
    wholes = [overlap for overlap in audit.overlaps if overlap.role == "test"][-1:]
    lines = []
    for whole in wholes:
        groups = sorted({group for groups in whole.shared_groups or () for group in groups})
        slides = sorted({slide for slides in whole.shared_slides for slide in slides})
        for what, names in ((f"{audit.group_name}s", groups), ("slides", slides)):
            if names:
                lines.append(
                    f"{what.capitalize()} in both test and training or validation: {len(names)} "
                    f"({first_names(names)}; --json lists them per fold)."
                )
    return lines


def _tested(audit: SplitAudit) -> list[str]:
    listed = sum(audit.tested.values())
    if "cross-validation" in audit.kind:
        often = "exactly once" if max(audit.tested) == 1 else "once per repeat"
        return [f"{audit.kind}: each of the {listed} slides is tested {often}."]
    tested = sum(n for times, n in audit.tested.items() if times)
    several = sum(n for times, n in audit.tested.items() if times > 1)
    often = f", {several} of them more than once (up to {max(audit.tested)} times)"
    kind = audit.kind[0].upper() + audit.kind[1:]
    line = (
        f"{kind}, not a cross-validation: {tested} of {listed} slides are tested"
        f"{often if several else ''}, and {listed - tested} are never tested."
    )
    return [line, *(_nadeau_bengio(audit) if several else [])]


def _nadeau_bengio(audit: SplitAudit) -> list[str]:
    """How far the spread over repeated hold-outs is from a standard error.

    Source: Nadeau and Bengio, "Inference for the generalization error", 2003.
    """
    folds = len(audit.sizes)
    train, test = (sum(size[role] for size in audit.sizes) for role in ("train", "test"))
    if not train:
        return []
    factor = math.sqrt(1 + folds * test / train)
    return [
        f"The hold-outs share slides: the standard deviation across them divided by sqrt({folds}) "
        f"underestimates the standard error by a factor of about {factor:.1f} (Nadeau-Bengio: "
        f"1/{folds} + {test / folds:.0f}/{train / folds:.0f} instead of 1/{folds})."
    ]


def _classes(audit: SplitAudit) -> list[str]:
    if not audit.classes:
        return ["No labels are known, so classes cannot be counted."]
    lines = []
    without = [
        f"fold {number} ({', '.join(names)})"
        for number, names in zip(audit.numbers, audit.without_auc, strict=True)
        if names
    ]
    if without:
        lines.append(
            "The class-wise AUC is undefined, because the test part has no slide of the class or "
            f"no slide of another class: {'; '.join(without)}."
        )
    elif max(audit.tested) and not any(audit.unlabelled):
        lines.append("The class-wise AUC of every class is defined in every test part.")
    return lines


def _labels(audit: SplitAudit) -> list[str]:
    if not audit.labelled or audit.conflicts:
        return []
    known = audit.metadata and len(audit.unknown) < sum(audit.tested.values())
    against = "; none contradicts the metadata (0 conflicts)" if known else ""
    return [f"The files have labels of {audit.labelled} slides{against}.{_numbers(audit)}"]


def _numbers(audit: SplitAudit) -> str:
    if not audit.labels_are_numbers:
        return ""
    return " These labels are numbers, read as positions in the order of the classes."


def _respelled(audit: SplitAudit) -> list[str]:
    if not audit.respelled:
        return []
    theirs, ours = next(iter(audit.respelled.items()))
    ids = plural(len(audit.respelled), "slide id is", "slide ids are")
    return [
        f"{ids} spelled otherwise in the files and read as those of the {audit.metadata}: "
        f"'{theirs}' as '{ours}'{', ...' if len(audit.respelled) > 1 else ''}."
    ]


def _unlisted(audit: SplitAudit) -> list[str]:
    if not audit.unlisted:
        return []
    what = f"of the {audit.metadata}"
    slides = plural(len(audit.unlisted), f"slide {what} is", f"slides {what} are")
    return [f"{slides} in no fold: {first_names(audit.unlisted)}."]


def _centres(audit: SplitAudit) -> list[str]:
    gaps = [
        (abs(shares["train"][name] - shares["test"][name]), number, name, shares)
        for number, shares in zip(audit.numbers, audit.centres, strict=False)
        if {"train", "test"} <= shares.keys()
        for name in shares["train"]
    ]
    if not gaps:
        return []
    gap, number, name, shares = max(gaps, key=lambda entry: entry[0])
    return [
        f"Centres: the largest difference between training and test is {100 * gap:.1f} percentage "
        f"points ({name} in fold {number}: {100 * shares['train'][name]:.1f} % of training slides, "
        f"{100 * shares['test'][name]:.1f} % of test slides)."
    ]


def _share(number: int, total: int, what: str) -> str:
    return f"{number} of {total} {what} ({100 * number / total:.1f} %)"


def _percent(number: int, total: int) -> str:
    return f"{number} ({100 * number / total:.1f} %)" if number else "none"


def _by_fold(numbers: Sequence[int], of: Sequence[int]) -> str:
    if len(set(of)) == 1:
        return f"{', '.join(map(str, numbers))} of {of[0]}"
    return ", ".join(f"{n} of {total}" for n, total in zip(numbers, of, strict=True))


def _folds(numbers: Sequence[int]) -> str:
    return f"fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
