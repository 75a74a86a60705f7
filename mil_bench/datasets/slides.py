"""What is known of a dataset's slides before or after packing: label, group, official role, centre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mil_bench.datasets.catalogue import open_store, store_path
from mil_bench.datasets.labels import read_label_sheet
from mil_bench.datasets.slide_ids import SlideNames, own_group

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec

_WORDS_FOR_NONE = {"nan", "na", "n/a", "none", "null", "unknown", "missing", "-", "?", "."}


@dataclass(frozen=True)
class Slides:
    """Slides and where they are known from.

    Args:
        frame: one row a slide with columns slide, label (fine index), group, split, centre.
        group_name: what a group is, "" where groups are unknown.
        origin: where this is known from, in words.
        may_stand_alone: whether a slide without a group is known to have none, so that nothing is
            unknown.
    """

    frame: pd.DataFrame
    group_name: str
    origin: str
    may_stand_alone: bool = False

    @cached_property
    def without_group(self) -> frozenset[str]:
        """Slides whose group is not known although others' are: each counts as its own group."""
        if not self.group_name or self.may_stand_alone:
            return frozenset()
        pairs = zip(self.frame["slide"], self.frame["group"], strict=True)
        return frozenset(slide for slide, group in pairs if group == own_group(slide))

    def blind_spots(self, slides: Iterable[str]) -> tuple[str, ...]:
        """What counting leaks among some slides cannot see, one clause or none."""
        number, name = len(self.without_group & set(slides)), self.group_name
        if not number:
            return ()
        have = "slide has" if number == 1 else "slides have"
        return (
            f"{number} {have} no {name}: each counts as a {name} of its own, so leaks among them cannot be seen",
        )

    def group_notes(self, slides: Iterable[str]) -> tuple[str, ...]:
        """Where counting groups among some slides may be wrong, one sentence each."""
        found = [f"{clause}." for clause in self.blind_spots(slides)]
        if not self.group_name:
            return ()
        spelled: dict[str, list[str]] = {}
        for group, number in self.frame["group"].value_counts(sort=False).items():
            spelled.setdefault(str(group).lower(), []).append(f"'{group}'")
            if number > 1 and str(group).lower() in _WORDS_FOR_NONE:
                cure = f"leave the cell blank where the {self.group_name} is not known"
                found.append(f"{number} slides share the {self.group_name} '{group}'; {cure}.")
        twins = [names for names in spelled.values() if len(names) > 1]
        if twins:
            shown = "; ".join(" and ".join(names) for names in twins[:5]) + (
                "; ..." if len(twins) > 5 else ""
            )
            found.append(
                f"Counted as different, but spelled alike, is each {self.group_name} of {shown}."
            )
        return tuple(found)

    def near_miss(self, slides: Iterable[str]) -> str:
        """A hint at what the first of some unknown slides may mean that can be guessed, "" without a guess."""
        hints = ((slide, self._names.near_miss(slide, f"the {self.origin}")) for slide in slides)
        return next((f"for '{slide}' {hint}" for slide, hint in hints if hint), "")

    @cached_property
    def _names(self) -> SlideNames:
        return SlideNames(self.frame["slide"])


def packed_slides(store: BagStore, spec: DatasetSpec) -> Slides:
    """The slides of a packed store."""
    alone = spec.groups.may_be_blank(store.group_name)
    return Slides(store.slides, store.group_name, f"packed store {store.path.name}", alone)


def known_slides(spec: DatasetSpec, labels: Path | None, data: Path) -> Slides | None:
    """The slides of a label sheet; without one those of the packed store; None where there is neither.

    A generated dataset is made if it is not there.

    Raises:
        InputError: the sheet or the store is broken.
    """
    if labels is not None:
        sheet = read_label_sheet(labels, spec)
        alone = spec.groups.may_be_blank(sheet.group_name)
        return Slides(sheet.frame, sheet.group_name, f"label sheet {labels.name}", alone)
    packed = spec.generator is not None or store_path(spec, data).exists()
    return packed_slides(open_store(spec, data), spec) if packed else None
