"""Cells of label tables: any text comes back from CSV and .xlsx, and what is spoiled is found."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_tables import write_xlsx

from mil_bench.datasets.card import LabelColumns
from mil_bench.datasets.label_columns import LabelCells, read_label_cells, spoiled
from mil_bench.datasets.slide_ids import without_ending
from mil_bench.datasets.spelling import visible

# Line breaks are refused, and control characters cannot be in a workbook.
CELLS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12
)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5)
quickly = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def read(content: bytes | list[tuple[str, ...]]) -> LabelCells:
    """The cells of a CSV, given as bytes, or of a workbook, given as rows."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path = write_xlsx(path.with_suffix(".xlsx"), {"S": content})
        return read_label_cells(path, LabelColumns())


def as_csv(rows: list[tuple[str, ...]], separator: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def expected(row: tuple[str, ...]) -> tuple[str, ...]:
    slide, label, group = (cell.strip() for cell in row)
    return (without_ending(slide), visible(label), visible(group), "", "")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@quickly
@given(rows=ROWS)
def test_any_cells_come_back_from_text(separator: str, rows: list[tuple[str, str, str]]) -> None:
    rows = [("s1", "a", "p"), *rows]  # a table needs a row
    cells = read(as_csv([("slide", "label", "patient"), *rows], separator))
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    assert [row.cells for row in cells.rows] == [expected(row) for row in filled]
    for row in cells.rows:
        slide, label, group = (spoiled(cell) for cell in row.cells[:3])
        is_number = label == "a number with a decimal point"
        assert [*row.faults] == [
            i for i, fault in enumerate((slide, label and not is_number, group)) if fault
        ]


@quickly
@given(number=st.integers(0, 10**14), zeros=st.integers(0, 12))
def test_whole_numbers_of_a_workbook_keep_their_digits(number: int, zeros: int) -> None:
    with TemporaryDirectory() as folder:
        sheet = {"S": [("slide", "label"), (number, "a")]}
        path = write_xlsx(Path(folder) / "l.xlsx", sheet, "0" * zeros if zeros else "")
        (row,) = read_label_cells(path, LabelColumns()).rows
    assert row.cells[:2] == (f"{number:0{zeros}d}", "a")
    assert not row.faults


@quickly
@given(
    day=st.dates(),
    number=st.integers(0, 10**6),
    form=st.sampled_from(
        ["{number}.0", "{number},00", "{day} 00:00:00", "{day:%d-%b}", "1E+{number}"]
    ),
)
def test_what_a_spreadsheet_or_pandas_made_of_an_entry_is_found(
    day: object, number: int, form: str
) -> None:
    text = form.format(day=day, number=number)
    cells = read(as_csv([("slide", "label"), (text, "a"), ("s2", "a")], ","))
    assert [bool(row.faults) for row in cells.rows] == [True, False]
    assert f"column 'slide' holds '{text}'" in cells.problems[0]
