"""Label tables in every form people keep them: read as they are meant, or refused by place."""

from __future__ import annotations

import datetime
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import openpyxl
import pandas as pd
import pytest
from label_tables import edit_member, write_xlsx
from mil_bench.benchmarks.bracs import BRACS
from mil_bench.benchmarks.ccc import CCC
from mil_bench.benchmarks.panda import PANDA

from mil_bench.datasets.labels import LabelTable, read_label_table
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.datasets.card import DatasetSpec

GOOD = [("slide", "label", "patient"), ("001", "N", "7"), ("s2", "IC", "8")]
READ = [("001", 0, "7"), ("s2", 6, "8")]


def rows_of(table: LabelTable) -> list[tuple[str, int, str]]:
    return [(slide, row.label, row.group) for slide, row in table.slides.items()]


def text_table(separator: str, end: str = "\n") -> bytes:
    return "".join(separator.join(row) + end for row in GOOD).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "commas": ("l.csv", text_table(",")),
        "semicolons": ("l.csv", text_table(";")),
        "tabs": ("l.tsv", text_table("\t")),
        "tabs in a .csv": ("l.csv", text_table("\t")),
        "Windows line ends": ("l.csv", text_table(",", "\r\n")),
        "line ends of old Macs": ("l.csv", text_table(",", "\r")),
        "a byte-order mark": ("l.csv", b"\xef\xbb\xbf" + text_table(",")),
        "no line end at the end": ("l.csv", text_table(",").rstrip()),
        "blank lines": ("l.csv", b"\n" + text_table(",", "\n\n") + b",,\n"),
        "blanks around cells": (
            "l.csv",
            b"slide, label ,patient\n001, N ,7 \ns2 ,\tIC\xc2\xa0, 8\n",
        ),
        "quotation marks": ("l.csv", b'"slide","label","patient"\n"001", "N","7"\n"s2","IC","8"\n'),
        "separators at the end of lines": ("l.csv", b"slide,label,patient\n001,N,7,,\ns2,IC,8,\n"),
        "a remark with separators and line breaks": (
            "l.csv",
            b'slide,label,patient,note\n001,N,7,"a;b,\nc"\ns2,IC,8,\n',
        ),
        "a semicolon in a heading": (
            "l.csv",
            b"slide,label,patient,a;b;c;d;e\n001,N,7,\ns2,IC,8,\n",
        ),
        "another name": ("labels.xlsx", text_table(",")),
    }.values(),
)
def test_text_is_read_whatever_separates_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert rows_of(read_label_table(tmp_path / name, BRACS)) == READ


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.csv"])
def test_a_workbook_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    write_xlsx(tmp_path / "l.xlsx", {"Sheet1": GOOD}).rename(tmp_path / name)
    assert rows_of(read_label_table(tmp_path / name, BRACS)) == READ


def test_whole_numbers_of_a_workbook_become_their_digits(tmp_path: Path) -> None:
    rows = [("slide", "label", "patient"), (12, "N", 85), (34.0, "IC", 99), ("005", "PB", 85)]
    table = read_label_table(write_xlsx(tmp_path / "l.xlsx", {"S": rows}), BRACS)
    assert rows_of(table) == [("12", 0, "85"), ("34", 6, "99"), ("005", 1, "85")]


def test_leading_zeros_that_excel_shows_are_kept(tmp_path: Path) -> None:
    rows = [("slide", "label"), (12, "N"), (345, "IC")]
    table = read_label_table(write_xlsx(tmp_path / "l.xlsx", {"S": rows}, "00000"), BRACS)
    assert list(table.slides) == ["00012", "00345"]


def test_a_workbooks_blank_rows_remarks_and_unnamed_columns_do_no_harm(tmp_path: Path) -> None:
    rows = [
        (),
        ("slide", "label", None),
        (),
        ("a", "N", "seen twice", "far out"),
        (None, None, "remark"),
        ("b", "IC"),
    ]
    table = read_label_table(write_xlsx(tmp_path / "l.xlsx", {"S": rows}), BRACS)
    assert list(table.slides) == ["a", "b"]


