"""New slides by patient, for models of a run whose labels belong to patients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.store import BagStore
from mil_bench.datasets.card import BAG, CENTRE
from mil_bench.datasets.slide_ids import own_group, without_ending
from mil_bench.errors import InputError
from mil_bench.inference.predictions import ModelPredictions, PredictedItems
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.inference.slides import NewSlides
    from mil_bench.planning.plan import RunPlan

_REMEDY = "Give all slides of a patient one label, or take some of them out."


@dataclass(frozen=True)
class Patients:
    """Patients and their slides, which are combined as a run has combined them.

    Args:
        name: what a patient is called.
        combine: "bag" or "mean".
        slides_of: patient to its slides, both in the order of their names. A slide whose patient is
            unknown is a patient of its own.
        alone: slides whose patient is unknown.
    """

    name: str
    combine: str
    slides_of: Mapping[str, Sequence[str]]
    alone: Sequence[str]

    @classmethod
    def among(
        cls, slides: Sequence[str], known: Mapping[str, str], plan: RunPlan
    ) -> Patients | None:
        """The patients of slides, None if labels of the run belong to slides.

        Args:
            slides: ids; "" is an array without an id.
            known: slide to patient, of slides whose patient is known.
            plan: of the run, which knows the patients of its own slides.
        """
        if not plan.combine:
            return None
        patient_of = {s: known.get(s) or plan.patients.get(s) or own_name(s) for s in slides}
        members: dict[str, list[str]] = {}
        for patient, slide in sorted((patient, slide) for slide, patient in patient_of.items()):
            members.setdefault(patient, []).append(slide)
        alone = [slide for slide in slides if slide and patient_of[slide] == own_name(slide)]
        return cls(plan.unit, plan.combine, members, alone)

    @property
    def notes(self) -> list[str]:
        """That slides without a known patient count as patients, one sentence or none."""
        if not self.alone:
            return []
        one, many = f"a {self.name} of its own", f"{self.name}s of their own"
        count = plural(
            len(self.alone),
            f"slide has no known {self.name} and counts as {one}",
            f"slides have no known {self.name} and count as {many}",
        )
        which = "" if len(self.alone) == len(self.patient_of) else f": {first_names(self.alone)}"
        return [f"{count}{which}."]

    @cached_property
    def patient_of(self) -> dict[str, str]:
        """Slide to its patient."""
        return {slide: name for name, slides in self.slides_of.items() for slide in slides}

    @property
    def known(self) -> dict[str, str]:
        """Slide to its patient, of slides whose patient is known."""
        return {slide: name for slide, name in self.patient_of.items() if slide not in self.alone}

    def items(self, slides: NewSlides) -> NewSlides:
        """What models are applied to: the bags of patients, or the slides if they are averaged."""
        if self.combine != BAG:
            return slides
        place = {slide: i for i, slide in enumerate(slides.slides)}
        members = [[place[slide] for slide in own] for own in self.slides_of.values()]
        names = tuple(self.slides_of)

        def read(position: int) -> Bag:
            return _joined(names[position], [slides.read(i) for i in members[position]])

        rows = tuple(sum(slides.rows[i] for i in own) for own in members)
        return replace(slides, slides=names, rows=rows, read=read)

    def measured(self, slides: PredictedItems) -> PredictedItems:
        """The patients, as they are measured: as they were predicted, or means over their slides.

        Args:
            slides: predictions of ``items``, with labels and counts of the slides.

        Raises:
            InputError: slides of a patient have different labels.
        """
        predictions = slides.predictions
        return PredictedItems(
            predictions if self.combine == BAG else self._averaged(predictions),
            self.labels(slides.labels, predictions.hierarchy.fine),
            {patient: patient for patient in self.slides_of},
            self.name,
            self.counts(slides.counts),
            self.slides_of,
        )

    def counts(self, of_slides: Mapping[str, int]) -> dict[str, int]:
        """Patient to the highest count of its slides, of patients with a slide that has one."""
        counts: dict[str, int] = {}
        for slide, count in of_slides.items():
            patient = self.patient_of[slide]
            counts[patient] = max(count, counts.get(patient, 0))
        return counts

    def _averaged(self, predictions: ModelPredictions) -> ModelPredictions:
        """The mean over the slides of each patient, for every model."""
        place = {slide: i for i, slide in enumerate(predictions.slides.tolist())}
        members = [[place[slide] for slide in own] for own in self.slides_of.values()]

        def mean(values: np.ndarray) -> np.ndarray:
            return np.stack([values[:, own].mean(1) for own in members], 1)

        head = predictions.coarse_head
        return replace(
            predictions,
            slides=np.array(list(self.slides_of)),
            fine=mean(predictions.fine),
            coarse_head=None if head is None else mean(head),
        )

    def labels(self, of_slides: Mapping[str, int], classes: Sequence[str]) -> dict[str, int]:
        """Patient to the label of its slides, of patients with a slide whose label is known.

        Raises:
            InputError: slides of a patient have different labels.
        """
        labels: dict[str, int] = {}
        problems = []
        for patient, slides in self.slides_of.items():
            own = {slide: of_slides[slide] for slide in slides if slide in of_slides}
            if len(set(own.values())) > 1:
                named = [f"{slide} {classes[label]}" for slide, label in own.items()]
                problems.append(
                    f"the slides of {self.name} '{patient}' have different labels: "
                    f"{first_names(named)}"
                )
            if own:
                labels[patient] = next(iter(own.values()))
        if problems:
            raise InputError("the labels of the slides", problems, _REMEDY)
        return labels


def own_name(slide: str) -> str:
    """What a slide is called as a patient of its own; "" for an array without an id."""
    return own_group(slide) if slide else ""


def _joined(patient: str, bags: Sequence[Bag]) -> Bag:
    """The rows of the bags of a patient, one bag after another, as ``PatientBags`` has them."""
    first = bags[0]

    def column(name: str) -> np.ndarray | None:
        values = [getattr(bag, name) for bag in bags]
        return None if any(value is None for value in values) else np.concatenate(values)

    features = column("features")
    assert features is not None
    sizes = {bag.patch_size for bag in bags}
    return Bag(
        Slide(patient, first.slide.label, patient),
        features,
        column("coords"),
        first.patch_size if len(sizes) == 1 else None,
        column("instance_labels"),
    )


Part = tuple[Bag, slice | None]
"""A slide and its rows in a bag, None for all rows."""


@dataclass(frozen=True)
class Subject:
    """What is mapped: a slide, or the slides of a patient.

    Args:
        patient: their patient, "" if labels of the run belong to slides or it is unknown.
        members: slides that are read, in the order of their ids.
        shown: those of them that are shown.
        is_bag: whether ``members`` are one bag.
        notes: what must be known, one sentence each.
    """

    patient: str
    members: Sequence[str]
    shown: Sequence[str]
    is_bag: bool = False
    notes: tuple[str, ...] = ()

    def bags(self, members: Sequence[Bag]) -> list[tuple[Bag, Sequence[Bag], list[Part]]]:
        """What models get, the slides in it, and those that are shown with their rows in it."""
        if not self.is_bag:
            return [(bag, [bag], [(bag, None)]) for bag in members]
        ends = np.cumsum([len(bag.features) for bag in members]).tolist()
        parts: list[Part] = [
            (bag, slice(end - len(bag.features), end))
            for name, bag, end in zip(self.members, members, ends, strict=True)
            if name in self.shown
        ]
        return [(_joined(self.patient, members), members, parts)]


def subject_of(plan: RunPlan, source: Path | BagStore, name: str) -> Subject:
    """The slide or patient of a name.

    A bag store names the patients of its slides. For feature files, the run names the patients of
    the slides on which it trained or tested.

    Args:
        plan: of the run.
        source: where the features are.
        name: a slide, which may have the ending of its file, or a patient.
    """
    if not plan.combine:
        return Subject("", [name], [name])
    known: Mapping[str, str] = {}
    if not isinstance(source, BagStore):
        known = plan.patients if source.is_dir() else {}
    elif source.group_name not in ("", CENTRE):
        known = dict(zip(source.slides["slide"], source.slides["group"], strict=True))
    slide = next((s for s in (name, without_ending(name)) if s in known), "")
    patient = known.get(slide, name)
    members = sorted(s for s, group in known.items() if group == patient)
    if not members:
        note = f"The {plan.unit} of the slide is unknown, so the slide is mapped alone."
        return Subject("", [name], [name], notes=(note,))
    shown = [slide] if slide else members
    is_bag = plan.combine == BAG
    return Subject(patient, members if is_bag else shown, shown, is_bag)
