"""Turns the lists of another tool into a split file: checked, completed, with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mil_bench.datasets.slide_ids import own_group
from mil_bench.errors import InputError
from mil_bench.split_files.formats.own import SplitFile
from mil_bench.splits.protocols import IMPORTED
from mil_bench.wording import first_names

if TYPE_CHECKING:
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides
    from mil_bench.splits.lists import SplitLists


def import_lists(lists: SplitLists, spec: DatasetSpec, table: Slides | None) -> SplitFile:
    """A split file of these lists; without validation parts, they are held out of training.

    Args:
        lists: what the files list.
        spec: the dataset's card.
        table: what is known of the slides, None if nothing is.

    Raises:
        InputError: the lists are incomplete, contradict themselves, or name slides that are not
            known.
        SplitError: there are too few groups to hold out a validation part.
    """
    problems = lists.problems()
    if table is not None:
        unknown = sorted(set(lists.slides) - set(table.frame["slide"]))
        if unknown:
            shown = "; ".join(filter(None, [first_names(unknown), table.near_miss(unknown)]))
            number = f"{len(unknown)} of {len(lists.slides)} slides"
            problems.append(f"{number} are not in the {table.origin}: {shown}")
    if problems:
        remedy = "Correct the files; mil-bench splits audit shows what is in them."
        raise InputError(f"importing {lists.title}", problems, remedy)
    if not any(fold.val for fold in lists.folds):
        lists = lists.with_validation(*_what_is_known(lists, table))
    return SplitFile(spec.slug, IMPORTED, lists.source, lists.folds)


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
    return frame, "case" if lists.groups else ""