def test_a_formula_counts_as_what_was_last_computed(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "l.xlsx", {"S": [("slide", "label"), ("a", "N"), ("b", "=B2")]})
    edit_member(
        path,
        "xl/worksheets/sheet1.xml",
        lambda raw: raw.replace(b"<v></v>", b"<v>N</v>").replace(b"<v />", b"<v>N</v>"),
    )
    edit_member(
        path,
        "xl/worksheets/sheet1.xml",
        lambda raw: raw.replace(b'<c r="B3">', b'<c r="B3" t="str">'),
    )
    assert rows_of(read_label_table(path, BRACS))[1][1] == 0


def test_a_wrong_size_written_into_a_workbook_is_not_believed(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "l.xlsx", {"S": GOOD})
    edit_member(
        path, "xl/worksheets/sheet1.xml", lambda raw: raw.replace(b'ref="A1:C3"', b'ref="A1"')
    )
    assert rows_of(read_label_table(path, BRACS)) == READ


def test_the_cards_sheet_is_taken_before_others_that_fit(tmp_path: Path) -> None:
    other = [("slide", "label"), ("wrong", "PB")]
    path = write_xlsx(tmp_path / "l.xlsx", {"other": other, "WSI_Information": GOOD})
    assert rows_of(read_label_table(path, BRACS)) == READ


def test_the_only_sheet_that_fits_is_taken(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "l.xlsx", {"notes": [("hello",)], "empty": [], "mine": GOOD})
    assert rows_of(read_label_table(path, BRACS)) == READ


TEXT_CASES = {
    "an unknown label": (
        b"slide,label\na,N\nb,Benign\n",
        "line 3, slide 'b': label 'Benign' is not one of N, PB, UDH",
    ),
    "a label in another case": (
        b"slide,label\na,n\n",
        "label 'n' is not one of N, PB, UDH, FEA, ADH, DCIS, IC, written 'N'",
    ),
    "a missing label": (b"slide,label\na,N\nb,\n", "line 3, slide 'b': no label"),
    "a line cut short": (b"slide,label\na,N\nb\n", "line 3, slide 'b': no label"),
    "a slide that stands twice": (
        b"slide,label\na,N\nb,IC\na,N\n",
        "line 4, slide 'a': already in line 2",
    ),
    "a slide twice in another case": (
        b"slide,label\nab,N\nAB,N\n",
        "line 3, slide 'AB': already in line 2, as 'ab'",
    ),
    "a slide with and without ending": (
        b"slide,label\na,N\na.svs,N\n",
        "line 3, slide 'a': already in line 2",
    ),
    "an empty slide id": (b"slide,label\na,N\n,IC\n", "line 3: empty slide id"),
    "another role": (
        b"slide,label,split\na,N,holdout\n",
        "line 2, slide 'a': role 'holdout' is not train, val or test",
    ),
    "blank lines before the fault": (
        b"slide,label\na,N\n\n\nb,x\n",
        "line 5, slide 'b': label 'x'",
    ),
    "no slide column": (
        b"name,label\na,N\n",
        "no slide column; looked for slide, slide_id, slide_name",
    ),
    "no label column": (
        b"slide,grade\na,N\n",
        "no label column; looked for label, fine_label, class, wsi label; found slide, grade",
    ),
    "another separator": (b"slide|label\na|N\n", "no slide column"),
    "nothing in it": (b"", "it is empty"),
    "blank lines alone": (b"\n \r\n", "it is empty"),
    "a header alone": (b"slide,label\n", "it has no rows under its header line"),
    "Latin-1": (
        b"slide,label\na,N\ns\xe9,IC\n",
        "line 3: byte 0xe9 is not UTF-8 text; save it as CSV UTF-8",
    ),
    "UTF-16": ("slide,label\na,N\n".encode("utf-16"), "it is UTF-16 text; save it as CSV UTF-8"),
    "UTF-16 without a mark": ("slide,label\na,N\n".encode("utf-16-le"), "line 1 holds a NUL byte"),
    "a NUL byte": (
        b"slide,label\na,N\nb\0,IC\n",
        "line 3 holds a NUL byte, so it is not a text table",
    ),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n" + bytes(64), "holds a NUL byte"),
    "fields too many": (
        b"slide,label\na,N\nb,IC,more\nc,IC,x,y\n",
        "line 3 has 3 fields, the header line has 2",
    ),
    "an open quotation mark": (
        b'slide,label\na,N\n"b,IC\nc,PB\n',
        "after line 2: unexpected end of data; is a quotation",
    ),
    "a quotation mark closed too late": (
        b'slide,label\na,N\n"b,IC\nc",PB\n',
        "line 3: column 'slide' holds a line break",
    ),
    "text after a closing mark": (
        b'slide,label\na,N\n"b"x,IC\n',
        "after line 2: ',' expected after '\"'",
    ),
    "ids with a decimal point": (
        b"slide,label\n123.0,N\n",
        "column 'slide' holds '123.0', which a spreadsheet or pandas made "
        "a number with a decimal point",
    ),
    "ids with a decimal comma": (b"slide;label\n123,0;N\n", "column 'slide' holds '123,0'"),
    "patients with a decimal point": (
        b"slide,label,patient\na,N,85.0\n",
        "line 2: column 'patient' holds '85.0'",
    ),
    "ids in powers of ten": (
        b"slide,label\n1.23E+12,N\n",
        "'1.23E+12', which a spreadsheet or pandas made a number in powers of ten",
    ),
    "dates from a spreadsheet": (
        b"slide,label\n2021-03-05 00:00:00,N\n",
        "'2021-03-05 00:00:00', which a spreadsheet or pandas made a date",
    ),
    "ids turned into months": (
        b"slide,label\n5-Mar,N\nSep-02,N\n",
        "line 3: column 'slide' holds 'Sep-02', which a spreadsheet or pandas made a date",
    ),
    "two slide columns": (
        b"slide,slide_id,label\na,b,N\n",
        "the columns 'slide' and 'slide_id' could both be the slide column; line 2: 'a' and 'b'",
    ),
    "two label columns": (
        b"slide,label,Label\na,N,N\nb,N,IC\n",
        "could both be the label column; line 3: 'N' and 'IC'",
    ),
    "two other group columns": (
        b"slide,label,case_id,case\na,N,1,2\n",
        "could both be the group column",
    ),
    "an old workbook": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),
        "it is an old .xls workbook, or one with a password",
    ),
    "the beginning of a zip": (
        b"PK\x03\x04\x14\x00\xff\xfe\x00\x00",
        "it cannot be read as an Excel workbook, it may be cut short",
    ),
}


