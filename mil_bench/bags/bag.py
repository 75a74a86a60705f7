"""A slide as a value: what is declared of it, and its instances."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import pandas as pd

SLIDE_COLUMNS = ("slide", "label", "group", "split", "centre")
"""Columns of every frame of slides, in the order of the fields of ``Slide``."""
ROLES = frozenset({"", "train", "val", "test"})
"""Official roles that a slide can have."""


@dataclass(frozen=True)
class Slide:
    """What a label table, a packed store or a generator declares of a slide.

    Args:
        id: slide id, always text.
        label: index of the fine class.
        group: patient, centre or writer; if unknown, the slide is its own group.
        split: the dataset's own role of the slide ("train", "val", "test"), "" if it has none.
        centre: who made the slide (hospital, data provider), "" if unknown.
    """

    id: str
    label: int
    group: str
    split: str = ""
    centre: str = ""


def slide_frame(slides: Iterable[Slide]) -> pd.DataFrame:
    """One row per slide with the columns slide, label, group, split, centre."""
    import pandas as pd

    return pd.DataFrame([astuple(slide) for slide in slides], columns=list(SLIDE_COLUMNS))


def patient_frame(slides: pd.DataFrame) -> pd.DataFrame:
    """One row per patient (the group of its slides), as ``slide_frame``, in the order of names.

    The patient is its own slide and group. Its label is that of its first slide; role and centre
    are "" if its slides differ in them.
    """
    by_patient = slides.groupby("group", sort=True)
    frame = by_patient[["label", "split", "centre"]].first()
    for column in ("split", "centre"):
        frame[column] = frame[column].where(by_patient[column].nunique() == 1, "")
    frame["slide"] = frame["group"] = frame.index
    return frame.reset_index(drop=True)[list(SLIDE_COLUMNS)]


@dataclass(frozen=True, eq=False)
class Bag:
    """A slide with its instances.

    Args:
        slide: what is declared of the slide.
        features: ``[n, D]`` float16 or float32, n >= 1.
        coords: ``[n, 2]`` x, y of each instance's top left corner, or None.
        patch_size: side of a patch in the unit of ``coords``, None if unknown.
        instance_labels: ``[n]`` int16, the fine class an instance is a witness of, -1 for
            background; or None.
    """

    slide: Slide
    features: np.ndarray
    coords: np.ndarray | None = None
    patch_size: float | None = None
    instance_labels: np.ndarray | None = None
