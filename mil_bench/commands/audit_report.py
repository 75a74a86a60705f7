"""An audit of splits in words and tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from mil_bench.errors import printable
from mil_bench.splits.plan import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.split_files.audit import Overlap, SplitAudit

_NAMES = {"train": "training", "val": "validation", "test": "test"}
_NARROWEST = 120  # a file or pipe has no width of its own
_NOT_LOOKED_FOR = "Near-duplicate bags were not looked for: no features are packed."


def print_audit(audit: SplitAudit) -> None:
    """Print the words, then the tables."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _NARROWEST))
    console.print(Text(f"Audit of {audit.title}", style="bold"))
    for line in sentences(audit):
        style = "bold red" if line.startswith("LEAKS") else ""
        console.print(
            Text(f"- {line}", style=style), soft_wrap=True
        )  # one line each where a program reads them
    for title, head, rows in tables(audit):
        console.print()
        console.print(Text(title, style="bold"), end="")
        grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i, name in enumerate(head):
            grid.add_column(name, justify="left" if i == 0 else "right")
        for row in rows:
            grid.add_row(*map(Text, row))
        console.print(grid)


def sentences(audit: SplitAudit, not_looked_for: str = _NOT_LOOKED_FOR) -> list[str]:
    """What a reader must know, the worst first.

    Args:
        audit: what was counted.
        not_looked_for: what to say where near-duplicates were not looked for.
    """
    known = "No label sheet and no packed features: all that is known stands in the split files"
    if audit.metadata:
        known = f"Labels and groups are those of the {audit.metadata}"
    if not audit.group_name:
        known += "; groups (patients) are unknown, so leaks between them cannot be counted"
    found = [f"{known}."]
    found += [f"FAULT: {fault}." for fault in audit.faults]
    found += conflicts(audit)
    found += [
        line
        for overlap in audit.overlaps
        if overlap.others != ("train", "val")
        for line in _overlap(audit, overlap)
    ]
    found += [
        *_leaking(audit),
        *audit.group_notes,
        *_tested(audit),
        *_classes(audit),
        *_labels(audit),
    ]
    found += [*_metadata(audit), *_centres(audit)]
    if all(overlap.near_duplicates is None for overlap in audit.overlaps):
        found.append(not_looked_for)
    return [printable(line) for line in found]


def _overlap(audit: SplitAudit, overlap: Overlap) -> list[str]:
    whose, met = _NAMES[overlap.role], _NAMES[overlap.others[0]]
    total, sign = sum(overlap.of), "LEAKS: " if overlap.role == "test" else ""
    blind = [
        str(number)
        for number, size, counted in zip(audit.numbers, audit.sizes, overlap.of, strict=True)
        if size[overlap.role] and not counted
    ]
    lines = []
    if blind:
        what = f"fold{'s' * (len(blind) > 1)} {', '.join(blind)}"
        lines.append(
            f"Of {what} it cannot be said whether {whose} slides meet {met} slides: none are listed there."
        )
    if sum(overlap.slides):
        lines.append(
            f"{sign}{_share(sum(overlap.slides), total)} {whose} slides are {met} slides too."
        )
    if overlap.groups is not None and sum(overlap.groups):
        line = f"{sign}{_share(sum(overlap.groups), total)} {whose} slides share a {audit.group_name} with {met} slides"
        if overlap.same_label is not None:
            line += f", {_share(sum(overlap.same_label), total)} a {audit.group_name} and the label"
        by_fold = f"; by fold {_by_fold(overlap.groups, overlap.of)}" if len(overlap.of) > 1 else ""
        lines.append(f"{line}{by_fold}.")
    elif overlap.groups is not None:
        unknown = len(audit.unknown) + len(audit.without_group)
        known = f", as far as they are known ({unknown} are not)" if unknown else ""
        where = " in the other folds" if blind else ""
        lines.append(
            f"No {whose} slide shares a {audit.group_name} with {met} slides{where}{known}."
        )
    if overlap.near_duplicates is not None:
        number = sum(overlap.near_duplicates)
        who = f"{_share(number, total)} {whose} slides have" if number else f"No {whose} slide has"
        lines.append(f"{who} an equal or almost equal bag among {met} slides.")
    return lines


