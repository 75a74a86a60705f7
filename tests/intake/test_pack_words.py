"""What packing and inspecting print: which file, what to do, what is left out, what is next."""

from __future__ import annotations

import csv
import json
import os
import shlex
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from feature_files import (
    some_features,
    write_h5,
    write_label_table,
    write_npy,
    write_pt,
    write_stamp,
)

from mil_bench.bags.store import BagStore
from mil_bench.cli import main
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

CARD = 'name = "study"\nlabels = ["a", "b"]\nfolds = 2\n'
SLIDES = [f"{i:03d}" for i in range(8)]


class Desk:
    """A user's folder with a card and a sheet of eight slides of eight patients."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture):
        self.root, self._capsys = root, capsys
        Path("cards").mkdir()
        Path("cards/study.toml").write_text(CARD)
        self.label(SLIDES)

    def label(self, slides: list[str]) -> None:
        write_label_table(
            Path("labels.csv"), {slide: "ab"[i % 2] for i, slide in enumerate(slides)}
        )

    def call(self, *words: str) -> tuple[int, str, str]:
        code = main(list(words))
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def pack(self, folder: str = "features", *words: str) -> tuple[int, str, str]:
        command = [
            "data",
            "pack",
            folder,
            "--dataset",
            "cards/study.toml",
            "--labels",
            "labels.csv",
            "--workers",
            "1",
        ]
        return self.call(*command, *words)

    def check(self, folder: str = "features") -> tuple[int, str, str]:
        return self.call(
            "data", "inspect", folder, "--dataset", "cards/study.toml", "--labels", "labels.csv"
        )


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIL_BENCH_DATA", raising=False)
    return Desk(tmp_path, capsys)


def write_all(folder: str, names: list[str] = SLIDES) -> None:
    for i, name in enumerate(names):
        write_h5(
            Path(folder) / f"{name}.h5", some_features(6, 8, seed=i), np.arange(12).reshape(6, 2)
        )


@pytest.mark.parametrize("data", [(), ("--data", "my data")], ids=["usual folder", "own folder"])
def test_the_commands_that_packing_prints_work_as_they_stand(
    desk: Desk, data: tuple[str, ...]
) -> None:
    write_all("features")
    code, output, _ = desk.pack("features", *data)
    assert code == 0
    printed = {
        line.partition(":")[0]: shlex.split(line.partition(":")[2])
        for line in output.splitlines()[-2:]
    }
    assert printed["Inspect"][0] == printed["Run"][0] == "mil-bench"
    code, output, errors = desk.call(*printed["Inspect"][1:])
    assert (code, errors) == (0, "")
    assert "8 bags, 48 instances, 8 features" in output
    few = (
        "--methods",
        "mean-pool",
        "--epochs",
        "1",
        "--no-tracking",
        "--workers",
        "1",
        "--dry-run",
    )
    assert desk.call(*printed["Run"][1:], *few)[0] == 0


def bad_coords(root: Path) -> None:
    write_npy(root / "coords" / "000.npy", np.zeros((3, 2)))


def bad_patch_labels(root: Path) -> None:
    write_npy(root / "patch_labels" / "000.npy", np.full(6, 7))


def bad_features(root: Path) -> None:
    write_npy(root / "features" / "000.npy", some_features(6, 8, "int64"))


TORCHMIL = {
    "coordinates": (
        bad_coords,
        "  - study/coords/000.npy has 6 instances but coordinates of shape (3, 2)\n",
    ),
    "labels of patches": (
        bad_patch_labels,
        "  - study/patch_labels/000.npy has labels of patches other than 0 and 1\n",
    ),
    "features": (
        bad_features,
        "  - study/features/000.npy has features of type int64, expected float16, float32 or "
        "float64. "
        "Save the features as float32.\n",
    ),
}


def write_torchmil(root: Path, without_labels: int = 0) -> None:
    for i, slide in enumerate(SLIDES):
        write_npy(root / "features" / f"{slide}.npy", some_features(6, 8, seed=i))
        write_npy(root / "coords" / f"{slide}.npy", np.arange(12).reshape(6, 2))
        if i >= without_labels:
            write_npy(root / "patch_labels" / f"{slide}.npy", np.zeros(6, np.int64))


@pytest.mark.parametrize(("spoil", "said"), TORCHMIL.values(), ids=TORCHMIL.keys())
def test_the_file_that_is_wrong_is_the_one_that_is_named(
    desk: Desk, spoil: Callable, said: str
) -> None:
    write_torchmil(Path("study"))
    spoil(Path("study"))
    code, _, errors = desk.pack("study")
    assert code == 2
    assert errors.startswith("mil-bench: packing study: 1 problem\n")
    assert said in errors
    assert not Path("data").exists()
    found = said.strip().removeprefix("- ")
    code, output, _ = desk.check("study")
    assert code == 1
    assert found in output


def test_files_of_one_name_are_told_apart(desk: Desk) -> None:
    write_all("features/A", ["001", "002"])
    write_all("features/B", ["001", "003"])
    desk.label(["A/001", "B/001", "002", "003"])
    assert desk.pack()[0] == 0
    Path("data/study.h5").unlink()
    write_h5(Path("features/B/001.h5"), some_features(3, 8, "int64"))
    assert "  - features/B/001.h5 has features of type int64" in desk.pack()[2]
    write_h5(Path("features/B/001.h5"), np.full((3, 8), np.nan, np.float32), np.zeros((3, 2)))
    assert "  - features/B/001.h5: 3 of 3 instances hold NaN" in desk.pack()[2]


def test_a_damaged_list_of_clams_patches_is_named_with_its_folder(desk: Desk) -> None:
    write_all("clam/h5_files")
    write_h5(Path("clam/patches/000.h5"), some_features())  # its coordinates are missing
    assert "  - clam/patches/000.h5 has no dataset 'coords'" in desk.pack("clam")[2]


def test_what_to_do_with_a_table_is_not_lost_in_packing(desk: Desk) -> None:
    write_all("features")
    Path("labels.csv").write_text("name,label\n000,a\n")
    errors = desk.pack()[2]
    assert "no slide column; looked for" in errors
    assert "Rename the column in a copy of the table, or name it on a card" in errors
    write_h5(Path("features/features_x/a.h5"), some_features())
    write_h5(Path("two/features_x/a.h5"), some_features())
    write_h5(Path("two/features_y/a.h5"), some_features())
    assert "Sets of features are not mixed: name one of these folders." in desk.pack("two")[2]


EMPTY = {
    "(0, D)": np.zeros((0, 8), np.float32),
    "(0,)": np.zeros(0, np.float32),
    "(1, 0, D)": np.zeros((1, 0, 8), np.float32),
    "another width": np.zeros((0, 5), np.float32),
    "another type": np.zeros((0, 8), np.float64),
}


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY.keys())
@pytest.mark.parametrize(
    "coords", [None, np.zeros((0, 2)), np.zeros(0)], ids=["no coords", "(0, 2)", "(0,)"]
)
def test_slides_without_instances_are_left_out_and_named(
    desk: Desk, empty: np.ndarray, coords: np.ndarray
) -> None:
    write_all("features")
    for slide in ("001", "004", "005"):
        write_h5(Path("features") / f"{slide}.h5", empty, coords)
    code, output, _ = desk.check()
    assert code == 0
    assert "3 bags (001, 004, 005) have no instances; packing leaves such slides out." in output
    code, output, _ = desk.pack()
    assert code == 0
    assert "3 slides have no instances and are left out: 001, 004, 005\n" in output
    assert "no feature file" not in output
    store = BagStore(Path("data/study.h5"))
    assert store.slides["slide"].tolist() == ["000", "002", "003", "006", "007"]
    assert store.coords is not None


@pytest.mark.parametrize("kind", ["npy", "pt", "stamp"])
def test_every_format_may_have_slides_without_instances(desk: Desk, kind: str) -> None:
    for i, slide in enumerate(SLIDES):
        features = some_features(6 if i else 0, 8, seed=i)
        if kind == "npy":
            write_npy(Path("features") / f"{slide}.npy", features)
        elif kind == "pt":
            write_pt(Path("features") / f"{slide}.pt", torch.from_numpy(features))
        else:
            write_stamp(
                Path("features") / f"{slide}.h5",
                features,
                np.zeros((len(features), 2), "f4"),
                unit="um",
            )
    code, output, errors = desk.pack()
    assert code == 0, errors
    assert "7 slides, 42 instances, 8 features" in output
    assert "1 slide has no instances and is left out: 000\n" in output


def test_no_instances_at_all_is_an_error(desk: Desk) -> None:
    for slide in SLIDES:
        write_h5(Path("features") / f"{slide}.h5", np.zeros((0, 8), np.float32))
    code, _, errors = desk.pack()
    assert code == 2
    assert "features: none of its 8 readable slides has any instances" in errors
    code, output, _ = desk.check()
    assert code == 1
    assert (
        "8 bags (000, 001, 002, 003, 004 and 3 more) have no instances; no bag has any." in output
    )


STAMP = [f"site{'AB'[i % 2]}/{slide}" for i, slide in enumerate(SLIDES)]


@pytest.mark.parametrize("ending", ["", ".h5"])
def test_stamps_slide_table_fits_its_folders(desk: Desk, ending: str) -> None:
    write_all("stamp/uni-0a1b2c3d", STAMP)
    lines = [f"P{i},{path}{ending},{'ab'[i % 2]}" for i, path in enumerate(STAMP)]
    Path("labels.csv").write_text("\n".join(["PATIENT,FILENAME,label", *lines]))
    code, output, _ = desk.check("stamp")
    assert code == 0
    assert "No errors were found." in output
    code, _, errors = desk.pack("stamp")
    assert code == 0, errors
    store = BagStore(Path("data/study.h5"))
    assert sorted(store.slides["slide"]) == sorted(STAMP)
    assert store.group_name == "patient"


def test_a_file_that_fits_two_slides_of_the_table_is_refused(desk: Desk) -> None:
    write_all("stamp/uni-0a1b2c3d", STAMP)
    desk.label([*SLIDES, "siteA/000"])
    said = (
        "stamp/uni-0a1b2c3d/siteA/000.h5 matches two slides of the label table, "
        "'000' and 'siteA/000'"
    )
    code, _, errors = desk.pack("stamp")
    assert code == 2
    assert f"  - {said}" in errors
    code, output, _ = desk.check("stamp")
    assert code == 1
    assert said in output


def test_torchmil_bags_without_labels_of_patches_are_told_of(desk: Desk) -> None:
    write_torchmil(Path("study"), without_labels=1)
    said = "1 of 8 files have no labels of their instances"
    assert f"{said}; packing then drops those of all files." in desk.check("study")[1]
    code, output, _ = desk.pack("study")
    assert code == 0
    assert f"{said}, so the store has none.\n" in output
    assert BagStore(Path("data/study.h5")).instance_labels is None


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_accented_letters_are_one_in_files_and_tables(desk: Desk, form: str) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    names = [f"Möller-{i}" for i in range(8)]
    write_all("features", [unicodedata.normalize(form, name) for name in names])
    desk.label([unicodedata.normalize(other, name) for name in names])
    assert desk.pack()[0] == 0
    store = BagStore(Path("data/study.h5"))
    assert store.slides["slide"].tolist() == [unicodedata.normalize("NFC", name) for name in names]


def test_patients_of_accented_letters_are_one_however_they_are_written(desk: Desk) -> None:
    write_all("features")
    forms = [unicodedata.normalize(("NFC", "NFD")[i % 2], f"Möller-{i // 2}") for i in range(8)]
    lines = [
        f"{slide},{'ab'[i % 2]},{form}"
        for i, (slide, form) in enumerate(zip(SLIDES, forms, strict=True))
    ]
    Path("labels.csv").write_text("\n".join(["slide,label,patient", *lines]), encoding="utf-8")
    assert desk.pack()[0] == 0
    assert BagStore(Path("data/study.h5")).slides["group"].nunique() == 4


def test_what_a_terminal_would_obey_or_hide_is_shown_escaped(desk: Desk) -> None:
    red = "\x1b[31mred"
    write_all("features", [*SLIDES, red])
    desk.label([*SLIDES, "new\x9bline"])
    code, _, errors = desk.pack()
    assert code == 2
    assert "labels.csv: slide 'new\\x9bline': no feature file" in errors
    code, output, _ = desk.check()
    assert code == 1
    assert "1 slide is not in the label table: \\x1b[31mred." in output
    assert "no features: new\\x9bline" in output
    code, output, _ = desk.pack("features", "--allow-missing")
    assert code == 0
    assert "1 slide has no label in this table" in output
    assert "leaves them out): \\x1b[31mred\n" in output
    assert "1 labelled slide has no feature file: new\\x9bline\n" in output


def test_a_name_that_is_no_text_can_be_shown(desk: Desk) -> None:
    write_all("features")
    Path("features/000.h5").rename(os.fsdecode(b"features/\xff.h5"))
    code, _, errors = desk.pack()
    assert code == 2
    assert "features/\\udcff.h5: its name is not text in UTF-8; rename it" in errors
    assert "slide '000': no feature file" in errors


def test_a_line_break_in_a_name_makes_no_line_of_its_own() -> None:
    error = InputError("packing features", ["a\n  - b.h5: slide 'a\n' has no label"], "Correct it.")
    assert str(error).splitlines()[1:] == [
        "  - a\\n  - b.h5: slide 'a\\n' has no label",
        "Correct it.",
    ]


def test_thousands_of_problems_are_shown_as_fifty_and_kept_as_all() -> None:
    error = InputError(
        "label table l.csv", [f"line {i}: label {i}" for i in range(3000)], "Correct these places."
    )
    lines = str(error).splitlines()
    assert lines[0] == "label table l.csv: 3,000 problems"
    assert lines[50] == "  - line 49: label 49"
    assert lines[51:] == ["  ... and 2,950 more", "Correct these places."]
    assert len(error.problems) == 3000


@pytest.mark.parametrize("name", ["bags.npz", "study.h5"])
def test_a_pipe_is_not_waited_for_by_a_check(desk: Desk, name: str) -> None:
    os.mkfifo(name)
    code, _, errors = desk.call("data", "inspect", name)
    assert code == 2
    assert f"{name} is not a file (a pipe or a device)" in errors


def test_a_pipe_in_place_of_the_label_table_is_not_waited_for(desk: Desk) -> None:
    write_all("features")
    Path("labels.csv").unlink()
    os.mkfifo("labels.csv")
    assert "labels.csv: it is not a regular file" in desk.pack()[2]


def test_bag_ids_that_stand_twice_are_wrong(desk: Desk) -> None:
    arrays = {
        "features": some_features(6, 3),
        "offsets": np.array([0, 2, 4, 6]),
        "labels": np.array([0, 1, 0]),
    }
    np.savez("bags.npz", **arrays, bag_ids=np.array(["a", "b", "a"]))
    code, output, _ = desk.call("data", "inspect", "bags.npz")
    assert code == 1
    assert "bag_ids: 1 id names several bags: a." in output
    np.savez("bags.npz", **arrays, bag_ids=np.array(["a", "b", "c"]))
    assert desk.call("data", "inspect", "bags.npz")[0] == 0


NAMES = ("[/nos] [x]", "a\x1b[31mred", "\u202eltr", "$x_$", "=1+1")


def test_names_of_classes_are_shown_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    quoted = ", ".join(json.dumps(name) for name in NAMES)
    Path("study.toml").write_text(f'name = "study"\nlabels = [{quoted}]\n', encoding="utf-8")
    with Path("labels.csv").open("w", encoding="utf-8") as file:
        rows = [(f"s{i}", name) for i, name in enumerate(NAMES)]
        csv.writer(file).writerows([("slide", "label"), *rows])
    for i in range(len(NAMES)):
        write_h5(Path(f"features/s{i}.h5"), some_features(seed=i))
    table = ("--dataset", "study.toml", "--labels", "labels.csv")
    commands = [
        ["data", "card", "study.toml"],
        ["data", "pack", "features", *table, "--workers", "1"],
        ["data", "info", "study.toml"],
        ["data", "inspect", "features", *table],
    ]
    for command in commands:
        assert main(command) == 0
        text = capsys.readouterr().out
        for shown in ("[/nos] [x]", "a\\x1b[31mred", "\\u202eltr", "$x_$", "=1+1"):
            assert shown in text, command
        assert "\x1b" not in text
        assert "\u202e" not in text
