"""Inspecting data before they are trained on: what is said, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from feature_files import some_features, write_h5, write_label_table

from mil_bench.cli import main
from mil_bench.report.figures.bag_sizes import bag_size_histogram

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (3, 7, 20, 30, 31, 33, 40, 52)


class Study:
    """Eight slides with features, coordinates and labels, in a folder of their own."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture):
        self.root, self._capsys = root, capsys
        self.folder, self.sheet = root / "features", root / "labels.csv"
        self.labels = {f"s{i}": "N" if i % 2 else "IC" for i in range(len(ROWS))}
        for i, rows in enumerate(ROWS):
            self.write(f"s{i}", some_features(rows, 16, seed=i))
        write_label_table(self.sheet, self.labels)

    def write(
        self,
        slide: str,
        features: np.ndarray,
        coords: np.ndarray | None = None,
        encoder: str = "uni",
    ) -> None:
        coords = np.arange(2 * len(features)).reshape(-1, 2) if coords is None else coords
        write_h5(self.folder / f"{slide}.h5", features, coords, encoder, 512)

    def call(self, *words: str) -> tuple[int, str, str]:
        code = main(["data", *words])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def check(self, *words: str) -> tuple[int, str]:
        """Check the folder with its labels, or something else."""
        target = words or (str(self.folder), "--dataset", "bracs", "--labels", str(self.sheet))
        code, output, errors = self.call(
            "inspect", *target, "--results", str(self.root / "results")
        )
        assert errors == ""
        return code, output

    def pack(self) -> None:
        words = (
            "--dataset",
            "bracs",
            "--labels",
            str(self.sheet),
            "--data",
            str(self.root / "data"),
            "--workers",
            "1",
        )
        assert self.call("pack", str(self.folder), *words)[0] == 0


@pytest.fixture
def study(tmp_path: Path, capsys: pytest.CaptureFixture) -> Study:
    return Study(tmp_path, capsys)


def test_good_data_get_counts_beside_the_cards_a_histogram_and_a_picture(study: Study) -> None:
    code, output = study.check()
    assert code == 0
    assert "8 bags, 216 instances, 16 features" in output
    assert "No errors were found." in output
    assert "Notes" not in output
    assert [line.split() for line in output.splitlines() if line.startswith("  IC")] == [
        ["IC", "4", "132"]
    ]
    assert "Instances per bag: 3 to 52, median 30.5" in output
    picture = study.root / "results" / "inspection" / "features-bag-sizes.png"
    assert f"Figure: {picture}" in output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_packed_dataset_is_checked_like_its_folder(study: Study) -> None:
    study.pack()
    code, output = study.check("bracs", "--data", str(study.root / "data"))
    assert code == 0
    assert [line.split() for line in output.splitlines() if line.startswith("  IC")] == [
        ["IC", "4", "132"]
    ]
    assert study.check(str(study.root / "data" / "bracs.h5"))[0] == 0


def with_nan(study: Study) -> None:
    features = some_features(7, 16, seed=1)
    features[2, 3] = np.nan
    study.write("s1", features)


def with_copy(study: Study) -> None:
    study.write("s1", some_features(20, 16, seed=2))


def with_near_copy(study: Study) -> None:
    study.write("s1", some_features(20, 16, seed=2)[::-1].astype(np.float16).astype(np.float32))


def with_leak(study: Study) -> None:
    study.labels = {f"s{i}": "N" if i % 2 else "IC" for i in range(30)}
    for i in range(30):
        features = some_features(10, 16, seed=i)
        features[:, 9] = i % 2
        study.write(f"s{i}", features)
    write_label_table(study.sheet, study.labels)


def with_unlabelled(study: Study) -> None:
    write_label_table(
        study.sheet,
        {slide: label for slide, label in study.labels.items() if slide != "s3"} | {"S3": "N"},
    )


def with_two_encoders(study: Study) -> None:
    study.write("s1", some_features(7, 16, seed=1), encoder="conch")


def with_text(study: Study) -> None:
    (study.folder / "s1.h5").write_text("no features")


def cut_short(study: Study) -> None:
    path = study.folder / "s7.h5"
    with h5py.File(path, "w") as file:  # its shape can be read, its end cannot
        file["features"], file["coords"] = some_features(3000, 16), np.zeros((3000, 2))
        file["features"].attrs["encoder"] = "uni"
    path.write_bytes(path.read_bytes()[:50_000])


def without_a_file(study: Study) -> None:
    (study.folder / "s5.h5").unlink()


