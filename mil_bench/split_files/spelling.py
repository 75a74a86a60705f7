"""Slide ids of split files in the spelling of the metadata, where a program changed them.

Spreadsheets and pandas write the id 100 as 100.0, editors insert invisible characters, and tools
list the path of a feature file or of a slide on another machine.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.splits.plan import ROLES, Fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mil_bench.splits.lists import SplitLists


def meant(slides: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Unknown ids to the known ones that can only be meant.

    Two different unknown ids are never taken for one slide: folders may be all that tells them
    apart.

    Args:
        slides: ids as files spell them.
        known: ids of the metadata.
    """
    known = frozenset(known)
    by_core: dict[str, list[str]] = {}
    for slide in known:
        by_core.setdefault(_core(slide), []).append(slide)
    found = {
        slide: by_core[_core(slide)][0]
        for slide in slides
        if slide not in known and len(by_core.get(_core(slide), ())) == 1
    }
    times = Counter(found.values())
    return {theirs: ours for theirs, ours in found.items() if times[ours] == 1}


def difference(theirs: str, ours: str) -> str:
    """What a program did to an id, in words."""
    if re.fullmatch(r"\d+\.0+", theirs):
        return "a number with a decimal point"
    if not theirs.isprintable() or theirs.strip() != theirs:
        return "with invisible characters"
    if without_ending(theirs) == ours:
        return "with the ending of a file"
    return "the path of a file"


def respelled(lists: SplitLists, known: Iterable[str]) -> SplitLists:
    """The lists with unknown ids replaced by known ones that can only be meant.

    Args:
        lists: the folds as the files spell them.
        known: ids of the metadata.
    """
    names = meant(lists.slides, known)
    if not names:
        return lists
    labels: dict[str, frozenset[str]] = {}
    for slide, texts in lists.labels.items():
        name = names.get(slide, slide)
        labels[name] = labels.get(name, frozenset()) | texts
    return replace(
        lists,
        folds=tuple(
            Fold(*(tuple(names.get(s, s) for s in getattr(fold, role)) for role in ROLES))
            for fold in lists.folds
        ),
        labels=labels,
        groups={names.get(slide, slide): group for slide, group in lists.groups.items()},
        respelled=names,
    )


def _core(slide: str) -> str:
    """An id without what programs add: folders, endings, decimals, invisible characters."""
    text = "".join(
        " " if unicodedata.category(c) == "Zs" else c
        for c in unicodedata.normalize("NFC", slide)
        if unicodedata.category(c) not in ("Cf", "Cc")
    )
    name = without_ending(re.split(r"[\\/]", text.strip())[-1])
    return re.sub(r"^(\d+)\.0+$", r"\1", name)
