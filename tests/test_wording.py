"""Pieces of messages, and names with settings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mil_bench.wording import (
    first_names,
    gathered,
    in_group,
    in_unit,
    plural,
    split_settings,
    suggestion,
)

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters=","), min_size=1).map(str.strip)
quickly = settings(max_examples=100, deadline=None, database=None, derandomize=True)


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("slide has", "slides have"), "1 slide has"),
        (2, ("slide has", "slides have"), "2 slides have"),
        (0, ("file",), "0 files"),
        (1, ("file",), "1 file"),
    ],
)
def test_words_agree_with_their_number(number: int, words: tuple[str, ...], expected: str) -> None:
    assert plural(number, *words) == expected


def test_a_long_list_shows_its_first_names_and_how_many_follow() -> None:
    assert first_names(["a", "b"]) == "a, b"
    assert first_names(list("abcde")) == "a, b, c, d, e"
    assert first_names(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_an_unknown_name_is_answered_with_similar_names_or_with_all() -> None:
    assert suggestion("lable", ["label", "slide"]) == "; did you mean label?"
    assert suggestion("xyz", ["label", "slide"]) == "; known: label, slide"


@quickly
@given(name=NAMES, values=st.dictionaries(NAMES, VALUES, max_size=5))
def test_settings_come_back_as_they_were_written(name: str, values: dict[str, str]) -> None:
    written = ",".join(f"{key}={value}" for key, value in values.items())
    assert split_settings(f"{name}:{written}" if values else name) == (name, values)


@quickly
@given(text=st.text())
def test_any_text_can_be_taken_apart(text: str) -> None:
    name, values = split_settings(text)
    assert text.startswith(name)
    assert ":" not in name
    for key, value in values.items():
        assert (key, value) == (key.strip(), value.strip())
        assert not {"=", ","} & set(key)
        assert "," not in value


def test_a_text_about_slides_becomes_one_about_another_unit() -> None:
    text = "Slides per class: a slide counts once; subslides and slide2 are other words."
    expected = "Patients per class: a patient counts once; subslides and slide2 are other words."
    assert in_unit(text, "patient") == expected
    assert in_unit(text, "slide") == text


def test_a_key_without_a_value_has_an_empty_one_and_the_last_of_two_counts() -> None:
    assert split_settings("a:b,c=,d=1,d=2") == ("a", {"b": "", "c": "", "d": "2"})


def test_equal_problems_become_one_line_with_the_first_locations() -> None:
    alike = [f"line {i}, slide 's{i}': label 'x' is not one of a, b" for i in range(2, 27)]
    other = "line 40: empty slide id"
    assert gathered([alike[0], other, *alike[1:]]) == [
        "label 'x' is not one of a, b (25 times: line 2, slide 's2'; line 3, slide 's3'; line 4, "
        "slide 's4' and 22 more)",
        other,
    ]
    assert gathered(alike[:3]) == alike[:3]


def test_a_location_may_be_a_file_and_a_place_in_it() -> None:
    lines = [f"f.csv: line {i}: no label" for i in range(4)]
    assert gathered(lines) == ["f.csv: no label (4 times: line 0; line 1; line 2 and 1 more)"]
    assert gathered(["no location"] * 4) == ["no location"]


def test_a_text_about_groups_takes_the_card_s_word() -> None:
    assert in_group("Groups: a group and 2 groups, grouped.", "case") == (
        "Cases: a case and 2 cases, grouped."
    )
    assert in_group("2 groups", "") == "2 groups"