def refused(path: Path, fragment: str, spec: DatasetSpec = BRACS) -> InputError:
    with pytest.raises(InputError) as caught:
        read_label_table(path, spec)
    lines = str(caught.value).splitlines()
    assert str(path) in lines[0]
    assert fragment in str(caught.value)
    assert not lines[-1].startswith("  - ")
    return caught.value


@pytest.mark.parametrize(("content", "fragment"), TEXT_CASES.values(), ids=TEXT_CASES.keys())
@pytest.mark.parametrize("name", ["labels.csv", "labels.xlsx"])
def test_a_text_table_is_refused_for(
    tmp_path: Path, name: str, content: bytes, fragment: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, fragment)


DATE = datetime.datetime(2021, 3, 5)
CELL_CASES = {
    "a date for an id": (
        [(DATE, "N")],
        "sheet 'S', row 2: cell A2 holds a date or time (2021-03-05 00:00:00)",
    ),
    "a date for a label": ([("a", DATE)], "sheet 'S', row 2: cell B2 holds a date or time"),
    "a time for an id": ([(datetime.time(12, 30), "N")], "cell A2 holds a date or time (12:30:00)"),
    "a fraction for an id": (
        [(1.5, "N")],
        "cell A2 holds the number 1.5, which is not whole; format the column as text",
    ),
    "more digits than Excel keeps": (
        [(12345678901234567890, "N")],
        "cell A2 holds a number of more than 15 digits",
    ),
    "an error": ([("#N/A", "N")], "sheet 'S', row 2: cell A2 holds the error #N/A"),
    "a formula never computed": (
        [("a", "N"), ("b", "=B2")],
        "cell B3 holds a formula without a result",
    ),
    "an unknown label": (
        [("a", "N"), (), ("b", "Benign")],
        "sheet 'S', row 4, slide 'b': label 'Benign' is not one of",
    ),
    "merged labels": ([("a", "N"), ("b", None)], "sheet 'S', row 3, slide 'b': no label"),
    "a slide twice in another case": (
        [("ab", "N"), ("AB", "N")],
        "sheet 'S', row 3, slide 'AB': already in sheet 'S', row 2, as 'ab'",
    ),
    "no rows": ([], "sheet 'S' has no rows under its header"),
}


