"""Splits on the command line: made, imported, exported, audited, and followed by a run."""

from __future__ import annotations

import csv
import html
import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALL_TWIN
from split_folders import FOLDS, GROUP_OF, LABEL_OF, SLIDES, write_clam, write_transmil

import mil_bench
from mil_bench.cli import main
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.datasets.slides import known_slides
from mil_bench.split_files.formats.own import follow_file, read_split_file
from mil_bench.splits.plan import Fold


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def twin_slides(place: Path) -> pd.DataFrame:
    return open_store(find_dataset(SMALL_TWIN), place / "data").slides


def leaking_folds(place: Path) -> tuple[Fold, ...]:
    """Two hold-outs by slide; test and training share some patients."""
    ids = list(twin_slides(place)["slide"])[1:]
    return tuple(
        Fold(tuple(ids[:k] + ids[k + 40 :]), tuple(ids[k : k + 20]), tuple(ids[k + 20 : k + 40]))
        for k in (0, 10)
    )


def imported(place: Path, capsys: pytest.CaptureFixture) -> str:
    write_clam(place / "theirs", leaking_folds(place))
    assert call(capsys, "splits", "import", "theirs", "--dataset", SMALL_TWIN, "mine.json")[0] == 0
    return read_split_file(place / "mine.json").digest


def test_the_protocols_are_listed_with_what_they_promise(capsys: pytest.CaptureFixture) -> None:
    code, out, _ = call(capsys, "splits", "protocols")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["patient-kfold", "official", "paper", "leave-one-centre-out"]
    assert "training, validation and test share no patient" in out


@pytest.mark.parametrize("action", ["make", "import", "export", "audit"])
def test_every_action_explains_itself(action: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["splits", action, "--help"])
    assert "--labels TABLE" in capsys.readouterr().out


