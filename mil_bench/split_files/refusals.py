"""Why a run would refuse lists, found before any training: what an audit calls a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.errors import SplitError
from mil_bench.split_files.spelling import difference, meant
from mil_bench.splits.protocols import PROTOCOLS
from mil_bench.wording import first_names, in_group, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.datasets.slides import Slides
    from mil_bench.split_files.overlaps import Overlap
    from mil_bench.splits.lists import SplitLists

LEAVE_OUT = "Add --allow-missing to leave out slides that are not there."
"""What to do about a split that names slides without features."""


def refusals(
    lists: SplitLists,
    table: Slides | None,
    label_of: Mapping[str, str],
    classes: Sequence[str],
    found: Sequence[Overlap],
) -> list[str]:
    """Why mil-bench cannot train on these lists as they are, one line each.

    Args:
        lists: the folds, also incomplete ones.
        table: what is known of the slides, None if nothing is.
        label_of: slide to the name of its class, where it is known.
        classes: names of the classes.
        found: the overlaps between roles.
    """
    problems = [*lists.refusals, *lists.problems()]
    if table is not None:
        unknown = unknown_slides(lists.slides, table)
        known = set(table.frame["slide"]) & set(lists.slides)
        hint = "; --allow-missing leaves out slides that are not there" if known else ""
        problems += [line + hint for line in unknown]
    if not problems and table is not None and not any(fold.val for fold in lists.folds):
        problems += _too_few_groups(lists, table)
    for number, fold in zip(lists.numbers, lists.folds, strict=True):
        trained = {label_of.get(slide, "") for slide in fold.train}
        missing = [name for name in classes if name not in trained]
        if missing and trained and "" not in trained:
            problems.append(f"fold {number} has no training slide of {', '.join(missing)}")
    return problems + _broken_promises(lists, table, found)


def unknown_slides(listed: Sequence[str], table: Slides, whose: str = "") -> list[str]:
    """How many listed slides the metadata do not know, with a hint, in one line or none.

    Args:
        listed: the slides of a split.
        table: the metadata.
        whose: whose slides they are, with a blank behind it ("its ").
    """
    known = set(table.frame["slide"])
    unknown = [slide for slide in listed if slide not in known]
    if not unknown:
        return []
    none = "no listed slide is known: " if len(unknown) == len(listed) else ""
    are = "is" if len(listed) == 1 else "are"
    number = f"{len(unknown)} of {whose}{plural(len(listed), 'slide')} {are}"
    hint = _hint(unknown, table) or table.near_miss(unknown)
    shown = "; ".join(filter(None, [first_names(unknown), hint]))
    return [f"{none}{number} not in the {table.origin}: {shown}"]


def _hint(unknown: Sequence[str], table: Slides) -> str:
    """What an import reads unknown ids as, "" if it can only guess."""
    names = meant(unknown, table.frame["slide"])
    if not names:
        return ""
    theirs, ours = next(iter(names.items()))
    return (
        f"for '{theirs}' the {table.origin} has '{ours}': {difference(theirs, ours)} (mil-bench "
        f"splits import reads {len(names)} of them so)"
    )


def _too_few_groups(lists: SplitLists, table: Slides) -> list[str]:
    try:
        lists.with_validation(table.frame, table.group_name)
    except SplitError as error:
        reason = in_group(str(error), table.group_name)
        return [f"no fold lists val slides, and {reason[0].lower()}{reason[1:-1]}"]
    return []


def _broken_promises(
    lists: SplitLists, table: Slides | None, found: Sequence[Overlap]
) -> list[str]:
    """Shared groups that the protocol of a split file rules out."""
    protocol = PROTOCOLS.get(lists.protocol)
    if protocol is None or protocol.allows_leaks:
        return []
    group = (table.group_name if table is not None else "") or "group"
    shared = {
        (overlap.role, overlap.others[0]): sum(overlap.groups or ())
        for overlap in found
        if len(overlap.others) == 1
    }
    return [
        f"{number} {role} slides share a {group} with {other} slides, which the protocol "
        f"{lists.protocol} rules out"
        for (role, other), number in shared.items()
        if number and protocol.forbids(number * (role == "test"), number * (role == "val"))
    ]
