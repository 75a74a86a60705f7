"""An audit names what a run would refuse, and claims nothing of slides that nobody knows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from split_folders import CLASSES, FOLDS, SLIDES, SPEC, table

from mil_bench.errors import InputError, SplitError
from mil_bench.report.audit_sentences import sentences
from mil_bench.report.audit_tables import audit_tables
from mil_bench.split_files.audit import audit
from mil_bench.split_files.formats import read_split_lists
from mil_bench.split_files.formats.own import SplitFile, follow_file
from mil_bench.split_files.importing import import_lists
from mil_bench.split_files.overlaps import NearDuplicates
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, Fold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY = pd.DataFrame({"slide_a": [], "slide_b": []})
CLEAN = SplitLists("some files", FOLDS, (0, 1, 2, 3))


def renamed(lists: SplitLists, name: Callable[[str], str]) -> SplitLists:
    folds = [
        Fold(*(tuple(map(name, getattr(fold, role))) for role in ROLES)) for fold in lists.folds
    ]
    return replace(lists, folds=tuple(folds))


def words(lists: SplitLists) -> str:
    return "\n".join(sentences(audit(lists, table(), CLASSES, NearDuplicates.of(NOBODY, SLIDES))))


def test_of_slides_that_nobody_knows_an_audit_says_only_that() -> None:
    lists = renamed(CLEAN, lambda slide: f"other {slide}")
    result = audit(lists, table(), CLASSES, NearDuplicates.of(NOBODY, SLIDES))
    assert result.faults[0].startswith("no listed slide is known: 24 of 24 slides are not in the ")
    text = words(lists)
    assert not re.search("shares? a patient|near-duplicate|class-wise|training slide of", text)
    assert [shown.name for shown in audit_tables(result)] == ["folds"]
    assert (result.without_auc, result.leaks) == (((),) * 4, [])


def test_of_half_known_slides_an_audit_speaks_of_the_known_ones() -> None:
    lists = renamed(CLEAN, lambda slide: slide if slide < "s12" else f"other {slide}")
    text = words(lists)
    assert "FAULT: 12 of 24 slides are not in the label table study.csv: other s12" in text
    known = "No known test slide shares a patient with known training slides (slides without a "
    assert f"{known}known patient: 12)." in text
    packed = "No packed test slide has a near-duplicate bag among packed training slides (slides "
    assert f"{packed}without packed features: 12)." in text
    assert "class-wise AUC" not in text


def test_a_leak_among_the_known_slides_is_found_whatever_else_is_unknown() -> None:
    fold = Fold(("s00", "zz"), ("s04",), ("s01", "yy"))
    result = audit(replace(CLEAN, folds=(fold,), numbers=(0,)), table(), CLASSES, None)
    assert result.leaks == ["patient"]


def test_a_class_that_a_fold_cannot_train_is_a_fault_as_a_run_refuses_it() -> None:
    calm = tuple(slide for slide in SLIDES[::2] if slide not in FOLDS[0].test)
    fold = Fold(calm[4:], calm[:4], FOLDS[0].test)
    lists = replace(CLEAN, folds=(fold,), numbers=(0,))
    assert "FAULT: fold 0 has no training slide of wild." in words(lists)


def test_an_edited_split_file_is_a_fault_as_a_run_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    SplitFile("study", "imported", "", FOLDS).write(path)
    path.write_text(path.read_text().replace('"s00", "s01", ', '"s00", ', 1))
    with pytest.raises(InputError, match="it was edited after it was made"):
        follow_file(path, SPEC, table())
    assert "FAULT: its digest says" in words(read_split_lists(path))
    assert import_lists(read_split_lists(path), SPEC, table()).folds  # as the refusal advises


def test_groups_that_a_protocol_rules_out_are_a_fault_also_in_validation(tmp_path: Path) -> None:
    fold = Fold(SLIDES[1:16], (SLIDES[0], *SLIDES[16:20]), SLIDES[20:])
    path = tmp_path / "mine.json"
    SplitFile("study", "patient-kfold", "", (fold,)).write(path)
    with pytest.raises(SplitError, match="1 validation slides share a patient"):
        follow_file(path, SPEC, table())
    fault = "FAULT: 1 val slides share a patient with train slides, which the protocol patient-"
    assert fault in words(read_split_lists(path))


def test_too_few_groups_for_a_validation_part_are_a_fault_as_an_import_refuses_them() -> None:
    fold = Fold(("s00", "s01"), (), ("s02", "s03"))
    lists = replace(CLEAN, folds=(fold,), numbers=(0,))
    with pytest.raises(SplitError, match="too few to hold out a validation part"):
        import_lists(lists, SPEC, table())
    assert "FAULT: no fold lists val slides, and 1 patients are too few to hold out" in words(lists)


def test_slides_without_features_are_left_out_on_request_and_the_plan_says_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.json"
    SplitFile("study", "patient-kfold", "", FOLDS).write(path)
    known = table()
    packed = replace(known, frame=known.frame[known.frame["slide"] != "s05"])
    with pytest.raises(InputError, match="Add --allow-missing to leave out slides that are not"):
        follow_file(path, SPEC, packed)
    plan = follow_file(path, SPEC, packed, allow_missing=True)
    assert plan.digest != follow_file(path, SPEC, known).digest
    assert plan.facts == (
        "1 of the 24 slides of the split file are not in the label table study.csv and left out",
    )
    for fold, before in zip(plan.folds, FOLDS, strict=True):
        for role in ROLES:
            kept = [slide for slide in getattr(before, role) if slide != "s05"]
            assert list(getattr(fold, role)) == kept
    assert (
        follow_file(path, SPEC, known, allow_missing=True).digest
        == SplitFile("study", "patient-kfold", "", FOLDS).digest
    )


def test_an_import_leaves_out_unknown_slides_on_request_and_the_source_says_so() -> None:
    lists = renamed(CLEAN, lambda slide: "zz" if slide == "s05" else slide)
    with pytest.raises(InputError, match=r"(?s)1 of 24 slides are not in .* Add --allow-missing"):
        import_lists(lists, SPEC, table())
    made = import_lists(lists, SPEC, table(), allow_missing=True)
    assert made.source == (
        "some files (without 1 of 24 slides, not in the label table study.csv), 4-fold "
        "cross-validation"
    )
    assert "zz" not in made.lists.slides


def test_a_split_of_unknown_slides_only_cannot_be_followed_without_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    SplitFile("study", "imported", "", renamed(CLEAN, str.upper).folds).write(path)
    with pytest.raises(InputError, match="fold 0 lists no train slides"):
        follow_file(path, SPEC, table(), allow_missing=True)
