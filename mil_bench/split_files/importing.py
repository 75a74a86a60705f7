"""Turns the lists of another tool into a split file: checked, completed, with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mil_bench.datasets.card import PATIENT
from mil_bench.datasets.slide_ids import own_group
from mil_bench.errors import InputError
from mil_bench.split_files.formats.own import SplitFile
from mil_bench.split_files.refusals import LEAVE_OUT, unknown_slides
from mil_bench.splits.patients import torn_patients
from mil_bench.splits.protocols import IMPORTED

if TYPE_CHECKING:
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides
    from mil_bench.splits.lists import SplitLists


def import_lists(
    lists: SplitLists, spec: DatasetSpec, table: Slides | None, allow_missing: bool = False
) -> SplitFile:
    """A split file of these lists; without validation parts, they are held out of training.

    Args:
        lists: what the files list.
        spec: the dataset's card.
        table: what is known of the slides, None if nothing is.
        allow_missing: whether slides that are not known are left out; else they are an error.

    Raises:
        InputError: the lists are incomplete, contradict themselves, or name slides that are not
            known; or labels belong to patients, and slides of one are in several parts.
        SplitError: there are too few groups to hold out a validation part.
    """
    remedy = "Correct the files; mil-bench splits audit shows what is in them."
    unknown = []
    if table is not None and allow_missing:
        lists = lists.only(frozenset(table.frame["slide"]), f"the {table.origin}")
    elif table is not None:
        unknown = unknown_slides(lists.slides, table)
        remedy += f" {LEAVE_OUT}" if unknown else ""
    torn = [] if table is None or unknown else _torn(lists, spec, table)
    if problems := lists.problems() + unknown + torn:
        raise InputError(f"importing {lists.title}", problems, remedy)
    if not any(fold.val for fold in lists.folds):
        lists = lists.with_validation(*_what_is_known(lists, table))
    return SplitFile(spec.slug, IMPORTED, lists.source, lists.folds, lists.repeats)


def _torn(lists: SplitLists, spec: DatasetSpec, table: Slides) -> list[str]:
    """Patients whose slides are in several parts of a fold, if labels belong to patients."""
    if spec.unit != PATIENT:
        return []
    pairs, listed = zip(table.frame["slide"], table.frame["group"], strict=True), set(lists.slides)
    group_of = {slide: group for slide, group in pairs if slide in listed}
    return torn_patients(lists.folds, group_of, table.group_name)


def _what_is_known(lists: SplitLists, table: Slides | None) -> tuple[pd.DataFrame, str]:
    """Label and group of every slide, and what a group is, by the metadata or else the files."""
    if table is not None and (table.group_name or not lists.groups):
        return table.frame, table.group_name
    slides = lists.slides
    labels = pd.Series([min(lists.labels.get(slide, {""})) for slide in slides])
    groups = [lists.groups.get(slide, own_group(slide)) for slide in slides]
    frame = pd.DataFrame(
        {"slide": slides, "label": pd.factorize(labels, sort=True)[0], "group": groups}
    )
    return frame, PATIENT if lists.groups else ""