def test_a_split_that_was_made_is_followed_with_the_digest_of_the_protocol(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    code, out, _ = call(
        capsys, "splits", "make", "--dataset", SMALL_TWIN, "--folds", "3", "mine.json"
    )
    assert code == 0
    assert "patient-kfold, made from the packed store bracs-sim-" in out
    assert "No test slide shares a patient with training slides." in out
    digest = read_split_file(place / "mine.json").digest
    dry = ("run", "--methods", "mean-pool", "--dataset", SMALL_TWIN, "--dry-run")
    _, by_file, _ = call(capsys, *dry, "--splits", "mine.json")
    _, by_name, _ = call(capsys, *dry, "--folds", "3")
    assert f"split {digest}; no patient is shared between training" in by_file
    assert f"split {digest}; no patient is shared between training" in by_name
    assert (
        by_file.splitlines()[0] == by_name.splitlines()[0]
    )  # the same jobs: what one has trained, the other finds


def test_a_split_is_made_from_a_label_sheet_alone(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    labels_of_the_twin(place).to_csv("labels.csv", index=False)
    words = (
        "splits",
        "make",
        "--dataset",
        "bracs",
        "--protocol",
        "paper",
        "--labels",
        "labels.csv",
        "mine.json",
    )
    assert call(capsys, *words)[0] == 0
    file = read_split_file(place / "mine.json")
    assert (file.dataset, file.protocol, len(file.folds)) == ("bracs", "paper", 10)
    assert (
        file.source == "drawn anew by HMIL's rule, not its published lists; "
        "made from the label table labels.csv"
    )
    code, _, error = call(capsys, "splits", "make", "--dataset", "bracs", "other.json")
    assert code == 2
    assert "there is no label table, and data has no features of bracs" in error


@pytest.mark.slow
def test_every_table_made_on_leaking_splits_says_so_with_protocol_source_and_digest(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    digest = imported(place, capsys)
    words = (
        "run",
        "--methods",
        "mean-pool",
        "--dataset",
        SMALL_TWIN,
        "--splits",
        "mine.json",
        "--epochs",
        "1",
    )
    code, shown, _ = call(capsys, *words, "--no-tracking", "--on", "inline")
    assert code == 0
    folder = next((place / "results" / "reports").iterdir())
    assert "_imported_" in folder.name
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert {Path(name).suffix for name in texts} >= {".md", ".csv", ".tex"}
    result = mil_bench.run(
        "mean-pool",
        SMALL_TWIN,
        splits="mine.json",
        epochs=1,
        tracking=False,
        progress=False,
        on="inline",
    )
    texts["notebook"] = result._repr_html_()
    tables = len(result.tables)
    assert texts["tables.tex"].count(digest) == tables
    assert texts["report.md"].count(digest) == 1  # what holds for all tables is said once
    texts["terminal"] = " ".join(shown.split())
    for name, text in texts.items():
        plain = html.unescape(text).replace("\\", "")
        assert (
            "Protocol: imported (CLAM's split tables in theirs, 2 Monte-Carlo hold-outs)" in plain
        ), name
        assert f"split {digest}; LEAKS: " in plain, name
        assert "share a patient with training or validation" in plain, name
        assert "1 of 120 slides are in no fold" in plain, name
    stored = call(capsys, "report", folder.name)[1]
    assert f"split {digest}; LEAKS: " in " ".join(stored.split())


def test_a_run_does_not_mix_a_split_file_with_a_protocol(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    imported(place, capsys)
    words = (
        "run",
        "--dataset",
        SMALL_TWIN,
        "--splits",
        "mine.json",
        "--folds",
        "2",
        "--protocol",
        "paper",
    )
    code, _, error = call(capsys, *words)
    assert code == 2
    assert "protocol is given, but the split file says what it is" in error
    assert "folds is given, but the split file says what it is" in error


@pytest.mark.parametrize(
    ("dataset", "name", "message"),
    [
        ("digits", "mine.json", "it is a split of bracs-sim-twin, not of digits"),
        (SMALL_TWIN, "absent.json", "cannot be read: No such file or directory"),
        (SMALL_TWIN, "theirs/splits_0.csv", "Import the splits of other tools first"),
        (
            "bracs-sim:slides=110,rows=12,width=16",
            "mine.json",
            "slides are not in the packed store",
        ),
    ],
)
def test_a_run_refuses_a_split_file_that_does_not_fit(
    dataset: str, name: str, message: str, place: Path, capsys: pytest.CaptureFixture
) -> None:
    imported(place, capsys)
    code, out, error = call(
        capsys, "run", "--methods", "mean-pool", "--dataset", dataset, "--splits", name
    )
    assert (code, out) == (2, "")
    assert message in error
    assert not (place / "results").exists()


def test_an_audit_exits_with_1_where_groups_leak_unless_they_are_allowed_by_name(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    imported(place, capsys)
    for path in ("theirs", "mine.json"):
        code, out, error = call(capsys, "splits", "audit", path, "--dataset", SMALL_TWIN)
        assert code == 1
        assert "of 40 test slides (" in out
        assert "share a patient with training slides" in out
        assert error.startswith("mil-bench: test shares patients with training or validation")
    allowed = ("splits", "audit", "mine.json", "--dataset", SMALL_TWIN, "--allow-leaks")
    assert call(capsys, *allowed, "patient")[0] == 0
    code, _, error = call(capsys, *allowed, "patients")
    assert code == 2
    assert "--allow-leaks patients, but the groups of this split are called 'patient'" in error


def test_an_audit_of_slides_that_nobody_knows_exits_with_1(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    folds = [
        Fold(*(tuple(f"{slide}.0" for slide in part) for part in (fold.train, fold.val, fold.test)))
        for fold in leaking_folds(place)
    ]
    write_clam(place / "theirs", tuple(folds))
    code, out, error = call(capsys, "splits", "audit", "theirs", "--dataset", SMALL_TWIN)
    assert code == 1
    assert "FAULT: no listed slide is known: 119 of 119 slides are not in the packed store" in out
    assert "patient" not in out.replace("Labels and patients", "")
    assert error == "mil-bench: the lists cannot be followed (see FAULT): exit code 1\n"


def test_a_run_follows_a_split_without_the_slides_that_have_no_features(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    imported(place, capsys)
    fewer = "bracs-sim:slides=110,rows=12,width=16"
    words = ("run", "--methods", "mean-pool", "--dataset", fewer, "--splits", "mine.json")
    code, _, error = call(capsys, *words, "--dry-run")
    assert code == 2
    assert "Add --allow-missing to leave out slides that are not there." in error
    code, out, _ = call(capsys, *words, "--dry-run", "--allow-missing")
    assert code == 0
    assert "of the 119 slides of the split file are not in the packed store" in out


def test_an_audit_of_a_split_made_on_the_fly(place: Path, capsys: pytest.CaptureFixture) -> None:
    words = ("splits", "audit", "--dataset", SMALL_TWIN, "--protocol")
    code, out, _ = call(capsys, *words, "patient-kfold", "--folds", "3")
    assert code == 0
    assert "3-fold cross-validation: each of the 120 slides is tested exactly once." in out
    assert out.index("cross-validation") < out.index("Slides per fold")
    assert out.index("Slides per fold") < out.index("Slides per class")
    assert call(capsys, *words, "paper")[0] == 1


def test_an_audit_as_json_is_nothing_but_json(place: Path, capsys: pytest.CaptureFixture) -> None:
    imported(place, capsys)
    code, out, _ = call(capsys, "splits", "audit", "mine.json", "--dataset", SMALL_TWIN, "--json")
    assert code == 1
    value = json.loads(out)
    assert value["leaks"] == ["patient"]
    counted, named = (value["overlaps"][0][key] for key in ("groups", "grouped_slides"))
    assert counted == list(map(len, named))
    assert set(named[0]) <= set(leaking_folds(place)[0].test)
    assert value["kind"] == "2 Monte-Carlo hold-outs"
    assert len(value["unlisted"]) == 1


def labels_of_the_twin(place: Path, blank: int = 0) -> pd.DataFrame:
    """The twin's label table; the first ``blank`` slides have no patient."""
    slides = twin_slides(place)
    fine = find_dataset(SMALL_TWIN).hierarchy.fine
    sheet = pd.DataFrame({"slide": slides["slide"], "label": [fine[c] for c in slides["label"]]})
    return sheet.assign(
        patient=["" if i < blank else group for i, group in enumerate(slides["group"])]
    )


def test_one_blank_patient_does_not_switch_off_the_search_for_leaks(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    write_clam(place / "theirs", leaking_folds(place))
    labels_of_the_twin(place, blank=2).to_csv("labels.csv", index=False)
    words = ("--dataset", "bracs", "--labels", "labels.csv")
    code, out, error = call(capsys, "splits", "audit", "theirs", *words)
    assert (code, error) == (
        1,
        "mil-bench: test shares patients with training or validation: exit code 1\n",
    )
    blind = (
        "slide has no patient: each counts as a patient of its own, so leaks among them cannot be "
        "detected"
    )
    assert f"1 {blind}." in out  # the other one is in no fold
    assert call(capsys, "splits", "import", "theirs", *words, "mine.json")[0] == 0
    known = known_slides(find_dataset("bracs"), place / "labels.csv", place)
    assert follow_file(place / "mine.json", find_dataset("bracs"), known).facts == (
        "1 of 120 slides are in no fold",
        f"1 {blind}",
    )


def test_an_audit_exits_with_1_where_training_lists_are_missing(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    folds = [Fold((), fold.val, fold.test) for fold in leaking_folds(place)[:1]]
    write_clam(place / "theirs", tuple(folds))
    words = ("splits", "audit", "theirs", "--dataset", SMALL_TWIN, "--allow-leaks", "patient")
    code, out, error = call(capsys, *words)
    assert code == 1
    assert "FAULT: fold 0 lists no train slides." in out
    assert "shares a patient with training slides" not in out
    assert "share a patient with training slides" not in out
    assert error == "mil-bench: the lists cannot be followed (see FAULT): exit code 1\n"


def test_an_import_warns_of_labels_that_contradict_the_metadata(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    write_transmil(place / "theirs", FOLDS)
    frame = pd.DataFrame(
        {
            "slide": SLIDES,
            "label": [LABEL_OF[s] for s in SLIDES],
            "patient": [GROUP_OF[s] for s in SLIDES],
        }
    )
    frame.loc[0, "label"] = "wild"
    frame.to_csv("labels.csv", index=False)
    Path("study.toml").write_text('name = "study"\nlabels = ["calm", "wild"]\n')
    words = (
        "splits",
        "import",
        "theirs",
        "--dataset",
        "study.toml",
        "--labels",
        "labels.csv",
        "--data",
        "my data",
    )
    code, out, error = call(capsys, *words, "mine.json")
    assert code == 0
    assert error.startswith(
        "mil-bench: warning: CONFLICTS: in the files, 1 of 24 labelled slides (4.2 %) have a label"
    )
    assert error.endswith(
        "s00 (calm; metadata: wild). These labels are numbers, read as positions in the order of "
        "the classes. Runs use the metadata.\n"
    )
    assert out.splitlines()[2].startswith("- CONFLICTS: in the files, 1 of 24")
    assert (
        "- Near-duplicate bags were not searched for; mil-bench splits audit does it once features "
        "are packed." in out
    )
    assert (
        "Run:  mil-bench run --methods all --dataset study.toml --data 'my data' --splits mine.json"
        in out
    )


def test_a_split_of_packed_features_says_how_near_duplicates_are_looked_for(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    twin_slides(place)
    _, out, _ = call(capsys, "splits", "make", "--dataset", SMALL_TWIN, "--folds", "3", "mine.json")
    command = f"mil-bench splits audit mine.json --dataset {SMALL_TWIN}"
    hint = f"- Near-duplicate bags were not searched for; to search for them, run {command}"
    assert hint in out.splitlines()


def test_an_audit_without_metadata_says_what_it_cannot_see(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    imported(place, capsys)
    code, out, _ = call(capsys, "splits", "audit", "theirs")
    assert code == 0
    assert "patients are unknown, so their leaks cannot be counted" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audit"], "name either a PATH, or --dataset and --protocol"),
        (["audit", "mine.json", "--folds", "3"], "name either a PATH, or"),
        (
            ["audit", "mine.json", "--dataset", "digits", "--protocol", "paper"],
            "name either a PATH, or",
        ),
        (["audit", "mine.json", "--labels", "a.csv"], "no --dataset is named"),
        (["audit", "--protocol", "paper"], "no --dataset is named"),
        (["audit", "absent"], "splits absent: 1 problem"),
        (
            ["make", "--dataset", SMALL_TWIN, "--protocol", "official", "o.json"],
            "has no protocol 'official'",
        ),
        (
            ["make", "--dataset", SMALL_TWIN, "--folds", "2", "mine.json"],
            "exists already, with another content",
        ),
        (
            ["import", "theirs", "--dataset", "digits", "o.json"],
            "119 of 119 slides are not in the packed store",
        ),
        (
            ["export", "mine.json", "--dataset", SMALL_TWIN, "--to", "clam", "theirs"],
            "splits_0.csv exists already",
        ),
        (
            ["export", "mine.json", "--dataset", "bracs", "--to", "clam", "new"],
            "Give --labels TABLE.",
        ),
    ],
)
def test_bad_input_gets_one_message_and_exit_code_2(
    words: list[str], message: str, place: Path, capsys: pytest.CaptureFixture
) -> None:
    imported(place, capsys)
    before = {path: path.read_bytes() for path in place.rglob("*.[cj]s*") if path.is_file()}
    code, out, error = call(capsys, "splits", *words)
    assert (code, out) == (2, "")
    assert error.startswith("mil-bench: ")
    assert message in error
    assert {path: path.read_bytes() for path in place.rglob("*.[cj]s*") if path.is_file()} == before


@pytest.mark.parametrize("form", ["clam", "patho-bench"])
def test_an_export_imported_again_is_the_same_split(
    form: str, place: Path, capsys: pytest.CaptureFixture
) -> None:
    digest = imported(place, capsys)
    assert (
        call(capsys, "splits", "export", "mine.json", "--dataset", SMALL_TWIN, "--to", form, "out")[
            0
        ]
        == 0
    )
    assert call(capsys, "splits", "import", "out", "--dataset", SMALL_TWIN, "again.json")[0] == 0
    assert read_split_file(place / "again.json").digest == digest
    if form == "patho-bench":
        with (place / "out" / "k=all.tsv").open(newline="") as file:
            assert next(csv.reader(file, delimiter="\t")) == [
                "case_id",
                "slide_id",
                "bracs-sim",
                "fold_0",
                "fold_1",
            ]
