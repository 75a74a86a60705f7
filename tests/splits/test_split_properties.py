"""Every protocol keeps its promise on random slides; JSON with keys in any order keeps a plan."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from mil_bench.errors import SplitError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.splits.plan import ROLES, Fold, SplitPlan, kind_of_test
from mil_bench.splits.protocols import IMPORTED, make_splits, plan_from_json

quickly = settings(max_examples=30, deadline=None, database=None, derandomize=True)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[pd.DataFrame, LabelHierarchy]:
    """Slides of 2 or 3 classes; a patient has up to 4 slides, whose labels may differ."""
    n_classes = draw(st.integers(2, 3))
    sizes = draw(st.lists(st.integers(1, 4), min_size=8, max_size=30))
    rows = [
        (f"p{patient}", draw(st.integers(0, n_classes - 1)))
        for patient, size in enumerate(sizes)
        for _ in range(size)
    ]
    frame = pd.DataFrame(draw(st.permutations(rows)), columns=["group", "label"])
    frame["slide"] = [f"s{i}" for i in range(len(frame))]
    frame["split"] = draw(
        st.lists(st.sampled_from(ROLES), min_size=len(frame), max_size=len(frame))
    )
    return frame, LabelHierarchy.flat([f"class {c}" for c in range(n_classes)])


def made(protocol: str, cohort: tuple[pd.DataFrame, LabelHierarchy], folds: int) -> SplitPlan:
    """The plan; slides that cannot be split do not count, but too many of them fail the test."""
    slides, hierarchy = cohort
    try:
        return make_splits(protocol, slides, hierarchy, folds, "patient")
    except SplitError:
        reject()


def assert_disjoint_and_trainable(plan: SplitPlan, slides: pd.DataFrame) -> None:
    label_of = dict(zip(slides["slide"], slides["label"], strict=True))
    for fold in plan.folds:
        listed = Counter((*fold.train, *fold.val, *fold.test))
        assert listed == Counter(slides["slide"])
        assert all((fold.train, fold.val, fold.test))
        assert {label_of[slide] for slide in fold.train} == set(slides["label"])


def leaks_by_hand(plan: SplitPlan, slides: pd.DataFrame) -> tuple[int, ...]:
    group_of = dict(zip(slides["slide"], slides["group"], strict=True))
    return tuple(
        sum(
            any(group_of[slide] == group_of[other] for other in (*fold.train, *fold.val))
            for slide in fold.test
        )
        for fold in plan.folds
    )


@pytest.mark.slow
@quickly
@given(cohorts(), st.integers(2, 5))
def test_patient_kfold_shares_no_patient_and_tests_every_slide_once(
    cohort: tuple[pd.DataFrame, LabelHierarchy], folds: int
) -> None:
    plan, (slides, _) = made("patient-kfold", cohort, folds), cohort
    assert_disjoint_and_trainable(plan, slides)
    tested = Counter(slide for fold in plan.folds for slide in fold.test)
    assert tested == Counter(slides["slide"])
    assert kind_of_test(plan.folds) == f"{folds}-fold cross-validation"
    group_of = dict(zip(slides["slide"], slides["group"], strict=True))
    for fold in plan.folds:
        groups = [{group_of[slide] for slide in getattr(fold, role)} for role in ROLES]
        assert sum(map(len, groups)) == len(set.union(*groups))
    assert not any((*plan.leaks, *plan.val_leaks))


@quickly
@given(cohorts(), st.integers(1, 4))
def test_every_paper_fold_has_all_slides_once_and_its_leaks_are_counted(
    cohort: tuple[pd.DataFrame, LabelHierarchy], folds: int
) -> None:
    plan, (slides, _) = made("paper", cohort, folds), cohort
    assert_disjoint_and_trainable(plan, slides)
    assert plan.leaks == leaks_by_hand(plan, slides)


@quickly
@given(cohorts())
def test_the_official_protocol_follows_the_given_roles_and_counts_their_leaks(
    cohort: tuple[pd.DataFrame, LabelHierarchy],
) -> None:
    plan, (slides, _) = made("official", cohort, 1), cohort
    (fold,) = plan.folds
    for role in ROLES:
        assert set(getattr(fold, role)) == set(slides.loc[slides["split"] == role, "slide"])
    assert plan.leaks == leaks_by_hand(plan, slides)


@st.composite
def imported(draw: st.DrawFn) -> SplitPlan:
    """A plan of folds that someone else has made, with any text as slide ids."""
    ids = draw(st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=12, unique=True))
    folds = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.permutations(ids))
        first, second = sorted(draw(st.sets(st.integers(1, len(ids) - 1), min_size=2, max_size=2)))
        folds.append(Fold(tuple(order[:first]), tuple(order[first:second]), tuple(order[second:])))
    leaks = st.lists(st.integers(0, 3), min_size=len(folds), max_size=len(folds)).map(tuple)
    words = st.text(max_size=12)
    return SplitPlan(
        IMPORTED,
        tuple(folds),
        draw(words),
        draw(leaks),
        draw(leaks),
        draw(words),
        tuple(draw(st.lists(words, max_size=2))),
    )


def reordered(value: Any, data: st.DataObject) -> Any:
    """The same JSON value with the keys of every object in another order."""
    if isinstance(value, dict):
        keys = data.draw(st.permutations(list(value)))
        return {key: reordered(value[key], data) for key in keys}
    return [reordered(item, data) for item in value] if isinstance(value, list) else value


@quickly
@given(imported(), st.data())
def test_a_plan_and_its_digest_survive_json_in_any_order_of_keys(
    plan: SplitPlan, data: st.DataObject
) -> None:
    value = reordered(json.loads(json.dumps(asdict(plan))), data)
    again = plan_from_json(value)
    assert again == plan
    assert again.digest == plan.digest
