"""Repeated cross-validation: other folds in each repeat, and a split that says so everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from mil_bench.benchmarks.bracs import BRACS
from split_folders import FOLDS, SPEC, table

from mil_bench.bags.bag import slide_frame
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, SplitError
from mil_bench.split_files.exporting import export_plan
from mil_bench.split_files.formats import read_split_lists
from mil_bench.split_files.formats.own import SplitFile, follow_file, read_split_file
from mil_bench.split_files.importing import import_lists
from mil_bench.splits.plan import SplitPlan, kind_of_test, parts_of
from mil_bench.splits.protocols import make_splits, plan_from_json

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


@pytest.fixture(scope="module")
def slides() -> pd.DataFrame:
    """All slides and patients of simulated BRACS."""
    spec = find_dataset("bracs-sim:rows=4,width=8")
    assert spec.generator is not None
    return slide_frame(bag.slide for bag in spec.generator.generate(spec))


def repeated(slides: pd.DataFrame, repeats: int, folds: int = 5) -> SplitPlan:
    return make_splits("patient-kfold", slides, BRACS.hierarchy, folds, "patient", repeats)


def small(repeats: int) -> SplitPlan:
    return make_splits("patient-kfold", table().frame, SPEC.hierarchy, 4, "patient", repeats)


def test_every_repeat_tests_each_slide_once_with_other_folds(slides: pd.DataFrame) -> None:
    once, plan = repeated(slides, 1), repeated(slides, 3)
    assert plan.folds[:5] == once.folds
    assert len(plan.folds) == 15
    for part in parts_of(plan.folds, 3):
        tested = [slide for fold in part for slide in fold.test]
        assert sorted(tested) == sorted(slides["slide"])
    assert not sum(plan.leaks) + sum(plan.val_leaks)
    assert [plan.repeat_of(k) for k in (0, 4, 5, 14)] == [1, 1, 2, 3]
    assert plan.count == "3 repeats x 5 folds"
    assert kind_of_test(plan.folds, 3) == "3 repeats of 5-fold cross-validation"
    assert repeated(slides, 3).digest == plan.digest


def test_patients_that_are_tested_together_are_mostly_others_in_the_next_repeat(
    slides: pd.DataFrame,
) -> None:
    group_of = dict(zip(slides["slide"], slides["group"], strict=True))
    together = [
        {
            (a, b)
            for fold in part
            for a in {group_of[slide] for slide in fold.test}
            for b in {group_of[slide] for slide in fold.test}
            if a < b
        }
        for part in parts_of(repeated(slides, 3).folds, 3)
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        # By chance a fifth of the pairs would be together again in five folds.
        assert len(together[first] & together[second]) < 0.3 * len(together[first])


def test_without_repeats_digest_and_json_are_as_they_were(slides: pd.DataFrame) -> None:
    once, twice = repeated(slides, 1), repeated(slides, 2)
    assert "repeats" not in once.to_json()
    assert plan_from_json(json.loads(json.dumps(once.to_json()))) == once
    assert plan_from_json(json.loads(json.dumps(twice.to_json()))) == twice
    # The same folds without the word that they are repeats are another split.
    assert replace(twice, repeats=1).digest != twice.digest


@pytest.mark.parametrize(
    ("protocol", "folds", "advice"),
    [
        ("official", 1, "it is one split. Repeat the trainings with --seeds"),
        ("paper", 10, "drawn anew. Ask for more of them with --folds"),
        ("leave-one-centre-out", 2, "the centres decide what its folds are"),
    ],
)
def test_a_protocol_whose_folds_cannot_differ_is_not_repeated(
    protocol: str, folds: int, advice: str
) -> None:
    known = table(
        split=(["train"] * 2 + ["val"] * 2 + ["test"] * 2) * 4,
        centre=["north"] * 12 + ["south"] * 12,
    ).frame
    make_splits(protocol, known, SPEC.hierarchy, folds, "patient")
    with pytest.raises(SplitError, match=f"'{protocol}' cannot be repeated.*{advice}"):
        make_splits(protocol, known, SPEC.hierarchy, folds, "patient", 2)


def test_repeats_that_would_have_the_same_test_parts_are_refused() -> None:
    # There is one way to divide three groups into three folds.
    known = table(group=[f"p{i // 2 % 3}" for i in range(24)]).frame
    make_splits("patient-kfold", known, SPEC.hierarchy, 3, "patient")
    with pytest.raises(
        SplitError, match=r"too few patients\. Use --repeats 1 at most, or repeat the"
    ):
        make_splits("patient-kfold", known, SPEC.hierarchy, 3, "patient", 2)


def test_a_split_file_carries_repeats_and_one_without_is_as_before(tmp_path: Path) -> None:
    plan = small(2)
    path = tmp_path / "twice.json"
    SplitFile("study", "patient-kfold", "made", plan.folds, plan.repeats).write(path)
    assert read_split_file(path).repeats == 2
    followed = follow_file(path, SPEC, table())
    assert (followed.repeats, followed.digest) == (2, plan.digest)
    lists = read_split_lists(path)
    assert lists.source.endswith("2 repeats of 4-fold cross-validation")
    assert import_lists(lists, SPEC, table()).digest == plan.digest
    once = tmp_path / "once.json"
    SplitFile("study", "imported", "made", FOLDS).write(once)
    assert "repeats" not in once.read_text()
    assert '"version": 1' in once.read_text()


@pytest.mark.parametrize(
    ("repeats", "problem"),
    [
        (1, "it was edited after it was made"),
        (3, "8 folds cannot be 3 repeats"),
        (4, "it was edited after it was made"),
    ],
)
def test_edited_repeats_are_refused(tmp_path: Path, repeats: int, problem: str) -> None:
    plan = small(2)
    path = tmp_path / "split.json"
    SplitFile("study", "patient-kfold", "made", plan.folds, plan.repeats).write(path)
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"repeats": repeats}))
    with pytest.raises(InputError, match=problem):
        read_split_file(path)


def test_a_repeat_that_tests_a_slide_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    SplitFile("study", "imported", "made", (*FOLDS[:1], *FOLDS[:1], *FOLDS[:2]), 2).write(path)
    with pytest.raises(InputError, match="repeat 1 tests 6 slides in more than one fold: s00, s01"):
        read_split_file(path)


@pytest.mark.parametrize("form", ["clam", "patho-bench"])
def test_other_tools_files_cannot_hold_repeats(tmp_path: Path, form: str) -> None:
    with pytest.raises(InputError, match="cannot say which folds belong to which repeat"):
        export_plan(small(2), form, SPEC, table().frame, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert export_plan(small(1), form, SPEC, table().frame, tmp_path)