@pytest.mark.parametrize(("rows", "fragment"), CELL_CASES.values(), ids=CELL_CASES.keys())
def test_a_workbook_is_refused_for(tmp_path: Path, rows: list[tuple], fragment: str) -> None:
    refused(write_xlsx(tmp_path / "l.xlsx", {"S": [("slide", "label"), *rows]}), fragment)


def test_several_sheets_that_fit_are_listed(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "l.xlsx", {"old": GOOD, "new": GOOD, "notes": [("hello",)]})
    error = refused(
        path, "2 of its sheets have the needed columns; name one on a card (columns.sheet)"
    )
    assert "sheet 'old' begins with: slide, label, patient" in str(error)
    assert "sheet 'notes' begins with: hello" in str(error)


def test_a_merged_heading_over_the_header_is_not_taken_for_it(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "l.xlsx", {"one": [("Slides of 2021",), *GOOD]})
    refused(
        path,
        "no slide column; looked for slide, slide_id, slide_name, wsi filename, filename; "
        "found Slides of 2021",
    )
    path = write_xlsx(tmp_path / "l.xlsx", {"one": [("Slides of 2021",), *GOOD], "two": []})
    refused(path, "none of its sheets has the needed columns")


def only_a_chart(path: Path) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    book.create_chartsheet("Chart").add_chart(openpyxl.chart.BarChart())
    book.save(path)


def cut_short(path: Path) -> None:
    raw = write_xlsx(path, {"S": GOOD}).read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def damaged(path: Path) -> None:
    edit_member(
        write_xlsx(path, {"S": GOOD}), "xl/worksheets/sheet1.xml", lambda raw: raw[: len(raw) // 2]
    )


def a_bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w") as f,
    ):
        for _ in range(64):
            f.write(bytes(2**20))