WRONG = {
    "NaN": (with_nan, "1 bag (s1) holds NaN or infinite values."),
    "a copy with another label": (with_copy, "Equal features, different labels: s1 (N), s2 (IC)."),
    "a rounded copy with another label": (
        with_near_copy,
        "Almost equal features, different labels: s1 in s2 (100%).",
    ),
    "a column that is the label": (with_leak, "Feature column 9 (counted from 0) is the label"),
    "a label without a slide": (
        with_unlabelled,
        "1 labelled slide has no features: S3; --allow-missing leaves such slides out.",
    ),
    "a labelled slide without features": (
        without_a_file,
        "1 labelled slide has no features: s5; --allow-missing leaves such slides out.",
    ),
    "two encoders": (with_two_encoders, "Encoders differ: uni in 7 files, conch in 1 file."),
    "two widths": (
        lambda s: s.write("s1", some_features(7, 8)),
        "Feature widths differ: 8 in 1 bag (s1); 16 in 7 bags",
    ),
    "two number types": (
        lambda s: s.write("s1", some_features(7, 16, "float16")),
        "Number types differ: float16, float32.",
    ),
    "a bag without features": (
        lambda s: s.write("s1", np.zeros((3, 0), np.float32)),
        "1 bag (s1) has instances without features.",
    ),
    "a text file": (with_text, "s1.h5 is in no known format"),
    "a file that is cut short": (cut_short, "s7.h5 "),
    "NaN among coordinates": (
        lambda s: s.write("s1", some_features(7, 16), np.full((7, 2), np.nan)),
        "1 bag (s1 (coordinates)) holds NaN",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_with_exit_code_1(study: Study, spoil, said: str) -> None:
    spoil(study)
    code, output = study.check()
    assert code == 1
    wrong = output[output.index("Errors:") :]
    assert said in wrong.partition("Notes:")[0]


def same_label_copy(study: Study) -> None:
    study.write("s0", some_features(20, 16, seed=2))


def with_dead_columns(study: Study) -> None:
    for i, rows in enumerate(ROWS):
        features = some_features(rows, 16, seed=i)
        features[:, 3], features[:, 5] = 0, 1.5
        study.write(f"s{i}", features)


def with_age(study: Study) -> None:
    for i, rows in enumerate(ROWS):
        features = some_features(rows, 16, seed=i)
        features[:, 3] = (40, 60, 41, 33, 77, 40, 41, 61)[i]
        study.write(f"s{i}", features)


NOTED = {
    "a copy with the same label": (same_label_copy, "Equal features: s0, s2."),
    "a part of another bag": (
        lambda s: s.write("s0", some_features(30, 16, seed=3)[:12]),
        "1 pair of bags has at least half of their rows in common, 1 of them in different groups, "
        "which a split can separate: s0 in s3 (100%).",
    ),
    "a slide without a label": (
        lambda s: write_label_table(s.sheet, {k: v for k, v in s.labels.items() if k != "s3"}),
        "1 slide is not in the label table: s3.",
    ),
    "a dead column": (with_dead_columns, "Always zero: 1 feature column (3) of 16."),
    "a constant column": (with_dead_columns, "Always the same value: 1 feature column (5) of 16."),
    "one value a bag": (
        with_age,
        "Constant within every bag, so probably slide-level metadata: 1 feature column (3).",
    ),
    "a bag of one instance": (
        lambda s: s.write("s1", some_features(1, 16)),
        "1 of 8 bags has a single instance.",
    ),
    "a slide without instances": (
        lambda s: s.write("s1", np.zeros((0, 16), np.float32)),
        "1 bag (s1) has no instances; packing leaves such slides out.",
    ),
    "instances in one place": (
        lambda s: s.write("s1", some_features(7, 16), np.zeros((7, 2))),
        "1 bag (s1) has several instances at the same coordinates.",
    ),
}


@pytest.mark.parametrize(("change", "said"), NOTED.values(), ids=NOTED.keys())
def test_what_is_worth_knowing_is_said_with_exit_code_0(study: Study, change, said: str) -> None:
    change(study)
    code, output = study.check()
    assert code == 0
    assert said in output[output.index("Notes:") :]


def test_another_label_in_the_sheet_than_in_the_store_is_wrong(study: Study) -> None:
    study.pack()
    write_label_table(study.sheet, study.labels | {"s2": "PB"})
    store = str(study.root / "data" / "bracs.h5")
    code, output = study.check(store, "--dataset", "bracs", "--labels", str(study.sheet))
    assert code == 1
    assert "1 slide has a different label in the label table: s2 (IC, PB in the table)." in output


def test_the_published_leak_is_found_and_clean_classic_data_pass(
    study: Study, shared: Path
) -> None:
    classic = shared / "data" / "classic"
    code, output = study.check(str(classic / "LEAKY_musk1_rgmil_167.npz"))
    assert code == 1
    assert "Feature column 166 (counted from 0) is the label" in output
    for name in ("musk1", "tiger"):
        code, output = study.check(str(classic / f"{name}.npz"))
        assert code == 0
        assert "No errors were found." in output


def test_a_folder_without_labels_is_checked_without_them(study: Study) -> None:
    code, output = study.check(str(study.folder))
    assert code == 0
    assert "Labels are unknown: give --dataset and --labels" in output


NPZ = {
    "no array 'labels'": {"features": np.zeros((3, 2)), "offsets": np.array([0, 3])},
    "features are int64 of shape (3, 2)": {
        "features": np.zeros((3, 2), int),
        "offsets": np.array([0, 3]),
        "labels": np.array([1]),
    },
    "offsets do not rise from 0 to 3": {
        "features": np.zeros((3, 2)),
        "offsets": np.array([0, 2]),
        "labels": np.array([1]),
    },
    "2 labels for 1 bags": {
        "features": np.zeros((3, 2)),
        "offsets": np.array([0, 3]),
        "labels": np.array([1, 0]),
    },
    "labels are float64": {
        "features": np.zeros((3, 2)),
        "offsets": np.array([0, 3]),
        "labels": np.array([1.0]),
    },
    "cannot be read as arrays": {
        "features": np.array([[None]]),
        "offsets": np.array([0, 1]),
        "labels": np.array([0]),
    },
}


@pytest.mark.parametrize(("said", "arrays"), NPZ.items(), ids=NPZ.keys())
def test_a_malformed_bag_file_is_bad_input(
    study: Study, said: str, arrays: dict[str, np.ndarray]
) -> None:
    np.savez(study.root / "bags.npz", **arrays)
    code, output, errors = study.call("inspect", str(study.root / "bags.npz"))
    assert (code, output) == (2, "")
    assert f"bags.npz: {said}" in errors or f"bags.npz {said}" in errors
    assert "Give an .npz with features [N, D]" in errors


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut"])
def test_a_bag_file_that_is_no_archive_is_bad_input(study: Study, content: bytes) -> None:
    (study.root / "bags.npz").write_bytes(content)
    code, _, errors = study.call("inspect", str(study.root / "bags.npz"))
    assert code == 2
    assert "bags.npz cannot be read as arrays" in errors


def test_targets_that_cannot_be_checked_are_bad_input(study: Study) -> None:
    for words, said in {
        ("brcs",): "There is no dataset 'brcs'. Did you mean bracs",
        (
            str(study.folder),
            "--labels",
            str(study.sheet),
        ): "Name the dataset's card too: --dataset NAME or CARD.toml.",
        (str(study.sheet),): "cannot be read as a bag store",
        ("bracs", "--data", str(study.root)): "bracs: no features are packed",
    }.items():
        code, output, errors = study.call("inspect", *words)
        assert (code, output) == (2, ""), errors
        assert said in errors


def test_info_says_what_is_packed(study: Study) -> None:
    study.sheet.write_text("slide,label,patient,split,centre\n")
    with study.sheet.open("a") as file:
        for i, (slide, label) in enumerate(study.labels.items()):
            file.write(
                f"{slide},{label},p{i // 2},{'train' if i else 'test'},"
                f"{'Lyon' if i < 3 else 'Bern'}\n"
            )
    assert "16 features; 4 patients\n" in study.check()[1]
    study.pack()
    code, output, _ = study.call("info", "bracs", "--data", str(study.root / "data"))
    facts = {line.partition(":")[0]: line.partition(":")[2].strip() for line in output.splitlines()}
    assert code == 0
    assert facts["features"] == "16 of type float32, TRIDENT .h5, uni"
    assert facts["slides"] == "8"
    assert facts["instances"] == "216; 3 to 52 per bag, median 30.5"
    assert facts["coordinates"] == "level-0 pixels"
    assert facts["patch sizes"] == "512 (8 slides)"
    assert facts["classes"] == "N 4, PB 0, UDH 0, FEA 0, ADH 0, DCIS 0, IC 4"
    assert facts["patients"] == "4"
    assert facts["centres"] == "Bern 5, Lyon 3"
    assert facts["own split"] == "train 7, test 1"
    assert facts["witnesses"] == "none"
    assert len(facts["digest"]) == 16
    assert study.call("info", str(study.root / "data" / "bracs.h5"))[1] == output


def test_packing_says_what_it_packed_and_what_comes_next(study: Study) -> None:
    (study.folder / "s5.h5").unlink()
    words = (
        "--dataset",
        "bracs",
        "--labels",
        str(study.sheet),
        "--data",
        str(study.root / "data"),
        "--workers",
        "1",
    )
    assert study.call("pack", str(study.folder), *words)[0] == 2
    code, output, _ = study.call("pack", str(study.folder), *words, "--allow-missing")
    assert code == 0
    assert "7 slides, 183 instances, 16 features (7 TRIDENT .h5)" in output
    assert "  IC: 4 slides (57.1%, on the card 24.1%)" in output
    assert "1 labelled slide has no feature file: s5" in output
    assert "mil-bench data inspect bracs" in output


def test_no_workers_is_bad_input(study: Study) -> None:
    words = ("--dataset", "bracs", "--labels", str(study.sheet), "--workers", "0")
    code, _, errors = study.call("pack", str(study.folder), *words)
    assert code == 2
    assert "0 is less than 1" in errors


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1], [1, 100_000]])
def test_bags_of_any_sizes_can_be_drawn(tmp_path: Path, sizes: list[int]) -> None:
    bag_size_histogram(np.array(sizes), "a study", tmp_path / "deep" / "picture.png")
    assert (tmp_path / "deep" / "picture.png").read_bytes().startswith(b"\x89PNG")
