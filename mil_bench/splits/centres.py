"""Leave-one-centre-out: every fold tests one centre and trains on the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench import seeds
from mil_bench.errors import SplitError, printable
from mil_bench.splits.plan import Fold
from mil_bench.splits.validation import cut_validations
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    import pandas as pd

    from mil_bench.hierarchy import LabelHierarchy

LEAVE_ONE_CENTRE_OUT = "leave-one-centre-out"


def number_of_centres(slides: pd.DataFrame) -> int:
    """The number of folds: one for each centre.

    Raises:
        SplitError: the centre of a slide is unknown, or there is only one.
    """
    without = slides.loc[slides["centre"] == "", "slide"].tolist()
    if without:
        raise SplitError(
            f"{LEAVE_ONE_CENTRE_OUT} needs the centre of every slide; {len(without)} of "
            f"{len(slides)} have none (first: {', '.join(without[:3])}). Pack with a label table "
            "that has a centre column; the card names its heading (columns.centre)."
        )
    centres = slides["centre"].unique()
    if len(centres) < 2:
        raise SplitError(
            f"{LEAVE_ONE_CENTRE_OUT} needs at least 2 centres; all slides are from {centres[0]}."
        )
    return len(centres)


def centre_folds(
    slides: pd.DataFrame, _: LabelHierarchy, folds: int, group_name: str
) -> tuple[list[Fold], str]:
    """One fold per centre, in the order of their names, and what a caption must add.

    Validation is cut from the training centres' slides, patients whole. A patient with slides of
    several centres does not train where one of them is tested.

    Raises:
        SplitError: as ``number_of_centres``; or another number of folds is asked for.
    """
    if folds != number_of_centres(slides):
        raise SplitError(
            f"{LEAVE_ONE_CENTRE_OUT} has a fold for each of the {number_of_centres(slides)} "
            f"centres; it cannot have {folds}. Leave out --folds."
        )
    labels, groups, ids, centres = (
        slides[column].to_numpy() for column in ("label", "group", "slide", "centre")
    )
    if (groups == centres).all():
        groups = ids  # the groups are the centres, and patients are unknown
    names = sorted(set(centres))
    tests = [np.flatnonzero(centres == name) for name in names]
    rests = [
        np.flatnonzero(~np.isin(groups, groups[test]) & (centres != name))
        for test, name in zip(tests, names, strict=True)
    ]
    seed = seeds.derive(LEAVE_ONE_CENTRE_OUT, folds)
    # As in patient-kfold: a ninth of the rest of ten folds, never more than a sixth.
    inner = cut_validations(rests, labels, groups, max(folds - 1, 6), seed)
    made = [
        Fold(tuple(ids[train]), tuple(ids[val]), tuple(ids[test]))
        for (train, val), test in zip(inner, tests, strict=True)
    ]
    tested = printable(first_names([f"fold {k} {name}" for k, name in enumerate(names)]))
    source = f"a fold tests one centre: {tested}; validation is cut from the training centres"
    left_out = (folds - 1) * len(ids) - sum(map(len, rests))
    if left_out:
        source += (
            f"; {plural(left_out, 'slide does', 'slides do')} not train where a slide of their "
            f"{group_name} is tested"
        )
    return made, source
