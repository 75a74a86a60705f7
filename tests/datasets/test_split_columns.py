"""A split column without roles: fold numbers are no roles, other words can be left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mil_bench.benchmarks.bracs import BRACS

from mil_bench.datasets.labels import read_label_table
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def table_with(folder: Path, *roles: str) -> Path:
    rows = [f"s{i},N,p{i},{role}" for i, role in enumerate(roles)]
    (folder / "labels.csv").write_text("\n".join(["slide,label,patient,split", *rows, ""]))
    return folder / "labels.csv"


@pytest.mark.parametrize("numbers", [("0", "1", "2"), ("1", "", "2"), ("0.0", "1.0", "4.0")])
def test_numbers_of_folds_are_not_taken_for_roles(tmp_path: Path, numbers: tuple[str, ...]) -> None:
    table = read_label_table(table_with(tmp_path, *numbers), BRACS)
    assert [slide.split for slide in table.slides.values()] == ["", "", ""]


def test_a_refusal_of_words_that_are_no_roles_says_how_to_leave_the_column_out(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError) as caught:
        read_label_table(table_with(tmp_path, "discovery", "holdout"), BRACS)
    text = str(caught.value)
    assert "column 'split' holds no roles; to leave it out, rename it in a copy" in text
    assert 'columns.split = "none"' in text
    assert "line 2, slide 's0': role 'discovery' is not train, val or test" in text


def test_a_number_among_roles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_label_table(table_with(tmp_path, "train", "1", "test"), BRACS)
    assert "slide 's1': role '1' is not train, val or test" in str(caught.value)
    assert "to leave it out" not in str(caught.value)
