"""Datasets whose labels belong to patients: what their slides must have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.bags.patients import PatientBags
from mil_bench.datasets.card import BAG
from mil_bench.errors import InputError
from mil_bench.wording import first_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from mil_bench.bags.store import BagStore

_REMEDY = (
    "Give all slides of a patient one label in the label table, or, if a label belongs to its "
    'slide, write unit = "slide" on the card.'
)


def combined(store: BagStore, combine: str) -> BagStore:
    """What is trained on: the patients of a store as bags if they are combined so, or the store."""
    return PatientBags(store.path, store.labels_path) if combine == BAG else store


def patient_problems(slides: pd.DataFrame, classes: Sequence[str], group_name: str) -> list[str]:
    """Patients whose slides have different labels or roles, one line each.

    Args:
        slides: one row per slide with columns slide, label (fine index), group, split.
        classes: names of the fine classes.
        group_name: what a group is.
    """
    return [
        *_different(
            slides.assign(label=[classes[c] for c in slides["label"]]), "label", group_name
        ),
        *_different(slides, "split", group_name),
    ]


def _different(slides: pd.DataFrame, column: str, group_name: str) -> Iterator[str]:
    """The patients whose slides differ in a column."""
    values = slides.groupby("group")[column].nunique()
    for patient in values.index[values > 1]:
        own = slides[slides["group"] == patient].sort_values("slide")
        pairs = zip(own["slide"], own[column], strict=True)
        words = "roles" if column == "split" else "labels"
        named = [f"{slide} {value or 'none'}" for slide, value in pairs]
        yield f"the slides of {group_name} '{patient}' have different {words}: {first_names(named)}"


def require_patients(
    slides: pd.DataFrame, classes: Sequence[str], group_name: str, what: str
) -> None:
    """Refuse slides that cannot be combined by patient.

    Args:
        slides: as of ``patient_problems``.
        classes: names of the fine classes.
        group_name: what a group is, "" if groups are unknown.
        what: the slides, for the message.

    Raises:
        InputError: patients are unknown, or slides of one have different labels or roles.
    """
    if not group_name:
        problem = "the label belongs to the patient, and the patients of the slides are unknown"
        remedy = "Give a label table with a patient column (columns.group on the card)."
        raise InputError(what, [problem], remedy)
    if problems := patient_problems(slides, classes, group_name):
        raise InputError(what, problems, _REMEDY)
