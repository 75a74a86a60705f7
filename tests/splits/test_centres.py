"""Leave-one-centre-out: nothing of the tested centre, nor of its patients, trains."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from mil_bench.benchmarks.ccc import CCC_SIM
from mil_bench.benchmarks.panda import PANDA, PANDA_SIM

from mil_bench.bags.bag import slide_frame
from mil_bench.datasets.labels import read_label_table
from mil_bench.errors import SplitError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.splits.plan import ROLES, kind_of_test
from mil_bench.splits.protocols import PROTOCOLS, make_splits

if TYPE_CHECKING:
    from pathlib import Path

TWO = LabelHierarchy.flat(["often", "rare"])
NAME = "leave-one-centre-out"


def study(centres: str = "north south east") -> pd.DataFrame:
    """24 slides of 2 classes per centre, of patients with 2 slides each."""
    rows = [
        (f"{centre}-{i:02d}", i // 2 % 2, f"{centre} {i // 2}", "", centre)
        for centre in centres.split()
        for i in range(24)
    ]
    return pd.DataFrame(rows, columns=["slide", "label", "group", "split", "centre"])


def test_every_centre_is_tested_once_by_a_model_that_never_saw_it() -> None:
    slides = study()
    plan = make_splits(NAME, slides, TWO, 3, "patient")
    centre_of = dict(zip(slides["slide"], slides["centre"], strict=True))
    assert [{centre_of[s] for s in fold.test} for fold in plan.folds] == [
        {"east"},
        {"north"},
        {"south"},
    ]
    for fold, centre in zip(plan.folds, ("east", "north", "south"), strict=True):
        assert len(fold.test) == 24
        assert {centre_of[s] for s in fold.train} == {"north", "south", "east"} - {centre}
        assert sorted([*fold.train, *fold.val, *fold.test]) == sorted(slides["slide"])
        assert len(fold.val) == 8  # a sixth of 48
    assert kind_of_test(plan.folds) == "3-fold cross-validation"
    assert plan.leak_sentence == "no patient is shared between training, validation and test"
    assert plan.source == (
        "a fold tests one centre: fold 0 east, fold 1 north, fold 2 south; validation is cut from "
        "the training centres"
    )


def test_a_patient_of_two_centres_does_not_train_where_one_of_them_is_tested() -> None:
    slides = study()
    both = ["north-00", "south-00"]
    slides.loc[slides["slide"].isin(both), "group"] = "traveller"
    plan = make_splits(NAME, slides, TWO, 3, "patient")
    (east, north, south) = plan.folds
    assert set(both) <= {*east.train, *east.val}
    assert north.test.count("north-00") == 1
    assert "south-00" not in (*north.train, *north.val)
    assert "north-00" not in (*south.train, *south.val)
    assert plan.leaks == plan.val_leaks == (0, 0, 0)
    assert plan.source.endswith("2 slides do not train where a slide of their patient is tested")


def test_where_centres_are_the_groups_validation_shares_them_and_the_caption_says_so() -> None:
    spec = replace(CCC_SIM, generator=replace(CCC_SIM.generator, rows=4, width=8))
    assert spec.generator is not None
    slides = slide_frame(bag.slide for bag in spec.generator.generate(spec))
    slides = slides[slides["label"].isin([0, 1])].reset_index(drop=True)  # all centres have these
    plan = make_splits(NAME, slides, TWO, slides["centre"].nunique(), "centre")
    centre_of = dict(zip(slides["slide"], slides["centre"], strict=True))
    for fold in plan.folds:
        (tested,) = {centre_of[slide] for slide in fold.test}
        assert tested not in {centre_of[slide] for slide in (*fold.train, *fold.val)}
    assert sum(plan.leaks) == 0
    assert plan.leak_sentence.startswith(
        "no test slide shares a centre with training or validation, but "
    )


def test_slides_without_a_centre_one_centre_and_another_number_of_folds_are_refused() -> None:
    blank = study()
    blank.loc[[3, 5], "centre"] = ""
    with pytest.raises(SplitError, match=r"2 of 72 have none \(first: north-03, north-05\)"):
        make_splits(NAME, blank, TWO, 3, "patient")
    with pytest.raises(SplitError, match="at least 2 centres; all slides are from north"):
        make_splits(NAME, study("north"), TWO, 1, "patient")
    with pytest.raises(SplitError, match="a fold for each of the 3 centres; it cannot have 5"):
        make_splits(NAME, study(), TWO, 5, "patient")


def test_a_class_of_one_centre_is_named() -> None:
    slides = study()
    slides.loc[slides["centre"] != "east", "label"] = 0
    with pytest.raises(SplitError, match="fold 0 has no training slide of rare"):
        make_splits(NAME, slides, TWO, 3, "patient")


def test_the_number_of_folds_is_that_of_the_centres_whatever_card_and_preset_say() -> None:
    assert PROTOCOLS[NAME].usual_folds(study(), 10, 3) == 3
    assert PROTOCOLS[NAME].usual_folds(study("a b c d e"), 10, 3) == 5
    assert PROTOCOLS["paper"].usual_folds(study(), 5, 3) == 3
    assert PROTOCOLS["official"].usual_folds(study(), 5, 3) == 1
    assert PROTOCOLS["patient-kfold"].usual_folds(study(), 5) == 5


def test_cards_offer_it_where_their_slides_have_centres() -> None:
    assert NAME in PANDA.protocols
    assert NAME in CCC_SIM.protocols
    assert NAME not in PANDA_SIM.protocols


def test_real_panda_is_tested_by_provider_without_near_duplicates(shared: Path) -> None:
    path = shared / "data" / "official" / "panda_meta.csv"
    if not path.is_file():
        pytest.skip("the real PANDA label table is not there")
    slides = read_label_table(path, PANDA).frame
    plan = make_splits(NAME, slides, PANDA.hierarchy, 2, PANDA.groups.name)
    assert [len(fold.test) for fold in plan.folds] == [5456, 5160]
    assert plan.leaks == plan.val_leaks == (0, 0)
    group_of = dict(zip(slides["slide"], slides["group"], strict=True))
    for fold in plan.folds:
        groups = [{group_of[slide] for slide in getattr(fold, role)} for role in ROLES]
        assert sum(map(len, groups)) == len(set.union(*groups))
    # 888 slides belong to groups with slides of both providers; each is tested in one fold and
    # left out of the other's training part.
    assert plan.source.endswith(
        "888 slides do not train where a slide of their near-duplicate group is tested"
    )
