"""Cards as TOML files: an own dataset without Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from label_tables import write_xlsx

from mil_bench.cli import main
from mil_bench.datasets.card_file import read_card
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.datasets.labels import read_label_table
from mil_bench.datasets.new_card import new_card
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.hierarchy import LabelHierarchy

FLAT = 'name = "my-study"\nlabels = ["b", "a"]\n'


def card(folder: Path, text: str | bytes) -> Path:
    path = folder / "card.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_pipe_is_no_card_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "card.toml")
    with pytest.raises(InputError, match=r"it is not a file \(a pipe or a device\)"):
        find_dataset(str(tmp_path / "card.toml"))


def test_a_name_and_labels_are_enough(tmp_path: Path) -> None:
    spec = read_card(card(tmp_path, FLAT))
    assert (spec.name, spec.slug, spec.title) == ("my-study", "my-study", "my-study")
    assert spec.hierarchy == LabelHierarchy.flat(["b", "a"])
    assert (spec.class_counts, spec.ordered, spec.folds, spec.traps) == ((), False, 10, ())
    assert (spec.protocols[0], spec.groups.name, spec.source) == (
        "patient-kfold",
        "patient",
        "not given on the card",
    )


def test_every_key_arrives(tmp_path: Path) -> None:
    text = """
        name = "grades"
        title = "a title"
        hierarchy.low = ["G1", "G2"]
        hierarchy."very high" = ["G3"]
        ordered = true
        main_metric = "quadratic_kappa"
        group = "centre"
        protocols = ["official", "patient-kfold"]
        folds = 4
        columns.slide = "Probe"
        columns.label = ["Befund", "Art"]
        columns.group = "Klinik"
        columns.centre = "Klinik"
        columns.sheet = "Tab 2"
        slides_per_class = {G3 = 3, G1 = 1, G2 = 2}
        source = "a"
        licence = "b"
        citation = "c"
        traps = ["d", "e"]
    """
    spec = read_card(card(tmp_path, text))
    assert spec.hierarchy == LabelHierarchy.from_groups({"low": ["G1", "G2"], "very high": ["G3"]})
    assert (spec.class_counts, spec.ordered, spec.folds) == ((1, 2, 3), True, 4)
    assert spec.main_metric == "quadratic_kappa"
    assert (spec.protocols, spec.groups.name) == (("official", "patient-kfold"), "centre")
    assert (spec.columns.slide, spec.columns.label, spec.columns.sheet) == (
        ("Probe",),
        ("Befund", "Art"),
        "Tab 2",
    )
    assert (spec.title, spec.source, spec.licence, spec.citation, spec.traps) == (
        "a title",
        "a",
        "b",
        "c",
        ("d", "e"),
    )
    rows = [("Probe", "Befund", "Klinik"), ("s1", "G2", "north")]
    table = read_label_table(write_xlsx(tmp_path / "l.xlsx", {"Tab 1": rows, "Tab 2": rows}), spec)
    assert table.group_name == "centre"
    assert (table.slides["s1"].label, table.slides["s1"].group, table.slides["s1"].centre) == (
        1,
        "north",
        "north",
    )


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + FLAT.replace("\n", "\r\n").encode()
    assert read_card(card(tmp_path, text)) == read_card(card(tmp_path, FLAT))


@pytest.mark.parametrize(
    ("text", "fragment"),
    {
        "an unknown key": (f"{FLAT}lables = 1\n", "unknown key 'lables'; did you mean labels?"),
        "an unknown column": (
            f'{FLAT}columns.slade = "x"\n',
            "unknown key 'columns.slade'; did you mean slide or slides or label?",
        ),
        "no name": (
            'labels = ["a", "b"]\n',
            "name: '' is not a name in lower case with hyphens, such as my-study",
        ),
        "a name with blanks": (
            'name = "My Study"\nlabels = ["a", "b"]\n',
            "name: 'My Study' is not a name in lower",
        ),
        "a name with a path": (
            'name = "../x"\nlabels = ["a", "b"]\n',
            "name: '../x' is not a name in lower case",
        ),
        "a name that is taken": (
            'name = "bracs"\nlabels = ["a", "b"]\n',
            "name: 'bracs' is taken by mil-bench",
        ),
        "a number for the name": (
            'name = 3\nlabels = ["a", "b"]\n',
            "name: 3 is not a text in quotation marks",
        ),
        "no classes": ('name = "x"\n', "hierarchy: neither labels nor a hierarchy is given"),
        "labels and hierarchy": (
            f'{FLAT}hierarchy.c = ["a"]\n',
            "hierarchy: both labels and a hierarchy are given",
        ),
        "one class": (
            'name = "x"\nlabels = ["a"]\n',
            "labels: at least two fine classes are needed, there are 1",
        ),
        "a class twice": (
            'name = "x"\nlabels = ["a", "b", "a"]\n',
            "labels: a fine class is named twice in ['a', 'b', 'a']",
        ),
        "a class under two": (
            'name = "x"\nhierarchy.c = ["a"]\nhierarchy.d = ["a"]\n',
            "hierarchy: a fine class is named twice",
        ),
        "a coarse class without classes": (
            'name = "x"\nhierarchy.c = ["a", "b"]\nhierarchy.d = []\n',
            "hierarchy.d: [] is not a list of texts",
        ),
        "numbers for labels": (
            'name = "x"\nlabels = [0, 1]\n',
            'labels: 0 is not text; write it in quotation marks: "0"',
        ),
        "a blank label": (
            'name = "x"\nlabels = ["a", " "]\n',
            "labels: ' ' is blank or has blanks around it",
        ),
        "a label with blanks around": (
            'name = "x"\nlabels = ["a", "b "]\n',
            "labels: 'b ' is blank or has blanks around",
        ),
        "text for labels": (
            'name = "x"\nlabels = "a, b"\n',
            "labels: 'a, b' is not a list of texts, such as",
        ),
        "a list for the hierarchy": (
            'name = "x"\nhierarchy = ["a", "b"]\n',
            "hierarchy: ['a', 'b'] is not a table of keys",
        ),
        "an unknown protocol": (
            f'{FLAT}protocols = ["patient-fold"]\n',
            "protocols: there is none called 'patient-fold'; did you mean patient-kfold?",
        ),
        "no protocol": (f"{FLAT}protocols = []\n", "protocols: [] is not a list of texts"),
        "one fold": (f"{FLAT}folds = 1\n", "folds: 1 is less than 2"),
        "text for folds": (f'{FLAT}folds = "5"\n', "folds: '5' is not a whole number"),
        "true for folds": (f"{FLAT}folds = true\n", "folds: True is not a whole number"),
        "text for ordered": (f'{FLAT}ordered = "yes"\n', "ordered: 'yes' is not true or false"),
        "counts of an unknown class": (
            f"{FLAT}slides_per_class = {{a = 1, b = 2, ab = 3}}\n",
            "slides_per_class: there is no class 'ab'",
        ),
        "counts of some classes": (
            f"{FLAT}slides_per_class.a = 1\n",
            "slides_per_class: b is missing; give all classes or none",
        ),
        "a negative count": (
            f"{FLAT}slides_per_class = {{a = 1, b = -2}}\n",
            "slides_per_class.b: -2 is less than 1",
        ),
        "a list for the sheet": (
            f'{FLAT}columns.sheet = ["x"]\n',
            "columns.sheet: ['x'] is not a text in quotation marks",
        ),
        "a key twice": (
            f'{FLAT}name = "y"\n',
            "it cannot be read as TOML in UTF-8: Cannot overwrite a value (at line 3",
        ),
        "no TOML": (
            "name: my-study\n",
            "it cannot be read as TOML in UTF-8: "
            "Expected '=' after a key in a key/value pair (at line 1",
        ),
        "nothing": ("", "neither labels nor a hierarchy is given"),
        "Latin-1": (
            'name = "x"\ntitle = "é"\n'.encode("latin-1"),
            "it cannot be read as TOML in UTF-8: 'utf-8' codec can't decode",
        ),
        "brackets without end": (
            "a = " + "[" * 100_000,
            "it cannot be read as TOML in UTF-8: maximum recursion depth",
        ),
        "a large file": (b"#" * (2**20 + 1), "it has more than 1,048,576 bytes"),
    }.values(),
)
def test_a_card_is_refused_for(tmp_path: Path, text: str | bytes, fragment: str) -> None:
    path = card(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_card(path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"card {path}: ")
    assert any(fragment in line for line in lines[1:-1])
    assert lines[-1].startswith("Correct the card")


def test_all_problems_of_a_card_come_in_one_error(tmp_path: Path) -> None:
    text = """
        name = "X"
        labels = ["a", "a"]
        folds = 0
        protocol = "paper"
        protocols = ["papers"]
        ordered = 1
    """
    with pytest.raises(InputError) as caught:
        read_card(card(tmp_path, text))
    keys = ["unknown key 'protocol'", "name", "labels", "protocols", "folds", "ordered"]
    assert [problem.split(":")[0].split(";")[0] for problem in caught.value.problems] == keys


@pytest.mark.parametrize("kind", ["absent", "folder", "link to itself"])
def test_a_card_that_cannot_be_opened_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.toml"
    if kind == "folder":
        path.mkdir()
    if kind == "link to itself":
        path.symlink_to(path)
    with pytest.raises(InputError, match=r"x\.toml: 1 problem\n  - it cannot be read as TOML"):
        find_dataset(str(path))


def test_a_card_stands_where_a_name_does(tmp_path: Path) -> None:
    path = card(tmp_path, FLAT)
    assert find_dataset(str(path)) == read_card(path)


def test_the_name_of_a_card_that_lies_here_suggests_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new_card("my-study", None, Path())
    with pytest.raises(
        UnknownNameError, match=r"There is no dataset 'my-study'. Did you mean my-study.toml"
    ):
        find_dataset("my-study")


def test_a_new_card_can_be_read_as_it_is(tmp_path: Path) -> None:
    spec = read_card(new_card("my-study", None, tmp_path).path)
    assert (spec.name, spec.hierarchy.fine, spec.class_counts) == (
        "my-study",
        ("benign", "malignant"),
        (),
    )


def test_a_new_card_takes_classes_counts_and_headings_from_the_table(tmp_path: Path) -> None:
    table = tmp_path / "l.csv"
    table.write_text(
        'slide_id,class,Case_ID,hospital\n1,10,p,x\n2,2,p,x\n3,"a ""b"" \\",q,y\n4,2,,\n'
    )
    spec = read_card(new_card("my-study", table, tmp_path).path)
    assert spec.hierarchy.fine == ('a "b" \\', "2", "10")
    assert (spec.class_counts, spec.groups.name) == ((1, 2, 1), "case")
    assert (spec.columns.slide, spec.columns.centre) == (("slide_id",), ("hospital",))
    assert list(read_label_table(table, spec).slides) == ["1", "2", "3", "4"]
    assert spec.protocols == ("patient-kfold", "paper", "leave-one-centre-out")  # no official split


def test_unusual_headings_are_named_and_written_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l.csv").write_text("image,diagnosis,number\n1,N,p\n2,M,p\n3,N,q\n")
    words = ["data", "new", "my-study", "--labels", "l.csv"]
    assert main(words) == 2
    assert "--label-column HEADING" in capsys.readouterr().err
    words += ["--slide-column", "image", "--label-column", "diagnosis"]
    assert main([*words, "--patient-column", "nr"]) == 2
    assert "no column nr" in capsys.readouterr().err
    assert not Path("my-study.toml").exists()
    assert main([*words, "--patient-column", "number"]) == 0
    assert "no column of patients" not in capsys.readouterr().out
    spec = read_card(Path("my-study.toml"))
    assert (spec.columns.label, spec.columns.group) == (("diagnosis",), ("number",))
    assert list(read_label_table(Path("l.csv"), spec).slides) == ["1", "2", "3"]
    words[2] = "other"
    assert main(words) == 0
    assert "! There is no column of patients" in capsys.readouterr().out
    assert main(["data", "new", "third", "--label-column", "diagnosis"]) == 2


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (
            "slide,label\na,N\nb,N\n",
            "the column 'label' holds 1 different labels, expected 2 to 100",
        ),
        ("slide,label\na,N\nb,\nc,M\n", "1 row has no label"),
        (
            "slide,label\na,N\nb,5-Mar\n",
            "line 3: column 'label' holds '5-Mar', which a spreadsheet or pandas made a date",
        ),
        ("slide,grade\na,N\n", "no label column"),
        (
            "slide,label\n" + "".join(f"{i},{i}\n" for i in range(101)),
            "holds 101 different numbers",
        ),
    ],
)
def test_no_card_is_written_from_a_table_with_faults(
    tmp_path: Path, content: str, fragment: str
) -> None:
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(InputError) as caught:
        new_card("my-study", tmp_path / "l.csv", tmp_path)
    assert fragment in str(caught.value)
    assert not (tmp_path / "my-study.toml").exists()


def test_a_card_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "my-study.toml").write_text("mine")
    with pytest.raises(InputError, match=r"my-study\.toml exists and is not replaced"):
        new_card("my-study", None, tmp_path)
    assert (tmp_path / "my-study.toml").read_text() == "mine"


@pytest.mark.parametrize("name", ["bracs", "Mine", "a/b", ""])
def test_a_new_card_cannot_have_the_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"is taken by|is not a name in lower case"):
        new_card(name, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_write_and_show_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l.csv").write_text("slide,label\na,N\nb,M\n")
    assert main(["data", "new", "my-study", "--labels", "l.csv"]) == 0
    assert "data pack FEATURES --dataset my-study.toml --labels l.csv" in capsys.readouterr().out
    assert main(["data", "card", "my-study.toml"]) == 0
    shown = capsys.readouterr().out
    assert "M (1), N (1)" in shown
    assert "patients:  an unknown number" in shown
    assert main(["data", "new", "my-study"]) == 2
    assert "exists and is not replaced" in capsys.readouterr().err


def test_a_grade_is_shown_as_such(capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "card", "panda"]) == 0
    assert "(grades, from low to high)" in capsys.readouterr().out


def test_a_main_metric_that_does_not_exist_is_named_when_the_card_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = card(tmp_path, 'name = "my-study"\nlabels = ["a", "b"]\nmain_metric = "kapa"')
    assert main(["data", "card", str(path)]) == 2
    assert "There is no metric 'kapa'" in capsys.readouterr().err


def test_a_label_may_belong_to_the_patient(tmp_path: Path) -> None:
    assert read_card(card(tmp_path, FLAT)).unit == "slide"
    spec = read_card(card(tmp_path, FLAT + 'unit = "patient"\n'))
    assert spec.unit == "patient"
    table = tmp_path / "labels.csv"
    table.write_text("slide,label,patient\ns1,a,p\ns2,a,p\ns3,b,q\ns4,a,q\n")
    with pytest.raises(InputError) as caught:
        read_label_table(table, spec)
    assert caught.value.problems == ("the slides of patient 'q' have different labels: s3 b, s4 a",)
    table.write_text("slide,label\ns1,a\ns2,b\n")
    with pytest.raises(InputError, match="belong to patients, and there is no column of patients"):
        read_label_table(table, spec)
    table.write_text("slide,label,patient,split\ns1,a,p,train\ns2,a,p,test\n")
    with pytest.raises(InputError, match="'p' have different roles: s1 train, s2 test"):
        read_label_table(table, spec)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('unit = "patients"', "unit: there is none called 'patients'; did you mean patient?"),
        ('group = "centre"\nunit = "patient"', 'unit: it is "patient", and the groups are not'),
    ],
)
def test_a_unit_that_cannot_be_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_card(card(tmp_path, f"{FLAT}{text}\n"))
    assert any(problem in line for line in caught.value.problems)
