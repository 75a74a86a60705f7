"""Ids and labels that an editor, a spreadsheet or another machine has changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openpyxl
import pytest
from feature_files import some_features, write_h5

from mil_bench.bags.store import BagStore
from mil_bench.cli import main
from mil_bench.datasets.card_file import read_card
from mil_bench.datasets.labels import parse_label_table, read_label_table
from mil_bench.datasets.slide_ids import SlideNames, without_ending
from mil_bench.datasets.spelling import WORDS_FOR_NONE, look, visible
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CARD = Path("study.toml")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_card("a", "b")


def write_card(*labels: str, more: str = "") -> None:
    quoted = ", ".join(f'"{label}"' for label in labels)
    CARD.write_text(f'name = "study"\nlabels = [{quoted}]\n{more}', encoding="utf-8")


def write_table(rows: Sequence[Sequence[str]], header: str = "slide,label") -> Path:
    path = Path("labels.csv")
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]), encoding="utf-8")
    return path


def labels_of(rows: Sequence[Sequence[str]], **options: bool) -> Mapping[str, int]:
    table = read_label_table(write_table(rows), read_card(CARD), **options)
    return {slide.id: slide.label for slide in table.slides.values()}


@pytest.mark.parametrize(
    "written",
    [
        *("S1\u200b", "\ufeffS1", "\u00a0S1", "S1\u2009", "\u200eS1\u200f", "S\u00ad1", "S1\u2060"),
        *("C:\\scans\\S1.svs", "c:/scans/S1", "\\\\server\\share\\S1.tiff", "/data/x/S1.h5"),
        *("file:///data/S1.svs", "../S1.svs", "./S1", "/data/S1/", "S1.ome.tiff"),
    ],
)
def test_an_id_is_read_as_it_is_seen_and_without_foreign_folders(written: str) -> None:
    assert without_ending(written) == "S1"
    assert labels_of([(written, "a"), ("S2", "b")]) == {"S1": 0, "S2": 1}


@pytest.mark.parametrize("written", ["A/S1", "A\\S1.svs", "./A/S1.h5"])
def test_a_path_below_the_folder_stays_in_the_id(written: str) -> None:
    assert without_ending(written) == "A/S1"


def test_foreign_paths_with_one_name_are_one_slide() -> None:
    rows = [("C:\\x\\S1.svs", "a"), ("D:\\y\\S1.svs", "b")]
    with pytest.raises(InputError, match="line 3, slide 'S1': already in line 2"):
        labels_of(rows)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("100.0", "the store has '100': a spreadsheet or pandas gave the number a decimal point"),
        ("7", "the store has '007': leading zeros differ"),
        ("7.0", "the store has '007': leading zeros differ"),
        ("s-1", "the store has 'S-1', in other upper and lower case"),
        ("101.0", ""),
    ],
)
def test_a_hint_says_what_has_changed_an_id(written: str, hint: str) -> None:
    assert SlideNames(["100", "007", "S-1"]).near_miss(written, "the store") == hint


@pytest.mark.parametrize("written", ["1", "1.0", "1,0", " 1 ", "1\u200b"])
def test_a_whole_number_is_one_class_however_it_is_written(written: str) -> None:
    write_card("0", "1")
    assert labels_of([("s1", "0"), ("s2", f'"{written}"'), ("s3", "0.0")]) == {
        "s1": 0,
        "s2": 1,
        "s3": 0,
    }


def test_numbers_are_not_made_equal_if_the_card_has_both() -> None:
    write_card("1", "1.0")
    assert labels_of([("s1", "1"), ("s2", "1.0")]) == {"s1": 0, "s2": 1}


def new_card(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    code = main(["data", "new", "my-study", "--labels", "labels.csv", *words])
    text = capsys.readouterr()
    return code, text.out, text.err


def rows_of(labels: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"s{i}", label) for i, label in enumerate(labels)]


def test_a_new_card_has_one_class_per_number(capsys: pytest.CaptureFixture) -> None:
    write_table(rows_of(["0", "0.0", "1", "1.0", "1"]))
    assert new_card(capsys)[0] == 0
    spec = read_card(Path("my-study.toml"))
    assert (spec.hierarchy.fine, spec.class_counts) == (("0", "1"), (2, 3))


@pytest.mark.parametrize("word", sorted({*WORDS_FOR_NONE, "NaN", "NA", "#N/A", "None", "Unknown"}))
def test_a_word_for_missing_is_asked_about_and_no_class(
    word: str, capsys: pytest.CaptureFixture
) -> None:
    write_table(rows_of(["a", "b", word, "a", word]))
    code, _, message = new_card(capsys)
    assert code == 2
    assert f"2 rows have the label '{word}', which says in many tables that the label" in message
    assert "--allow-missing" in message
    assert not Path("my-study.toml").exists()
    assert new_card(capsys, "--allow-missing")[0] == 0
    assert read_card(Path("my-study.toml")).hierarchy.fine == ("a", "b")


@pytest.mark.parametrize("missing", ["", "NaN", "?"])
def test_rows_without_a_label_are_left_out_and_counted_if_that_is_allowed(
    missing: str, capsys: pytest.CaptureFixture
) -> None:
    for i in range(4):
        write_h5(Path(f"features/s{i}.h5"), some_features(seed=i))
    write_table(rows_of(["a", "b", missing, missing]))
    command = ["data", "pack", "features", "--dataset", "study.toml", "--labels", "labels.csv"]
    assert main([*command, "--workers", "1"]) == 2
    assert "line 4, slide 's2': " in capsys.readouterr().err
    assert main([*command, "--workers", "1", "--allow-missing"]) == 0
    assert "2 slides have no label and are left out: s2, s3" in capsys.readouterr().out
    assert BagStore(Path("data/study.h5")).slides["slide"].tolist() == ["s0", "s1"]
    words = ("--dataset", "study.toml", "--labels", "labels.csv", "--allow-missing")
    assert main(["data", "inspect", "features", *words]) == 0
    assert "2 slides have no label; packing leaves such out: s2, s3." in capsys.readouterr().out


def test_a_word_for_missing_that_the_card_names_is_a_class() -> None:
    write_card("a", "unknown")
    rows = [("s1", "a"), ("s2", "unknown")]
    assert labels_of(rows, allow_missing=True) == {"s1": 0, "s2": 1}


ALIKE = {
    "case": ("Benign", "benign"),
    "a kind of blank": ("in situ", "in-situ"),
    "an underscore": ("in_situ", "in situ"),
    "a Cyrillic letter": ("\u0412enign", "Benign"),
    "a Greek letter": ("N\u03bf", "No"),
    "full width": ("\uff21B", "AB"),
    "two blanks": ("in  situ", "in situ"),
}


@pytest.mark.parametrize(("one", "two"), ALIKE.values(), ids=ALIKE)
def test_labels_that_look_alike_are_asked_about(
    one: str, two: str, capsys: pytest.CaptureFixture
) -> None:
    write_table(rows_of([one, two, "other", one]))
    code, _, message = new_card(capsys)
    assert code == 2
    assert "look alike; write one class in one way" in message
    assert "(2 rows) and " in message


@pytest.mark.parametrize(("one", "two"), ALIKE.values(), ids=ALIKE)
def test_a_label_that_looks_like_a_class_says_so(one: str, two: str) -> None:
    write_card(two, "other")
    _, problems = parse_label_table(write_table([("s1", one)]), read_card(CARD))
    assert problems == [
        f"line 2, slide 's1': label '{visible(one)}' is not one of {two}, other, "
        f"written '{two}' there"
    ]


@pytest.mark.parametrize("pair", [("grade 1", "grade 2"), ("N", "NA+"), ("G1", "G 1"), ("-1", "1")])
def test_labels_that_a_reader_can_distinguish_do_not_look_alike(pair: tuple[str, str]) -> None:
    assert look(pair[0]) != look(pair[1])


@pytest.mark.parametrize("tail", ["\u200b", "\u00a0", "\ufeff", "\u200e", " "])
def test_what_nobody_sees_makes_no_second_class(tail: str, capsys: pytest.CaptureFixture) -> None:
    write_table(rows_of(["a", f"a{tail}", "b", "b"]))
    assert new_card(capsys)[0] == 0
    assert read_card(Path("my-study.toml")).class_counts == (2, 2)


NO_CLASSES = {
    "a measurement": [f"{i * 0.37:.2f}" for i in range(60)],
    "months": [str(i) for i in range(60)],
    "powers of ten": [f"{i}.5e-3" for i in range(30)],
    "a number per slide, some twice": [str(i // 2) for i in range(60)],
    "names": [f"name {i}" for i in range(30)],
}


@pytest.mark.parametrize("labels", NO_CLASSES.values(), ids=NO_CLASSES)
def test_a_column_of_measurements_or_names_is_no_column_of_classes(
    labels: list[str], capsys: pytest.CaptureFixture
) -> None:
    write_table(rows_of(labels))
    code, _, message = new_card(capsys)
    assert code == 2
    assert "mil-bench classifies slides: it has neither regression nor survival analysis" in message
    assert "1 problem\n" in message


def test_measurements_in_a_workbook_are_one_problem(capsys: pytest.CaptureFixture) -> None:
    book = openpyxl.Workbook()
    for row in [("slide", "label"), *((f"s{i}", 0.5 + i) for i in range(40))]:
        book.active.append(row)
    book.save("labels.csv")
    code, _, message = new_card(capsys)
    assert code == 2
    assert "40 different numbers" in message
    assert "1 problem\n" in message


def test_grades_are_classes(capsys: pytest.CaptureFixture) -> None:
    write_table(rows_of([str(i % 6) for i in range(60)]))
    assert new_card(capsys)[0] == 0


def test_two_columns_of_labels_are_told_what_to_do(capsys: pytest.CaptureFixture) -> None:
    write_table([("s1", "+", "-"), ("s2", "-", "-")], "slide,ER label,HER2 label")
    code, _, message = new_card(capsys)
    assert code == 2
    assert "no label column; looked for label" in message
    assert "found slide, ER label, HER2 label" in message
    assert "mil-bench classifies slides by one label" in message
    assert "each gets a card of its own, with columns.label" in message


@pytest.mark.parametrize(
    "numbers", ["01234", ["fold 1", "fold 2"], ["Fold_0", "1.0"], ["k3", "k4"]]
)
def test_a_column_of_fold_numbers_is_no_column_of_roles(
    numbers: Sequence[str], capsys: pytest.CaptureFixture
) -> None:
    rows = [(f"s{i}", "ab"[i % 2], numbers[i % len(numbers)]) for i in range(10)]
    write_table(rows, "slide,label,split")
    code, output, _ = new_card(capsys)
    assert code == 0
    assert "The column 'split' holds numbers (" in output
    assert 'columns.split = "split"' not in Path("my-study.toml").read_text()
    table = read_label_table(Path("labels.csv"), read_card(Path("my-study.toml")))
    assert {slide.split for slide in table.slides.values()} == {""}
    assert "not taken for official roles" in table.notes[0]


def test_a_role_beside_numbers_is_still_a_column_of_roles() -> None:
    _, problems = parse_label_table(
        write_table([("s1", "a", "train"), ("s2", "b", "1")], "slide,label,split"), read_card(CARD)
    )
    assert problems == ["line 3, slide 's2': role '1' is not train, val or test"]


def merged_workbook(*areas: str) -> Path:
    book = openpyxl.Workbook()
    rows = [("slide", "label", "remark", None), ("s1", "a", "x", None)]
    for row in [*rows, ("s2", None, None, None), ("s3", "b", None, None)]:
        book.active.append(row)
    book.active.merge_cells("C1:D1")
    for area in areas:
        book.active.merge_cells(area)
    path = Path("labels.xlsx")
    book.save(path)
    return path


def test_a_row_that_is_merged_with_another_is_a_problem_with_its_cell() -> None:
    _, problems = parse_label_table(merged_workbook("B2:B3"), read_card(CARD))
    assert problems == [
        "sheet 'Sheet', row 3: cell B3 is merged with B2 (to B3), which alone has a value; "
        "unmerge the cells and fill in every row"
    ]


def test_merged_remarks_and_headings_do_no_harm() -> None:
    table, problems = parse_label_table(merged_workbook("C2:D3"), read_card(CARD))
    assert problems == [
        "sheet 'Sheet', row 3, slide 's2': no label (--allow-missing leaves such rows out)"
    ]
    assert list(table.slides) == ["s1", "s3"]


def test_features_named_with_what_nobody_sees_meet_their_label() -> None:
    for i, name in enumerate(("s0\u200b", "s1")):
        write_h5(Path(f"features/{name}.h5"), some_features(seed=i))
    write_table(rows_of(["a", "b"]))
    command = ["data", "pack", "features", "--dataset", "study.toml", "--labels", "labels.csv"]
    assert main([*command, "--workers", "1"]) == 0
    assert np.array_equal(BagStore(Path("data/study.h5")).bag(0).features, some_features(seed=0))