def _leaking(audit: SplitAudit) -> list[str]:
    """The first of the groups and slides on both sides of a test part; a program reads all of them."""
    wholes = [overlap for overlap in audit.overlaps if overlap.role == "test"][-1:]
    found = []
    for whole in wholes:
        groups = sorted({group for groups in whole.shared_groups or () for group in groups})
        slides = sorted({slide for slides in whole.shared_slides for slide in slides})
        for what, names in ((f"{audit.group_name}s", groups), ("slides", slides)):
            if names:
                shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                found.append(
                    f"The {what} on both sides are {len(names)}: {shown} (--json lists them by fold)."
                )
    return found


def _share(number: int, total: int) -> str:
    return f"{number} of {total} ({100 * number / total:.1f} %)" if number else f"none of {total}"


def _by_fold(numbers: Sequence[int], of: Sequence[int]) -> str:
    if len(set(of)) == 1:
        return f"{', '.join(map(str, numbers))} of {of[0]}"
    return ", ".join(f"{n} of {total}" for n, total in zip(numbers, of, strict=True))


def _tested(audit: SplitAudit) -> list[str]:
    tested = sum(n for times, n in audit.tested.items() if times)
    several = sum(n for times, n in audit.tested.items() if times > 1)
    listed = sum(audit.tested.values())
    if "cross-validation" in audit.kind:
        return [f"{audit.kind}: every one of its {listed} slides is tested exactly once."]
    kind, never = audit.kind[0].upper() + audit.kind[1:], listed - tested
    line = f"{kind}, not a cross-validation: of {listed} slides {tested} are tested, {never} never"
    line += f", {several} more than once (up to {max(audit.tested)} times)." if several else "."
    return [line, *(_nadeau_bengio(audit) if several else [])]


def _nadeau_bengio(audit: SplitAudit) -> list[str]:
    """How far the spread over repeated hold-outs is from a standard error (Nadeau and Bengio, 2003)."""
    folds, train, test = (
        len(audit.sizes),
        *(sum(size[role] for size in audit.sizes) for role in ("train", "test")),
    )
    if not train:
        return []
    factor = math.sqrt(1 + folds * test / train)
    return [
        f"The hold-outs share slides: the standard deviation over them divided by sqrt({folds}) is about "
        f"{factor:.1f} times too small for a standard error (Nadeau-Bengio: 1/{folds} + {test / folds:.0f}/"
        f"{train / folds:.0f} in place of 1/{folds})."
    ]


def _classes(audit: SplitAudit) -> list[str]:
    if not audit.classes:
        return ["No labels are known: classes cannot be counted."]
    found = []
    for number, count in zip(audit.numbers, audit.class_counts, strict=True):
        missing = [
            name
            for name, n in zip(audit.classes, count["train"], strict=True)
            if sum(count["train"]) and not n
        ]
        if missing:
            found.append(f"Fold {number} has no training slide of {', '.join(missing)}.")
    without = [
        f"fold {number} of {', '.join(names)}"
        for number, names in zip(audit.numbers, audit.without_auc, strict=True)
        if names
    ]
    if without:
        return [
            *found,
            f"A class-wise AUC is undefined for want of test slides in {'; '.join(without)}.",
        ]
    return (
        [*found, "Every test part can support a class-wise AUC of every class."]
        if max(audit.tested)
        else found
    )


def _labels(audit: SplitAudit) -> list[str]:
    if not audit.labelled:
        return []
    if audit.conflicts:
        return []
    against = " and never contradict the metadata: 0 conflicts" if audit.metadata else ""
    return [f"The files label {audit.labelled} slides{_reading(audit)}{against}."]


def _reading(audit: SplitAudit) -> str:
    return (
        " (they are numbers, read as positions in the order of the classes)"
        if audit.labels_are_numbers
        else ""
    )


def conflicts(audit: SplitAudit) -> list[str]:
    """Labels in the files that are not those of the metadata, in a sentence or none."""
    if not audit.conflicts:
        return []
    shown = ", ".join(
        f"{c.slide} ({' and '.join(c.in_files)}{f', metadata {c.in_metadata}' if c.in_metadata else ''})"
        for c in audit.conflicts[:5]
    )
    number = len(audit.conflicts)
    labelled = f"{_share(number, audit.labelled)} slides that the files label{_reading(audit)}"
    return [f"CONFLICTS: {labelled} have another label: {shown}{', ...' if number > 5 else '.'}"]


