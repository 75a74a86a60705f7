"""Splits: every protocol keeps its promise, and says what it does not promise."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from mil_bench.benchmarks.bracs import BRACS
from mil_bench.benchmarks.ccc import CCC_SIM

from mil_bench.bags.bag import slide_frame
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.datasets.labels import read_label_table
from mil_bench.errors import SplitError, UnknownNameError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.splits.plan import ROLES, Fold, SplitPlan
from mil_bench.splits.protocols import PROTOCOLS, make_splits, plan_from_json, protocol_named

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec

TWO = LabelHierarchy.flat(["often", "rare"])


def table_of(labels: list[int], groups: list[str], roles: list[str] | None = None) -> pd.DataFrame:
    ids = [f"slide-{i:03d}" for i in range(len(labels))]
    return pd.DataFrame(
        {"slide": ids, "label": labels, "group": groups, "split": roles or [""] * len(ids)}
    )


def table_of_twin(spec: DatasetSpec) -> pd.DataFrame:
    return slide_frame(bag.slide for bag in spec.generator.generate(spec))


@pytest.fixture(scope="module")
def twin() -> pd.DataFrame:
    """All 547 slides and 189 patients of BRACS's twin."""
    return table_of_twin(find_dataset("bracs-sim:rows=4,width=8"))


@pytest.fixture(scope="module")
def real(shared: Path) -> pd.DataFrame:
    """Slides, patients, labels and roles of the real BRACS."""
    path = shared / "data" / "official" / "bracs_meta.csv"
    if not path.is_file():
        pytest.skip("the real BRACS label table is not there")
    rows = read_label_table(path, BRACS).slides
    return pd.DataFrame(
        {
            "slide": list(rows),
            "label": [row.label for row in rows.values()],
            "group": [row.group for row in rows.values()],
            "split": [row.split for row in rows.values()],
        }
    )


def column(slides: pd.DataFrame, name: str) -> dict[str, object]:
    return dict(zip(slides["slide"], slides[name], strict=True))


def assert_honest(plan: SplitPlan, slides: pd.DataFrame, classes: int) -> None:
    """What patient-kfold promises, counted independently of the code that made it."""
    group_of, label_of = column(slides, "group"), column(slides, "label")
    tested = Counter(slide for fold in plan.folds for slide in fold.test)
    assert tested == Counter(slides["slide"])
    for fold in plan.folds:
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(slides["slide"])
        groups = [{group_of[slide] for slide in getattr(fold, role)} for role in ROLES]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert {label_of[slide] for slide in fold.train} == set(range(classes))
        assert fold.val
    assert plan.leaks == (0,) * len(plan.folds)


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_patient_kfold_tests_every_slide_once_and_keeps_groups_together(
    twin: pd.DataFrame, folds: int
) -> None:
    plan = make_splits("patient-kfold", twin, BRACS.hierarchy, folds, "patient")
    assert len(plan.folds) == folds
    assert_honest(plan, twin, 7)
    assert plan.leak_sentence == "no patient is shared between training, validation and test"


def test_patient_kfold_works_where_groups_are_few() -> None:
    slides = table_of_twin(replace(CCC_SIM, generator=replace(CCC_SIM.generator, rows=4, width=8)))
    plan = make_splits("patient-kfold", slides, CCC_SIM.hierarchy, CCC_SIM.folds, "centre")
    assert_honest(plan, slides, 6)


def test_patient_kfold_keeps_class_shares_alike_where_every_slide_is_its_own_group() -> None:
    slides = table_of([0] * 80 + [1] * 20, [f"g{i}" for i in range(100)])
    plan = make_splits("patient-kfold", slides, TWO, 10, "patient")
    label_of = column(slides, "label")
    for fold in plan.folds:
        assert Counter(label_of[slide] for slide in fold.test) == {0: 8, 1: 2}


def test_the_same_call_gives_the_same_digest(twin: pd.DataFrame) -> None:
    first, second = (
        make_splits("patient-kfold", twin, BRACS.hierarchy, 5, "patient") for _ in range(2)
    )
    assert first == second
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("protocol", "digest"),
    [("patient-kfold", "4be07767e9eb48d0"), ("paper", "26669727c9a9eb4b")],
)
def test_digests_stay_with_other_versions_of_packages(
    twin: pd.DataFrame, protocol: str, digest: str
) -> None:
    """Where this fails, a package deals other folds: its allowed versions are to be bounded.

    scikit-learn did so with version 1.8.
    """
    assert make_splits(protocol, twin, BRACS.hierarchy, 5, "patient").digest == digest


