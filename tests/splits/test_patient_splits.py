"""Splits of patients: a patient is one item, and folds list all its slides."""

from __future__ import annotations

import pytest
from patient_data import HIERARCHY, by_hand, made_bags

from mil_bench.bags.bag import slide_frame
from mil_bench.errors import SplitError
from mil_bench.splits.patients import split_patients, torn_patients
from mil_bench.splits.plan import ROLES, Fold
from mil_bench.splits.protocols import make_splits

BAGS = made_bags()
SLIDES = slide_frame(bag.slide for bag in BAGS)
PATIENTS = slide_frame(bag.slide for bag in by_hand(BAGS))
GROUP_OF = dict(zip(SLIDES["slide"], SLIDES["group"], strict=True))


@pytest.mark.parametrize(
    ("protocol", "folds"), [("patient-kfold", 3), ("paper", 4), ("leave-one-centre-out", 2)]
)
def test_folds_are_those_of_a_table_of_patients(protocol: str, folds: int) -> None:
    plan = split_patients(protocol, SLIDES, HIERARCHY, folds, "patient")
    by_patient = make_splits(protocol, PATIENTS, HIERARCHY, folds, "patient")
    for fold, expected in zip(plan.folds, by_patient.folds, strict=True):
        for role in ROLES:
            slides, patients = getattr(fold, role), getattr(expected, role)
            assert sorted({GROUP_OF[slide] for slide in slides}) == list(patients)
            assert set(slides) == {s for s, group in GROUP_OF.items() if group in patients}
    assert not torn_patients(plan.folds, GROUP_OF, "patient")
    assert sum(plan.leaks) == sum(plan.val_leaks) == 0


def test_repeats_have_other_folds() -> None:
    plan = split_patients("patient-kfold", SLIDES, HIERARCHY, 3, "patient", repeats=2)
    assert plan.repeats == 2
    assert len({fold.test for fold in plan.folds}) == 6


def test_a_patient_of_two_centres_has_no_fold_of_one() -> None:
    slides = SLIDES.copy()
    slides.loc[slides["slide"] == "s1-08", "centre"] = "B"
    with pytest.raises(SplitError, match=r"several centres: P08\. Use patient-kfold"):
        split_patients("leave-one-centre-out", slides, HIERARCHY, 2, "patient")


def test_torn_patients_are_named_with_what_is_missing() -> None:
    folds = [Fold(("s0-08", "s1-08"), ("s0-03",), ("s2-08", "s0-00"))]
    assert torn_patients(folds, GROUP_OF, "patient") == [
        "the val slides of fold 0 have some slides of patient 'P03' and lack s1-03",
        "the train slides of fold 0 have some slides of patient 'P08' and lack s2-08",
    ]