def _metadata(audit: SplitAudit) -> list[str]:
    found = []
    for slides, what in (
        (
            audit.unknown,
            f"of these slides {'is' if len(audit.unknown) == 1 else 'are'} not in the {audit.metadata}",
        ),
        (
            audit.unlisted,
            f"of the slides in the {audit.metadata} {'is' if len(audit.unlisted) == 1 else 'are'} in no fold",
        ),
    ):
        if slides:
            hint = f"; {audit.near_miss}" if slides is audit.unknown and audit.near_miss else ""
            end = hint or ("" if len(slides) > 5 else ".")
            found.append(
                f"{len(slides)} {what}: {', '.join(slides[:5])}{', ...' if len(slides) > 5 else ''}{end}"
            )
    return found


def _centres(audit: SplitAudit) -> list[str]:
    gaps = [
        (abs(shares["train"][name] - shares["test"][name]), number, name, shares)
        for number, shares in zip(audit.numbers, audit.centres, strict=False)
        if {"train", "test"} <= shares.keys()
        for name in shares["train"]
    ]
    if not gaps:
        return []
    gap, number, name, shares = max(gaps, key=lambda each: each[0])
    return [
        f"Centres: the largest difference is {100 * gap:.1f} points, {name} in fold {number} with "
        f"{100 * shares['train'][name]:.1f} % of training and {100 * shares['test'][name]:.1f} % of test slides."
    ]


def tables(audit: SplitAudit) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, head and rows of every table."""
    made = [(f"Folds (groups: {audit.group_name or 'unknown'})", *_fold_table(audit))]
    if audit.classes:
        made.append(("Slides a class", *_class_table(audit)))
    if audit.centres:
        made.append(("Share of the centres (%)", *_centre_table(audit)))
    return made


def _fold_table(audit: SplitAudit) -> tuple[list[str], list[list[str]]]:
    """Sizes, and how many slides of one role meet others; what is nowhere met has no column."""
    columns: dict[str, Sequence[int]] = {
        role: [size[role] for size in audit.sizes] for role in ROLES
    }
    for overlap in audit.overlaps:
        if len(overlap.others) > 1:
            continue
        counts = {
            "same slide": overlap.slides,
            "same group": overlap.groups,
            "group, label": overlap.same_label,
            "near-dupl.": overlap.near_duplicates,
        }
        pair = f"{overlap.role} in {overlap.others[0]}:"
        columns |= {
            f"{pair}\n{what}": numbers
            for what, numbers in counts.items()
            if numbers and sum(numbers)
        }
    rows = [
        [str(k), *(str(column[i]) for column in columns.values())]
        for i, k in enumerate(audit.numbers)
    ]
    if len(rows) > 1:
        rows.append(["all", *(str(sum(column)) for column in columns.values())])
    return ["fold", *columns], rows


def _class_table(audit: SplitAudit) -> tuple[list[str], list[list[str]]]:
    """Equal rows of several folds stand once."""
    folds_of: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for role in ROLES:
        for number, count in zip(audit.numbers, audit.class_counts, strict=True):
            if sum(count[role]):
                folds_of.setdefault((role, count[role]), []).append(number)
    rows = [
        [f"{role}, {_folds(numbers, audit)}", *map(str, count)]
        for (role, count), numbers in folds_of.items()
    ]
    return ["part", *audit.classes], rows


def _folds(numbers: Sequence[int], audit: SplitAudit) -> str:
    if len(numbers) == len(audit.numbers) > 1:
        return "every fold"
    return f"fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _centre_table(audit: SplitAudit) -> tuple[list[str], list[list[str]]]:
    """Lowest and highest share over the folds."""
    roles = [role for role in ROLES if any(role in shares for shares in audit.centres)]
    names = sorted({name for shares in audit.centres for role in shares for name in shares[role]})
    rows = []
    for name in names:
        row = [name]
        for role in roles:
            found = [100 * shares[role][name] for shares in audit.centres if role in shares]
            low, high = f"{min(found):.1f}", f"{max(found):.1f}"
            row.append(low if low == high else f"{low} to {high}")
        rows.append(row)
    return ["centre", *roles], rows
