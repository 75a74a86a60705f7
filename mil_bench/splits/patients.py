"""Splits of patients whose slides share a label."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.bags.bag import patient_frame
from mil_bench.errors import SplitError
from mil_bench.splits.centres import LEAVE_ONE_CENTRE_OUT
from mil_bench.splits.plan import ROLES, Fold, SplitPlan
from mil_bench.splits.protocols import make_splits
from mil_bench.wording import first_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from mil_bench.hierarchy import LabelHierarchy


def split_patients(
    name: str,
    slides: pd.DataFrame,
    hierarchy: LabelHierarchy,
    folds: int,
    group_name: str,
    repeats: int = 1,
) -> SplitPlan:
    """As ``make_splits``, for patients as items: a protocol sees one row per patient.

    The folds list the slides of the patients, so that split files, exports and audits know of
    slides only, and the same folds serve slides that are one bag or that are predicted apart.

    Raises:
        SplitError: as ``make_splits``; or centres are tested and a patient has several.
    """
    patients = patient_frame(slides)
    if name == LEAVE_ONE_CENTRE_OUT:
        centres = slides.groupby("group")["centre"].nunique()
        if several := centres.index[centres > 1].tolist():
            raise SplitError(
                f"{name} tests one centre per fold, and slides of one {group_name} are from "
                f"several centres: {first_names(several)}. Use patient-kfold."
            )
    plan = make_splits(name, patients, hierarchy, folds, group_name, repeats)
    slides_of = slides.groupby("group")["slide"].agg(tuple)
    listed = tuple(
        Fold(*(tuple(s for p in getattr(fold, role) for s in slides_of[p]) for role in ROLES))
        for fold in plan.folds
    )
    return replace(plan, folds=listed)


def torn_patients(folds: Sequence[Fold], group_of: Mapping[str, str], group_name: str) -> list[str]:
    """Patients of whom a role of a fold has some slides and lacks others, one line each.

    Args:
        folds: the folds.
        group_of: slide to patient, of all slides.
        group_name: what a group is.
    """
    slides_of: dict[str, set[str]] = {}
    for slide, group in group_of.items():
        slides_of.setdefault(group, set()).add(slide)
    problems: dict[str, str] = {}
    for k, fold in enumerate(folds):
        for role in ROLES:
            listed = set(getattr(fold, role))
            for group in {group_of[slide] for slide in listed}:
                if rest := sorted(slides_of[group] - listed):
                    problems.setdefault(
                        group,
                        f"the {role} slides of fold {k} have some slides of {group_name} '{group}' "
                        f"and lack {first_names(rest)}",
                    )
    return [problems[group] for group in sorted(problems)]
