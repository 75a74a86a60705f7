"""What is known of a dataset's slides before and after packing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mil_bench.datasets.catalogue import open_store, store_path
from mil_bench.datasets.labels import read_label_table
from mil_bench.datasets.slide_ids import SlideNames, own_group
from mil_bench.datasets.spelling import look, means_nothing
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec


@dataclass(frozen=True)
class Slides:
    """Slides and the source they are known from.

    Args:
        frame: one row per slide with columns slide, label (fine index), group, split, centre.
        group_name: what a group is, "" if groups are unknown.
        origin: the source, in words.
        may_stand_alone: whether a slide without a group is known to have none.
    """

    frame: pd.DataFrame
    group_name: str
    origin: str
    may_stand_alone: bool = False

    @cached_property
    def without_group(self) -> frozenset[str]:
        """Slides whose group is unknown although others' are known; each is its own group."""
        if not self.group_name or self.may_stand_alone:
            return frozenset()
        pairs = zip(self.frame["slide"], self.frame["group"], strict=True)
        return frozenset(slide for slide, group in pairs if group == own_group(slide))

    def blind_spots(self, slides: Iterable[str]) -> tuple[str, ...]:
        """What counting leaks among some slides cannot detect, one clause or none."""
        number, name = len(self.without_group & set(slides)), self.group_name
        if not number:
            return ()
        return (
            f"{plural(number, 'slide has', 'slides have')} no {name}: each counts as a {name} of "
            "its own, so leaks among them cannot be detected",
        )

    def group_notes(self, slides: Iterable[str]) -> tuple[str, ...]:
        """Why counting groups among some slides may be wrong, one sentence each."""
        notes = [f"{clause}." for clause in self.blind_spots(slides)]
        if not self.group_name:
            return ()
        spelled: dict[str, list[str]] = {}
        for group, number in self.frame["group"].value_counts(sort=False).items():
            spelled.setdefault(look(str(group)), []).append(f"'{group}'")
            if number > 1 and means_nothing(str(group)):
                notes.append(
                    f"{number} slides share the {self.group_name} '{group}'; "
                    f"leave the cell blank if the {self.group_name} is unknown."
                )
        alike = [" and ".join(names) for names in spelled.values() if len(names) > 1]
        if alike:
            shown = "; ".join(alike[:5]) + ("; ..." if len(alike) > 5 else "")
            notes.append(
                f"Spellings of a {self.group_name} that look alike (case, blanks, letters of "
                f"another alphabet) count as different: {shown}."
            )
        return tuple(notes)

    def near_miss(self, slides: Iterable[str]) -> str:
        """A hint at the slide that one of some unknown ids may mean, "" if none is similar."""
        hints = ((slide, self._names.near_miss(slide, f"the {self.origin}")) for slide in slides)
        return next((f"for '{slide}' {hint}" for slide, hint in hints if hint), "")

    @cached_property
    def _names(self) -> SlideNames:
        return SlideNames(self.frame["slide"])


def packed_slides(store: BagStore, spec: DatasetSpec) -> Slides:
    """The slides of a packed store."""
    alone = spec.groups.may_be_blank(store.group_name)
    return Slides(store.slides, store.group_name, f"packed store {store.path.name}", alone)


def known_slides(
    spec: DatasetSpec, labels: Path | None, data: Path, allow_missing: bool = False
) -> Slides | None:
    """The slides of a label table, else those of the packed store, None if there is neither.

    With ``allow_missing``, rows of the table whose label is missing are left out. A generated
    dataset is made if it is not there.

    Raises:
        InputError: the table or the store is broken.
    """
    if labels is not None:
        table = read_label_table(labels, spec, allow_missing)
        alone = spec.groups.may_be_blank(table.group_name)
        return Slides(table.frame, table.group_name, f"label table {labels.name}", alone)
    packed = spec.generator is not None or store_path(spec, data).exists()
    return packed_slides(open_store(spec, data), spec) if packed else None