def test_the_digest_does_not_depend_on_numpys_global_state(twin: pd.DataFrame) -> None:
    state = np.random.get_state()
    digests = set()
    try:
        for seed in (1, 2):
            np.random.seed(seed)
            digests.add(make_splits("patient-kfold", twin, BRACS.hierarchy, 3, "patient").digest)
    finally:
        np.random.set_state(state)
    assert len(digests) == 1


def test_digests_are_those_that_stored_results_were_made_with() -> None:
    slides = table_of([0, 1] * 30, [f"g{i // 2}" for i in range(60)], ["train", "val", "test"] * 20)
    digests = {
        p: make_splits(p, slides, TWO, k, "patient").digest
        for p, k in (("paper", 10), ("official", 1))
    }
    assert digests == {"paper": "82321ea6106a957f", "official": "c4b31680b2bfa7da"}
    # Changed once: validation parts of all folds are now cut together.
    assert make_splits("patient-kfold", slides, TWO, 5, "patient").digest == "dd57ad045734e71c"


def test_a_plan_survives_the_round_trip_and_older_ones_can_be_read() -> None:
    slides = table_of([0, 1] * 30, [f"g{i}" for i in range(60)])
    plan = replace(
        make_splits("paper", slides, TWO, 10, "patient"), facts=("3 of 63 slides are in no fold",)
    )
    value = json.loads(json.dumps(asdict(plan)))
    assert plan_from_json(value) == plan
    del value["source"], value["facts"]  # as plans were stored before split files
    assert plan_from_json(value) == replace(plan, facts=())


def test_the_digest_changes_when_one_slide_moves(twin: pd.DataFrame) -> None:
    plan = make_splits("patient-kfold", twin, BRACS.hierarchy, 5, "patient")
    first = plan.folds[0]
    moved = Fold(first.train[1:], (*first.val, first.train[0]), first.test)
    assert replace(plan, folds=(moved, *plan.folds[1:])).digest != plan.digest


def test_the_digest_changes_with_the_order_of_folds_and_names_nothing_but_the_assignment(
    twin: pd.DataFrame,
) -> None:
    plan = make_splits("patient-kfold", twin, BRACS.hierarchy, 5, "patient")
    assert replace(plan, folds=plan.folds[::-1]).digest != plan.digest
    assert replace(plan, protocol="imported", source="x").digest == plan.digest


def test_folds_of_the_same_slides_are_equal_in_whatever_order_they_are_listed() -> None:
    # The order of validation slides decides the last digits of their mean loss, and so the epoch
    # that is kept.
    fold = Fold(("b", "a"), ("d", "c"), ("f", "e"))
    assert fold == Fold(("a", "b"), ("c", "d"), ("e", "f"))
    assert (fold.train, fold.val, fold.test) == (("a", "b"), ("c", "d"), ("e", "f"))


def test_too_many_folds_name_the_class_and_the_largest_possible_number() -> None:
    labels = [0] * 40 + [1] * 8
    groups = [f"g{i}" for i in range(40)] + [f"rare-{i % 4}" for i in range(8)]
    slides = table_of(labels, groups)
    with pytest.raises(SplitError) as caught:
        make_splits("patient-kfold", slides, TWO, 5, "patient")
    assert "5 folds" in str(caught.value)
    assert "rare is in 4" in str(caught.value)
    assert "often" not in str(caught.value)
    assert "--folds 4 at most" in str(caught.value)
    plan = make_splits("patient-kfold", slides, TWO, 4, "patient")  # the advice holds
    assert len(plan.folds) == 4
    assert_honest(plan, slides, 2)


def test_a_class_of_one_group_is_named_and_no_number_of_folds_is_advised() -> None:
    slides = table_of([0] * 10 + [1] * 3, [f"g{i}" for i in range(10)] + ["same"] * 3)
    with pytest.raises(SplitError, match="rare is in 1") as caught:
        make_splits("patient-kfold", slides, TWO, 2, "patient")
    assert "--folds" not in str(caught.value)


def test_a_class_without_slides_is_named() -> None:
    slides = table_of([0] * 10, [f"g{i}" for i in range(10)])
    with pytest.raises(SplitError, match="rare is in 0"):
        make_splits("patient-kfold", slides, TWO, 2, "patient")


@pytest.mark.parametrize("folds", [1, 0, -1])
def test_fewer_than_two_folds_are_refused(twin: pd.DataFrame, folds: int) -> None:
    with pytest.raises(SplitError, match="at least 2 folds"):
        make_splits("patient-kfold", twin, BRACS.hierarchy, folds, "patient")


