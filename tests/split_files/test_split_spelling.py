"""Ids that a spreadsheet, an editor or a path has changed are read as the ids that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from split_folders import CLASSES, SPEC, table

from mil_bench.errors import InputError
from mil_bench.report.audit_sentences import sentences
from mil_bench.split_files.audit import audit
from mil_bench.split_files.importing import import_lists
from mil_bench.split_files.spelling import meant, respelled
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import Fold

KNOWN = ["100", "101", "007", "TCGA-A1", "b.2", "\u00e9-1"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("100.0", "100"),
        ("100.00", "100"),
        ("\ufeff100", "100"),
        ("10\u200b0", "100"),
        ("100\u202e", "100"),
        (" 100 ", "100"),
        ("/data/slides/TCGA-A1.svs", "TCGA-A1"),
        ("C:\\slides\\TCGA-A1.h5", "TCGA-A1"),
        ("TCGA-A1.pt", "TCGA-A1"),
        ("feats/b.2.pt", "b.2"),
        ("e\u0301-1", "\u00e9-1"),
    ],
)
def test_an_id_that_a_program_changed_is_read_as_the_known_one(theirs: str, ours: str) -> None:
    assert meant([theirs, "101"], KNOWN) == {theirs: ours}


@pytest.mark.parametrize("theirs", ["100.5", "7", "100.0.0", "102.0", "tcga-a1", "b", "", "A1"])
def test_an_id_that_may_mean_something_else_stays_as_it_is(theirs: str) -> None:
    assert meant([theirs], KNOWN) == {}


def test_two_ids_are_never_taken_for_one_slide() -> None:
    assert meant(["north/100", "south/100"], KNOWN) == {}
    assert meant(["100.0"], ["100", "100.0"]) == {}
    assert meant(["x/1.svs"], ["1", "y/1"]) == {}


def test_folds_labels_and_groups_follow_the_known_spelling() -> None:
    labels = {"100.0": frozenset(["calm"]), "101": frozenset(["wild"])}
    folds = (Fold(("100.0",), (), ("101",)), Fold(("101",), (), ("100",)))
    lists = SplitLists("files", folds, (0, 1), labels, {"100.0": "p", "101": "q"})
    read = respelled(lists, KNOWN)
    assert read.folds == (Fold(("100",), (), ("101",)), Fold(("101",), (), ("100",)))
    assert read.labels == {"100": frozenset(["calm"]), "101": frozenset(["wild"])}
    assert read.groups == {"100": "p", "101": "q"}
    assert read.respelled == {"100.0": "100"}
    assert respelled(read, KNOWN) is read


def test_an_audit_says_what_an_import_makes_of_such_ids_and_the_import_does() -> None:
    known = table()
    frame = known.frame.assign(slide=[str(100 + i) for i in range(24)])
    numbered = replace(known, frame=frame)
    ids = [f"{slide}.0" for slide in frame["slide"]]
    lists = SplitLists("files", (Fold(tuple(ids[:12]), tuple(ids[12:16]), tuple(ids[16:])),), (0,))
    text = "\n".join(sentences(audit(lists, numbered, CLASSES, None)))
    assert "FAULT: no listed slide is known: 24 of 24 slides are not in the label table" in text
    hint = "for '100.0' the label table study.csv has '100': a number with a decimal point"
    assert f"{hint} (mil-bench splits import reads 24 of them so)." in text
    read = respelled(lists, frame["slide"])
    assert import_lists(read, SPEC, numbered).lists.slides == sorted(frame["slide"])
    said = "\n".join(sentences(audit(read, numbered, CLASSES, None)))
    assert "24 slide ids are spelled otherwise in the files and read as those of the label" in said


def test_lost_leading_zeros_are_a_hint_and_nothing_more() -> None:
    known = table()
    frame = known.frame.assign(slide=[f"{i:03d}" for i in range(24)])
    lists = SplitLists("files", (Fold(("7",), ("8",), ("9",)),), (0,))
    with pytest.raises(InputError, match="has '007': leading zeros differ"):
        import_lists(lists, SPEC, replace(known, frame=frame))
