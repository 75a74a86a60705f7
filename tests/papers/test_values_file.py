"""A user's file of published values: what is read, and that every error is named with its line."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mil_bench.cli import main
from mil_bench.errors import InputError
from mil_bench.papers.items import find_item, item_names
from mil_bench.papers.reproduce import parts_of
from mil_bench.papers.request import ReproduceRequest
from mil_bench.papers.values_file import COLUMNS, read_values, with_values

if TYPE_CHECKING:
    from mil_bench.papers.published import Published

ITEMS = [find_item(name) for name in item_names()]
HEADER = ",".join(COLUMNS)
# Made up: no value of these tests is from a publication.
LINE = "table1,7,abmil,accuracy,12.5,3.5"
ROOT = Path(__file__).resolve().parents[2]


def read(folder: Path, *lines: str, header: str = HEADER) -> dict[str, list[Published]]:
    path = folder / "values.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return read_values(path, ITEMS)


def test_a_line_is_one_value_with_its_deviation_and_its_page(tmp_path: Path) -> None:
    values = read(tmp_path, LINE, "table2,8,hmil,macro_f1,20,")
    (first,), (second,) = values["table1"], values["table2"]
    assert (first.row, first.dataset, first.standing) == ("abmil", "bracs", "read")
    assert (first.values, first.deviations) == ({"accuracy": 12.5}, {"accuracy": 3.5})
    assert first.source == "page 7 of the paper, as typed in values.csv"
    assert (second.dataset, second.values, second.deviations) == ("panda", {"macro_f1": 20}, {})


@pytest.mark.parametrize(
    "line",
    [
        "1,7,ABMIL,Accuracy,12.5,3.5",
        "Table 1,7,Abmil,ACCURACY,12.50,3.5",
        '"table1", 7 ,abmil,accuracy, 12.5 ,3.5',
    ],
)
def test_names_may_be_written_as_in_the_paper(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, line) == read(tmp_path, LINE)


def test_a_spreadsheet_may_use_semicolons_a_mark_capitals_and_columns_of_its_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "values.csv"
    path.write_text(
        "Method;Metric;Mean;Std;Page;Table;remark\nabmil;accuracy;12.5;3.5;7;1;checked\n",
        encoding="utf-8-sig",
    )
    assert read_values(path, ITEMS) == read(tmp_path, LINE)


def test_a_method_that_mil_bench_lacks_but_the_paper_has_can_be_given(tmp_path: Path) -> None:
    (value,) = read(tmp_path, "table1,7,HIPT,Macro AUC,50,")["table1"]
    assert (value.row, value.values) == ("hipt", {"macro_auc": 50})


def test_rows_with_settings_have_their_labels(tmp_path: Path) -> None:
    (value,) = read(tmp_path, "table6,9,fixed a=0.5 b=1,accuracy,50,")["table6"]
    assert value.row == "fixed a=0.5 b=1"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("table1,7,abmill,accuracy,12.5,3", "there is no method 'abmill'; did you mean abmil"),
        ("table1,7,,accuracy,12.5,3", "method is empty"),
        ("table1,7,abmil,acuracy,12.5,3", "there is no metric 'acuracy'; did you mean accuracy"),
        ("table1,7,abmil,AUC,12.5,3", "there is no metric 'AUC'"),
        ("table9,7,abmil,accuracy,12.5,3", "there is no table 'table9'; did you mean table"),
        ("figure4,7,abmil,accuracy,12.5,3", "there is no table 'figure4'"),
        ("simulated,7,hmil,accuracy,12.5,3", "there is no table 'simulated'"),
        (",7,abmil,accuracy,12.5,3", "table is empty"),
        ("table1,,abmil,accuracy,12.5,3", "page '' is not a page number"),
        ("table1,vii,abmil,accuracy,12.5,3", "page 'vii' is not a page number"),
        ("table1,0,abmil,accuracy,12.5,3", "page '0' is not a page number"),
        ("table1," + "9" * 5000 + ",abmil,accuracy,12.5,3", "is not a page number"),
        ("table1,7,abmil,accuracy,,3", "mean is empty"),
        ("table1,7,abmil,accuracy,high,3", "mean 'high' is not a number"),
        ("table1,7,abmil,accuracy,12.5 ± 3,", "mean '12.5 ± 3' is not a number"),
        ("table1,7,abmil,accuracy,12.5%,3", "mean '12.5%' is not a number"),
        ('table1,7,abmil,accuracy,"12,5",3', "mean '12,5' is not a number"),
        ("table1,7,abmil,accuracy,nan,3", "mean 'nan' is not a number"),
        ("table1,7,abmil,accuracy,inf,3", "mean 'inf' is not a number"),
        ("table1,7,abmil,accuracy,1_0,3", "mean '1_0' is not a number"),
        ("table1,7,abmil,accuracy,٤٢,3", "mean '٤٢' is not a number"),
        ("table1,7,abmil,accuracy,-3,3", "mean -3 is not between 0 and 100 %"),
        ("table1,7,abmil,accuracy,100.1,3", "mean 100.1 is not between 0 and 100 %"),
        ("table1,7,abmil,accuracy," + "9" * 5000 + ",3", "is not between 0 and 100 %"),
        ("table1,7,abmil,accuracy,.125,3", "mean .125 looks like a share of 1; write percent"),
        ("table1,7,abmil,accuracy,12.5,x", "std 'x' is not a number"),
        ("table1,7,abmil,accuracy,12.5,-1", "std -1 is not between 0 and 100 %"),
        ("1,8,HMIL,Accuracy,99,", "accuracy of hmil in table1 is already in line 2"),
        ("table1,7,hmil,accuracy,12.5,3", "accuracy of hmil in table1 is already in line 2"),
    ],
)
def test_an_error_is_named_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "table1,7,hmil,accuracy,12.5,3", line)
    (said,) = caught.value.problems
    assert said.startswith("line 3: ")
    assert problem in said
    assert str(tmp_path / "values.csv") in str(caught.value)


def test_all_errors_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "table1,x,abmill,acuracy,y,z", "tabel1,7,abmil,accuracy,12.5,3")
    lines = [problem.partition(":")[0] for problem in caught.value.problems]
    assert lines == ["line 2"] * 5 + ["line 3"]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("table,page,method,metric,mean", "the header line has no column std"),
        ("table,page,method,metric,mean,std,mean", "the header line has 2 columns mean"),
        (LINE, "the header line has no column table"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, LINE.rpartition(",")[0], header=header)
    assert problem in caught.value.problems[0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (HEADER.encode(), "it has no rows under its header line"),
        (f"{HEADER}\n{LINE}".encode("utf-16"), "it is UTF-16 text"),
        (f"{HEADER}\ntable1,7,Größe,".encode("latin-1"), "line 2: byte 0xf6 is not UTF-8"),
        (f"{HEADER}\n{LINE}\n\0".encode(), "line 3 holds a NUL byte"),
        (f"{HEADER}\n{LINE},9".encode(), "line 2 has 7 fields, the header line has 6"),
        (f'{HEADER}\n{LINE}\n"table1'.encode(), "is a quotation mark open"),
    ],
)
def test_a_file_that_is_no_table_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture, content: bytes, problem: str
) -> None:
    path = tmp_path / "values.csv"
    path.write_bytes(content)
    results = tmp_path / "results"
    words = ["--dataset", "bracs-sim", "--results", str(results), "--published", str(path)]
    assert main(["reproduce", "table1", *words]) == 2
    message = capsys.readouterr().err
    assert problem in message
    assert str(path) in message
    assert "Traceback" not in message
    assert not results.exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["reproduce", "table1", "--published", str(tmp_path / "no.csv")]) == 2
    assert "no.csv: 1 problem\n  - it cannot be read: No such file" in capsys.readouterr().err


ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def mostly(*cells: str) -> st.SearchStrategy[str]:
    return st.one_of(*(st.just(cell) for cell in cells), ANYTHING)


CELLS = st.tuples(
    mostly("table1", "Table 2"),
    mostly("7", "8"),
    mostly("abmil", "HIPT"),
    mostly("accuracy", "Macro AUC"),
    mostly("12.5", "100", "-0", "1e5"),
    mostly("", "3"),
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.one_of(CELLS, st.lists(ANYTHING, max_size=8)), max_size=4))
def test_any_cells_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("values") / "values.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    values: dict[str, list[Published]] = {}
    with contextlib.suppress(InputError):
        values = read_values(path, ITEMS)
    cells = [cell for each in values.values() for cell in each]
    assert all(0 <= value <= 100 for each in cells for value in each.values.values())


def test_values_of_the_user_replace_those_of_the_same_row_and_metric(tmp_path: Path) -> None:
    item = find_item("table1")
    (ours,) = item.published
    changed = with_values(item, read(tmp_path, "table1,7,hmil,accuracy,12.5,")["table1"])
    kept, given = changed.published
    assert kept.values == {key: v for key, v in ours.values.items() if key != "accuracy"}
    assert given.values == {"accuracy": 12.5}
    assert with_values(item, []) == item


def test_values_belong_to_requested_items(tmp_path: Path) -> None:
    read(tmp_path, LINE)
    path = tmp_path / "values.csv"
    (part,) = parts_of(ReproduceRequest(("table1",), published=path))
    assert part.item.published[-1].values == {"accuracy": 12.5}
    with pytest.raises(InputError, match="no line is about table2; its lines are about table1"):
        parts_of(ReproduceRequest(("table2",), published=path))


def test_the_file_in_the_documents_has_the_right_form(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    lines = text.partition("```csv\n")[2].partition("```")[0].splitlines()
    assert len(lines) > 3
    values = read(tmp_path, *lines[1:], header=lines[0])
    assert sum(map(len, values.values())) == len(lines) - 1