@pytest.mark.parametrize(("slides_per_class", "folds"), [(3, 2), (5, 2), (5, 3), (5, 5), (10, 2)])
def test_a_small_study_can_be_split(slides_per_class: int, folds: int) -> None:
    slides = table_of([0, 1] * slides_per_class, [f"g{i}" for i in range(2 * slides_per_class)])
    plan = make_splits("patient-kfold", slides, TWO, folds, "patient")
    assert len(plan.folds) == folds
    assert_honest(plan, slides, 2)


def test_groups_too_few_to_train_validate_and_test_are_refused() -> None:
    slides = table_of([0, 1] * 6, ["g0", "g0", "g1", "g1"] * 3)
    with pytest.raises(SplitError):
        make_splits("patient-kfold", slides, TWO, 2, "patient")


def test_the_paper_protocol_has_the_same_class_counts_in_every_split(twin: pd.DataFrame) -> None:
    plan = make_splits("paper", twin, BRACS.hierarchy, 10, "patient")
    label_of = column(twin, "label")
    per_role = {
        role: {
            tuple(sorted(Counter(label_of[s] for s in getattr(fold, role)).items()))
            for fold in plan.folds
        }
        for role in ROLES
    }
    assert {role: len(counts) for role, counts in per_role.items()} == {
        "train": 1,
        "val": 1,
        "test": 1,
    }
    assert len(plan.folds) == 10
    assert len({fold.test for fold in plan.folds}) == 10


def test_the_paper_protocol_holds_out_a_tenth_of_every_class_twice() -> None:
    slides = table_of([0] * 100 + [1] * 30, [f"g{i}" for i in range(130)])
    label_of = column(slides, "label")
    for fold in make_splits("paper", slides, TWO, 10, "patient").folds:
        counts = {role: Counter(label_of[slide] for slide in getattr(fold, role)) for role in ROLES}
        assert counts == {"train": {0: 80, 1: 24}, "val": {0: 10, 1: 3}, "test": {0: 10, 1: 3}}
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(slides["slide"])


def test_the_paper_protocol_says_that_groups_leak(twin: pd.DataFrame) -> None:
    plan = make_splits("paper", twin, BRACS.hierarchy, 10, "patient")
    group_of = column(twin, "group")
    counted = tuple(
        sum(group_of[s] in {group_of[t] for t in (*fold.train, *fold.val)} for s in fold.test)
        for fold in plan.folds
    )
    tested = sum(len(fold.test) for fold in plan.folds)
    assert sum(counted) > 0
    assert plan.leaks == counted
    assert plan.leak_sentence.startswith(f"LEAKS: {sum(counted)} of {tested} test slides (")
    assert "share a patient with training or validation" in plan.leak_sentence


def test_the_paper_protocol_is_silent_about_leaks_where_groups_do_not_overlap() -> None:
    slides = table_of([0, 1] * 30, [f"g{i}" for i in range(60)])
    assert "LEAKS" not in make_splits("paper", slides, TWO, 10, "patient").leak_sentence


def test_unknown_groups_are_never_called_leak_free(twin: pd.DataFrame) -> None:
    plan = make_splits("paper", twin, BRACS.hierarchy, 2, "")
    assert "patients are unknown" in plan.leak_sentence


def test_the_paper_protocol_refuses_a_class_too_small_to_train() -> None:
    slides = table_of([0] * 30 + [1] * 2, [f"g{i}" for i in range(32)])
    with pytest.raises(SplitError, match="no training slide of rare"):
        make_splits("paper", slides, TWO, 10, "patient")


def test_the_official_protocol_follows_the_roles_of_the_sheet() -> None:
    roles = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    slides = table_of([0, 1] * 4, [f"g{i}" for i in range(8)], roles)
    plan = make_splits("official", slides, TWO, 1, "patient")
    ids = list(slides["slide"])
    assert plan.folds == (Fold(tuple(ids[:4]), tuple(ids[4:6]), tuple(ids[6:])),)


def test_a_sheet_without_roles_cannot_have_the_official_split(twin: pd.DataFrame) -> None:
    with pytest.raises(SplitError) as caught:
        make_splits("official", twin, BRACS.hierarchy, 1, "patient")
    assert "547 of 547 have none" in str(caught.value)
    assert "has a split column (train, val or test)" in str(caught.value)


