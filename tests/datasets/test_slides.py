"""What a table of slides says about groups it does not know, and about slides it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mil_bench.benchmarks.panda import PANDA
from split_folders import GROUP_OF, SLIDES, SPEC, table

from mil_bench.datasets.slides import Slides, known_slides

if TYPE_CHECKING:
    from pathlib import Path

OWN_LEAKS = "so leaks among them cannot be detected"


def groups(**changed: str) -> list[str]:
    return [changed.get(slide, GROUP_OF[slide]) for slide in SLIDES]


def read(folder: Path, text: str) -> Slides:
    path = folder / "labels.csv"
    path.write_text(text)
    known = known_slides(SPEC, path, folder)
    assert known is not None
    return known


def test_a_slide_without_a_patient_is_its_own_and_is_counted(tmp_path: Path) -> None:
    known = read(tmp_path, "slide,label,patient\na,calm,p0\nb,calm,\nc,wild,p0\nd,wild,\n")
    assert (known.group_name, known.frame["group"].tolist()) == (
        "patient",
        ["p0", "slide b", "p0", "slide d"],
    )
    assert known.without_group == {"b", "d"}
    two = f"2 slides have no patient: each counts as a patient of its own, {OWN_LEAKS}"
    assert known.blind_spots("abcd") == (two,)
    assert known.group_notes("abcd") == (f"{two}.",)
    assert known.blind_spots("ab") == (two.replace("2 slides have", "1 slide has"),)
    assert known.blind_spots("ac") == ()


def test_where_no_slide_has_a_patient_they_are_unknown_and_where_all_have_there_is_nothing_to_say(
    tmp_path: Path,
) -> None:
    known = read(tmp_path, "slide,label,patient\na,calm,\nb,wild,\n")
    assert (known.group_name, known.without_group, known.group_notes("ab")) == ("", frozenset(), ())
    assert table().group_notes(SLIDES) == ()


def test_a_slide_that_is_known_to_stand_alone_is_no_blind_spot(tmp_path: Path) -> None:
    path = tmp_path / "panda.csv"
    path.write_text(
        f"image_id,isup_grade,near_dup_group\na,{PANDA.hierarchy.fine[0]},\nb,{PANDA.hierarchy.fine[0]},7\n"
    )
    known = known_slides(PANDA, path, tmp_path)
    assert known is not None
    assert (known.group_name, known.group_notes("ab")) == ("near-duplicate group", ())


@pytest.mark.parametrize("word", ["unknown", "NA", "nan", "None", "-"])
def test_a_word_for_no_patient_that_several_slides_share_is_noticed(word: str) -> None:
    (note,) = table(group=groups(s00=word, s02=word, s04=word)).group_notes(SLIDES)
    assert (
        note
        == f"3 slides share the patient '{word}'; leave the cell blank if the patient is unknown."
    )
    assert table(group=groups(s00=word)).group_notes(SLIDES) == ()


def test_patients_that_differ_in_case_only_are_noticed() -> None:
    (note,) = table(group=groups(s00="P0", s02="P1")).group_notes(SLIDES)
    assert note == (
        "Spellings of a patient that look alike (case, blanks, letters of another alphabet) count "
        "as different: 'P0' and 'p0'; 'P1' and 'p1'."
    )


def test_a_hint_names_the_first_unknown_slide_that_can_be_guessed(tmp_path: Path) -> None:
    known = read(tmp_path, "slide,label\n007,calm\n008,wild\n")
    assert (
        known.near_miss(["x", "7", "8"])
        == "for '7' the label table labels.csv has '007': leading zeros differ"
    )
    assert known.near_miss(["x", "007"]) == ""