def a_bomb_that_lies(path: Path) -> None:
    """Its directory says that a member of 64 MB has ten bytes."""
    a_bomb(path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<I", 64 * 2**20), struct.pack("<I", 10)))


def with_entities(path: Path) -> None:
    """One small entity: that any is refused does not depend on how far it would expand."""
    declared = b'<!DOCTYPE worksheet [<!ENTITY a "slide">]>'
    write_xlsx(path, {"S": GOOD})
    edit_member(
        path, "xl/worksheets/sheet1.xml", lambda raw: declared + raw.replace(b">slide<", b">&a;<")
    )


def a_row_far_out(path: Path) -> None:
    write_xlsx(path, {"S": GOOD})
    edit_member(
        path, "xl/worksheets/sheet1.xml", lambda raw: raw.replace(b'r="3"', b'r="3000000000"')
    )


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("content.xml", "<office:document/>")


def itself(path: Path) -> None:
    path.symlink_to(path)


FILE_CASES = {
    "a chart alone": (only_a_chart, "it has no sheet with cells"),
    "a workbook cut short": (
        cut_short,
        "it cannot be read as an Excel workbook, it may be cut short",
    ),
    "a damaged sheet": (damaged, "it cannot be read as an Excel workbook, it may be damaged"),
    "a zip bomb": (
        a_bomb,
        "would unpack to 67,108,864; no label table does that, so it was not opened",
    ),
    "a zip bomb that lies": (a_bomb_that_lies, "it may be damaged"),
    "entities": (with_entities, "EntitiesForbidden"),
    "a row of no sheet": (a_row_far_out, "sheet 'S' has more than 1,048,576 rows"),
    "another zip archive": (another_zip, "it is a zip archive but not an .xlsx workbook"),
    "a directory": (Path.mkdir, "it cannot be read: Is a directory"),
    "nothing there": (lambda path: None, "it cannot be read: No such file or directory"),
    "a link to itself": (itself, "it cannot be read: Too many levels of symbolic links"),
}


@pytest.mark.parametrize(("make", "fragment"), FILE_CASES.values(), ids=FILE_CASES.keys())
@pytest.mark.parametrize("name", ["labels.xlsx", "labels.csv"])
def test_a_file_is_refused_for(
    tmp_path: Path, name: str, make: Callable[[Path], object], fragment: str
) -> None:
    make(tmp_path / name)
    refused(tmp_path / name, fragment)


def test_all_problems_come_in_one_error(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "slide,label,patient,split\na,N,1.0,train\na,IC,2,train\n,N,3,val\nb,cancer,4,holdout\nc,,5,\n"
    )
    error = refused(path, "6 problems")
    assert [problem.split(":")[0] for problem in error.problems] == [
        "line 2",
        "line 3, slide 'a'",
        "line 4",
        "line 5, slide 'b'",
        "line 5, slide 'b'",
        "line 6, slide 'c'",
    ]


@pytest.mark.parametrize(
    ("card", "header", "group", "expected"),
    [
        (BRACS, "slide,label,patient", "7", "patient"),
        (BRACS, "WSI Filename,WSI label,Patient Id", "7", "patient"),
        (BRACS, "slide,label,case_id", "7", "case"),
        (
            BRACS,
            "slide,label,patient",
            "",
            "patient",
        ),  # one blank cell does not make the other patients unknown
        (BRACS, "slide,label,site", "7", ""),
        (CCC, "slide,label,centre", "7", "centre"),
        (CCC, "slide,label,patient", "7", "patient"),  # not the card's centres
        (
            PANDA,
            "image_id,isup_grade,near_dup_group",
            "",
            "near-duplicate group",
        ),  # blank: it stands alone
    ],
)
def test_groups_are_what_the_sheet_says_they_are(
    tmp_path: Path, card: DatasetSpec, header: str, group: str, expected: str
) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(f"{header}\na,{card.hierarchy.fine[0]},1\nb,{card.hierarchy.fine[0]},{group}\n")
    assert read_label_table(path, card).group_name == expected


@pytest.mark.parametrize(
    ("card", "heading", "expected"),
    [
        (BRACS, "patient", ""),
        (PANDA, "patient", ""),
        (PANDA, "near_dup_group", "near-duplicate group"),
    ],
)
def test_groups_are_unknown_where_no_slide_has_one(
    tmp_path: Path, card: DatasetSpec, heading: str, expected: str
) -> None:
    columns = f"{card.columns.slide[0]},{card.columns.label[0]},{heading}"
    (tmp_path / "l.csv").write_text(f"{columns}\na,{card.hierarchy.fine[0]},\n")
    table = read_label_table(tmp_path / "l.csv", card)
    assert (table.group_name, table.slides["a"].group) == (expected, "slide a")


def test_clams_label_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("case_id,slide_id,label\np1,s1,N\np1,s2,IC\n")
    table = read_label_table(tmp_path / "l.csv", BRACS)
    assert (rows_of(table), table.group_name) == ([("s1", 0, "p1"), ("s2", 6, "p1")], "case")


def test_of_patients_and_cases_the_cards_own_word_counts(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("slide,label,case_id,patient\na,N,c1,p1\n")
    table = read_label_table(tmp_path / "l.csv", BRACS)
    assert (rows_of(table), table.group_name) == ([("a", 0, "p1")], "patient")


def test_two_columns_that_say_the_same_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("slide_id,filename,label\na,a.svs,N\n")
    assert list(read_label_table(tmp_path / "l.csv", BRACS).slides) == ["a"]


@pytest.mark.parametrize("written", ["train", "Training", "TRAIN", " train "])
def test_roles_are_understood_in_their_usual_spellings(tmp_path: Path, written: str) -> None:
    (tmp_path / "l.csv").write_text(
        f"slide,label,split\na,N,{written}\nb,N,Validation\nc,N,testing\nd,N,\n"
    )
    rows = read_label_table(tmp_path / "l.csv", BRACS).slides
    assert [row.split for row in rows.values()] == ["train", "val", "test", ""]


def test_words_that_other_readers_take_for_missing_are_ids_here(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("slide,label,patient\nNA,N,null\nnan,IC,None\n1E5,PB,1e3\n")
    assert rows_of(read_label_table(tmp_path / "l.csv", BRACS)) == [
        ("NA", 0, "null"),
        ("nan", 6, "None"),
        ("1E5", 1, "1e3"),
    ]


@pytest.mark.parametrize(
    ("written", "slide"),
    [
        ("BRACS_1.svs", "BRACS_1"),
        ("a.OME.TIFF", "a"),
        ("x.y.ndpi", "x.y"),
        ("t.h5", "t"),
        ("NOR1_feat", "NOR1_feat"),
        ("a.b", "a.b"),
    ],
)
def test_the_ending_of_a_slides_file_is_no_part_of_its_id(
    tmp_path: Path, written: str, slide: str
) -> None:
    (tmp_path / "l.csv").write_text(f"slide,label\n{written},N\n")
    assert list(read_label_table(tmp_path / "l.csv", BRACS).slides) == [slide]


def test_the_frame_has_a_row_a_slide(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(
        "slide,label,patient,set,centre\na,N,7,Training,Rome\nb,IC,8,,\n"
    )
    frame = read_label_table(tmp_path / "l.csv", BRACS).frame
    assert frame.to_dict("records") == [
        {"slide": "a", "label": 0, "group": "7", "split": "train", "centre": "Rome"},
        {"slide": "b", "label": 6, "group": "8", "split": "", "centre": ""},
    ]


def test_where_the_centre_is_the_group_it_is_also_the_centre(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("slide,label,center\na,NILM,north\nb,SCC,south\n")
    frame = read_label_table(tmp_path / "l.csv", CCC).frame
    assert frame["group"].tolist() == frame["centre"].tolist() == ["north", "south"]


@pytest.mark.parametrize(
    ("slide", "hint"),
    [
        ("00123", "the label table has '123': leading zeros were lost"),
        ("00123.svs", "the label table has '123': leading zeros were lost"),
        ("45", "the label table has '0045': leading zeros differ"),
        ("abc", "the label table has 'ABC', in other upper and lower case"),
        ("ABC.ndpi", "the label table has 'ABC'"),
        ("d", "the label table has 'c/d'"),
        ("ABC", ""),
        ("other", ""),
    ],
)
def test_a_slide_that_is_not_in_the_sheet_is_told_what_is_near(
    tmp_path: Path, slide: str, hint: str
) -> None:
    (tmp_path / "l.csv").write_text("slide,label\n123,N\n0045,N\nABC,IC\nc/d,N\n")
    assert read_label_table(tmp_path / "l.csv", BRACS).near_miss(slide) == hint


@pytest.fixture(scope="module")
def official(shared: Path) -> Path:
    folder = shared / "data" / "official"
    if not folder.is_dir():
        pytest.skip("the official metadata are not there")
    return folder


def test_the_official_bracs_workbook_is_taken_as_it_is(official: Path) -> None:
    table = read_label_table(official / "BRACS.xlsx", BRACS)
    frame = table.frame
    assert (len(frame), frame["group"].nunique(), table.group_name) == (547, 189, "patient")
    assert frame["split"].value_counts().to_dict() == {"train": 395, "val": 65, "test": 87}
    assert tuple(frame["label"].value_counts().sort_index()) == BRACS.class_counts
    assert table.slides == read_label_table(official / "bracs_meta.csv", BRACS).slides


def test_pandas_official_table_has_centres_and_groups_of_near_duplicates(official: Path) -> None:
    table = read_label_table(official / "panda_meta.csv", PANDA)
    frame = table.frame
    assert frame["centre"].value_counts().to_dict() == {"karolinska": 5456, "radboud": 5160}
    assert tuple(frame["label"].value_counts().sort_index()) == PANDA.class_counts
    assert (frame["group"].nunique(), table.group_name) == (
        PANDA.groups.count,
        "near-duplicate group",
    )


def test_kaggles_train_csv_is_taken_and_its_groups_are_unknown(
    official: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(official / "panda_meta.csv", dtype=str).iloc[:, :-1]
    assert list(table.columns) == ["image_id", "data_provider", "isup_grade", "gleason_score"]
    table.to_csv(tmp_path / "train.csv", index=False)
    table = read_label_table(tmp_path / "train.csv", PANDA)
    assert (table.group_name, table.frame["group"].nunique()) == ("", 10616)
    assert tuple(table.frame["label"].value_counts().sort_index()) == PANDA.class_counts
