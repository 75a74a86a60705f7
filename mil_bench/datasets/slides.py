"""What is known of a dataset's slides before and after packing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mil_bench.bags.bag import SLIDE_COLUMNS
from mil_bench.datasets.catalogue import is_packed, on_the_command_line, open_store, stores_of
from mil_bench.datasets.labels import read_label_table
from mil_bench.datasets.slide_ids import SlideNames, own_group
from mil_bench.datasets.spelling import look, means_nothing
from mil_bench.errors import InputError
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import pandas as pd

    from mil_bench.bags.bag import Bag
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
        facts: what captions must add, one clause each.
    """

    frame: pd.DataFrame
    group_name: str
    origin: str
    may_stand_alone: bool = False
    facts: tuple[str, ...] = ()

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
    origin = f"packed store {store.path.name}"
    if store.labels_path is not None:
        origin += f" with {store.labels_path.name}"
    return Slides(store.slides, store.group_name, origin, alone)


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
    return packed_slides(any_store(spec, data), spec) if is_packed(spec, data) else None


def any_store(
    spec: DatasetSpec,
    data: Path,
    watch: Callable[[Iterable[Bag], int], Iterable[Bag]] | None = None,
) -> BagStore:
    """The bags of a dataset for what is the same with every encoder: the first of its encoders.

    Args:
        spec: the dataset's card.
        data: folder of the stores.
        watch: as of ``open_store``.
    """
    encoders = [] if spec.generator is not None else [*stores_of(spec, data)]
    return open_store(spec, data, watch, encoders[0] if any(encoders) else None)


def common_slides(stores: Mapping[str, BagStore], spec: DatasetSpec, allow_missing: bool) -> Slides:
    """The slides that all of several stores of a dataset have; the same whichever store is first.

    Args:
        stores: by encoder, at least one.
        spec: the dataset's card.
        allow_missing: leave out slides that a store lacks; else they are an error.

    Raises:
        InputError: a store lacks slides, or a slide has another label, group, centre or role.
    """
    encoders = sorted(stores)
    frames = [stores[encoder].slides[list(SLIDE_COLUMNS)] for encoder in encoders]
    slides = [set(frame["slide"]) for frame in frames]
    every, present = set.union(*slides), set.intersection(*slides)
    lacking = {e: sorted(every - own) for e, own in zip(encoders, slides, strict=True)}
    lacking = {encoder: names for encoder, names in lacking.items() if names}
    problems = [
        f"{encoder} lacks {plural(len(names), 'slide')}: {first_names(names)}"
        for encoder, names in lacking.items()
        if not allow_missing or not present
    ]
    frames = [frame[frame["slide"].isin(present)].reset_index(drop=True) for frame in frames]
    by_slide = [frame.sort_values("slide", ignore_index=True) for frame in frames]
    for encoder, frame in zip(encoders[1:], by_slide[1:], strict=True):
        differs = (frame != by_slide[0]).any(axis=1)
        if differs.any():
            names = first_names(frame["slide"][differs].tolist())
            problems.append(f"{encoder} and {encoders[0]} have different labels of {names}")
    if problems:
        named = on_the_command_line(spec.slug)
        raise InputError(
            f"{spec.name} with the encoders {', '.join(encoders)}",
            problems,
            "Leave slides that one lacks out of all with --allow-missing; give all stores the "
            f"labels of one table with mil-bench data label --dataset {named} --labels TABLE.",
        )
    is_same = all(frame["slide"].equals(frames[0]["slide"]) for frame in frames)
    count = plural(len(every - present), "slide is", "slides are")
    by_encoder = ", ".join(f"{encoder} {len(names)}" for encoder, names in lacking.items())
    return replace(
        packed_slides(stores[encoders[0]], spec),
        frame=frames[0] if is_same else by_slide[0],
        origin=f"packed stores of {', '.join(encoders)}",
        facts=(f"{count} left out because an encoder lacks them ({by_encoder})",)
        if lacking
        else (),
    )