def test_a_single_slide_without_a_role_is_named() -> None:
    slides = table_of(
        [0, 1] * 4, [f"g{i}" for i in range(8)], ["train"] * 4 + ["val"] * 2 + ["test", ""]
    )
    with pytest.raises(SplitError, match=r"1 of 8 have none .*slide-007"):
        make_splits("official", slides, TWO, 1, "patient")


def test_an_official_split_without_a_validation_part_gets_one_of_whole_training_groups() -> None:
    roles = ["train"] * 36 + ["test"] * 4
    slides = table_of([0, 1] * 20, [f"g{i // 4}" for i in range(40)], roles)
    plan = make_splits("official", slides, TWO, 1, "patient")
    (fold,) = plan.folds
    ids = list(slides["slide"])
    assert (len(fold.val), list(fold.test)) == (4, ids[36:])
    assert sorted([*fold.train, *fold.val]) == ids[:36]
    assert len({column(slides, "group")[slide] for slide in fold.val}) == 1
    assert plan.val_leaks == (0,)
    assert plan.source == (
        "without a validation part; mil-bench holds out a ninth of the training patients, "
        "stratified and seeded"
    )
    assert make_splits("official", slides, TWO, 1, "patient").digest == plan.digest


@pytest.mark.parametrize("absent", ["train", "test"])
def test_an_official_split_without_a_role_is_refused(absent: str) -> None:
    roles = sorted({"train", "val", "test"} - {absent}) * 4
    slides = table_of([0, 1] * 4, [f"g{i}" for i in range(8)], roles)
    with pytest.raises(SplitError, match=f"no {absent} slides"):
        make_splits("official", slides, TWO, 1, "patient")


def test_the_official_protocol_is_one_split(twin: pd.DataFrame) -> None:
    with pytest.raises(SplitError, match="one split, it cannot have 10 folds"):
        make_splits("official", twin, BRACS.hierarchy, 10, "patient")


def test_the_official_protocol_counts_groups_on_two_sides() -> None:
    roles = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    slides = table_of([0, 1] * 4, ["g0", "g1", "g2", "g3", "g4", "g5", "g0", "g6"], roles)
    plan = make_splits("official", slides, TWO, 1, "patient")
    assert plan.leaks == (1,)
    assert (
        plan.leak_sentence
        == "LEAKS: 1 of 2 test slides (50.0%) share a patient with training or validation"
    )


def test_a_protocol_is_found_only_where_the_dataset_offers_it() -> None:
    assert protocol_named("official", BRACS.protocols, "bracs") is PROTOCOLS["official"]
    with pytest.raises(
        SplitError, match="ccc has no protocol 'official'; it offers patient-kfold, paper"
    ):
        protocol_named("official", ("patient-kfold", "paper"), "ccc")
    with pytest.raises(UnknownNameError, match="Did you mean patient-kfold"):
        protocol_named("patient-kfolds", BRACS.protocols, "bracs")


def test_the_real_bracs_sheet_matches_its_card(real: pd.DataFrame) -> None:
    assert tuple(real["label"].value_counts().sort_index()) == BRACS.class_counts
    assert real["group"].nunique() == BRACS.groups.count


def test_no_real_bracs_patient_is_on_two_sides_of_ten_folds(real: pd.DataFrame) -> None:
    plan = make_splits("patient-kfold", real, BRACS.hierarchy, 10, "patient")
    assert len(plan.folds) == 10
    assert_honest(plan, real, 7)


def test_the_real_official_split_has_its_published_sizes(real: pd.DataFrame) -> None:
    (fold,) = make_splits("official", real, BRACS.hierarchy, 1, "patient").folds
    assert (len(fold.train), len(fold.val), len(fold.test)) == (395, 65, 87)


def test_only_patient_67_is_on_two_sides_of_the_real_official_split(real: pd.DataFrame) -> None:
    plan = make_splits("official", real, BRACS.hierarchy, 1, "patient")
    group_of = column(real, "group")
    train, val, test = (
        {group_of[slide] for slide in getattr(plan.folds[0], role)} for role in ROLES
    )
    assert (train & val, train & test, val & test) == ({"67"}, set(), set())
    assert plan.leaks == (0,)  # counts test slides


def test_the_real_official_split_is_not_called_free_of_shared_patients(
    real: pd.DataFrame,
) -> None:
    # Patient 67 trains and validates: the caption must not deny it.
    assert (
        make_splits("official", real, BRACS.hierarchy, 1, "patient").leak_sentence
        == "no test slide shares a patient with training or validation, but 2 validation slides "
        "share one with training"
    )
