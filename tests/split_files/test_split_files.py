"""No fold is lost: files that belong to a split and cannot be read are refused by name."""

from __future__ import annotations

import json
import os
import pickle
from typing import TYPE_CHECKING

import pytest
from split_folders import (
    CONFIG,
    FOLDS,
    SPEC,
    table,
    write_clam,
    write_hmil,
    write_mil_baseline,
    write_patho_bench,
)

from mil_bench.errors import InputError
from mil_bench.split_files.formats import read_split_lists
from mil_bench.split_files.formats.own import read_split_file
from mil_bench.split_files.importing import import_lists

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_split_lists(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "splits_3.csv is empty"),
        (b"\n \n", "splits_3.csv is empty"),
        (
            b"\xff\xfe" + b"x" * 40,
            "splits_3.csv has a name like CLAM's splits_{k}.csv or splits_{k}_bool.csv, but",
        ),
        (b"\0" * 50, "another content (it is not text)"),
        (
            b",train,valid,test\n0,a,b,c\n",
            "another content (its first line is ', train, valid, test')",
        ),
        (b";train;val;test\n0;a;b;c\n", "another content (its first line is ';train;val;test')"),
    ],
)
def test_a_fold_of_clam_that_cannot_be_read_is_refused_by_name(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (write_clam(tmp_path) / "splits_3.csv").write_bytes(content)
    text = refusal(tmp_path)
    assert message in text
    assert text.endswith(
        "Write these files again or remove them; otherwise their folds would be lost."
    )


@pytest.mark.parametrize("content", [b"", pickle.dumps([["s00", "calm", ""]], protocol=0)])
def test_a_pickle_that_is_empty_or_of_another_kind_is_refused_by_name(
    content: bytes, tmp_path: Path
) -> None:
    write_hmil(tmp_path)
    for k in range(4):
        (tmp_path / f"train_splits_{k}.pkl").write_bytes(content)
    text = refusal(tmp_path)
    assert "4 problems" in text
    assert f"train_splits_3.pkl {'has a name like HMIL' if content else 'is empty'}" in text


def test_a_file_of_another_name_with_a_number_belongs_to_its_like(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"ours_{k}.csv").write_text("train,val,test\na,b,c\n")
    assert len(read_split_lists(tmp_path).folds) == 2
    (tmp_path / "ours_2.csv").write_text("train,dev,test\na,b,c\n")
    (tmp_path / "labels_2024.csv").write_text("slide,label\na,calm\n")  # not one of them
    assert "1 problem\n  - ours_2.csv has a name like" in refusal(tmp_path)


def test_where_no_file_can_be_read_those_with_a_name_of_a_tool_are_named(tmp_path: Path) -> None:
    for path in write_clam(tmp_path, FOLDS[:2]).iterdir():
        path.write_text(path.read_text().replace(",", ";"))
    text = refusal(tmp_path)
    assert "there is no split file in this folder" in text
    assert "splits_1.csv has a name like CLAM's" in text


def test_a_missing_first_fold_is_a_fault_wherever_the_tool_counts_from(tmp_path: Path) -> None:
    (write_clam(tmp_path / "clam") / "splits_0.csv").unlink()
    (problem,) = read_split_lists(tmp_path / "clam").problems()
    assert problem == "fold 0 is missing; the files have 1, 2, 3, and the first should be 0"
    with pytest.raises(InputError, match="fold 0 is missing"):
        import_lists(read_split_lists(tmp_path / "clam"), SPEC, table())
    write_mil_baseline(tmp_path / "baseline")
    assert read_split_lists(tmp_path / "baseline").problems() == []
    (tmp_path / "baseline" / "Total_4-fold_study_1fold.csv").unlink()
    (problem,) = read_split_lists(tmp_path / "baseline").problems()
    assert problem == "fold 1 is missing; the files have 2, 3, 4, and the first should be 1"


def test_a_single_file_is_a_fold_that_misses_no_other(tmp_path: Path) -> None:
    write_clam(tmp_path)
    lists = read_split_lists(tmp_path / "splits_2.csv")
    assert lists.problems() == []
    assert import_lists(lists, SPEC, table()).folds == (FOLDS[2],)


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda root: root / "fifo.json", read_split_lists),
        (
            lambda root: write_hmil(root) / "val_splits_0.pkl",
            lambda path: read_split_lists(path.parent),
        ),
        (
            lambda root: write_patho_bench(root) / "config.yaml",
            lambda path: read_split_lists(path.parent),
        ),
        (lambda root: root / "fifo.json", read_split_file),
    ],
    ids=["alone", "in a folder", "config.yaml", "run --splits"],
)
def test_a_pipe_is_refused_and_not_waited_for(
    make: Callable[[Path], Path], read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = make(tmp_path)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(
        InputError, match=r"cannot be read: it is not a file \(a pipe or a device\)"
    ):
        read(path)


def test_stamps_splits_are_told_apart_and_a_way_is_named(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"splits": [{"train_patients": ["p0"], "test_patients": ["p1"]}]}))
    for given in (path, tmp_path):
        text = refusal(given)
        assert "it is STAMP's splits.json, which lists patients instead of slides" in text
        assert "a table with the columns train, val, test for every fold" in text
        assert "imported first" not in text


def test_unknown_slides_that_lost_their_zeros_are_told_so(tmp_path: Path) -> None:
    (tmp_path / "splits_0.csv").write_text("train,val,test\n1,2,3\n")
    known = table(slide=[f"{i:02d}" for i in range(24)])
    with pytest.raises(
        InputError, match=r"for '1' the label table study\.csv has '01': leading zeros differ"
    ):
        import_lists(read_split_lists(tmp_path), SPEC, known)


def test_names_of_classes_may_be_numbers(tmp_path: Path) -> None:
    folder = write_patho_bench(tmp_path, config=CONFIG.replace("calm", "3").replace("wild", "4.5"))
    assert set(read_split_lists(folder).labels.values()) == {frozenset(["3"]), frozenset(["4.5"])}
