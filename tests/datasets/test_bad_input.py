"""Malformed input: refused by name, with a remedy, before anything is left on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from feature_files import some_features, unwatched, write_h5, write_label_table, write_pt
from mil_bench.benchmarks.bracs import BRACS, BRACS_SIM

from mil_bench.errors import InputError
from mil_bench.intake.pack import pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Study:
    """Two good slides of CLAM's layout, s1 and s2, with a sheet that labels them."""

    def __init__(self, root: Path):
        self.folder, self.sheet, self.data = root / "features", root / "labels.csv", root / "data"
        self.data.mkdir()
        self.sentinel = root / "code-ran"
        for i, slide in enumerate(("s1", "s2")):
            write_h5(
                self.folder / f"{slide}.h5", some_features(5, 4, seed=i), np.zeros((5, 2), np.int32)
            )
        self.label({"s1": "N", "s2": "IC"})

    def label(self, label_of: dict[str, str]) -> None:
        write_label_table(self.sheet, label_of)

    def pack(self) -> None:
        pack(self.folder, BRACS, self.sheet, self.data, unwatched)

    def refused(self, *fragments: str) -> InputError:
        """Packing is refused with these words and a remedy, and the data folder stays as it was."""
        before = {path: path.read_bytes() for path in self.data.rglob("*")}
        with pytest.raises(InputError) as caught:
            self.pack()
        assert {path: path.read_bytes() for path in self.data.rglob("*")} == before
        return has_remedy(caught.value, *fragments)


def has_remedy(error: InputError, *fragments: str) -> InputError:
    for fragment in fragments:
        assert fragment in str(error)
    assert error.problems
    remedy = str(error).splitlines()[-1]
    assert not remedy.startswith("  - ")
    assert remedy.endswith(".")
    return error


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def with_value(value: float, dtype: str = "float32") -> np.ndarray:
    features = some_features(5, 4, dtype)
    features[3, 2] = value
    return features


def cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])


def add_h5(features: object, **more: object) -> Callable[[Study], object]:
    return lambda study: write_h5(study.folder / "s3.h5", features, **more)


def add_pt(value: object, archive: bool = True) -> Callable[[Study], object]:
    return lambda study: write_pt(study.folder / "s3.pt", value, archive)


def add_bytes(name: str, content: bytes) -> Callable[[Study], object]:
    return lambda study: (study.folder / name).write_bytes(content)


def add_cut(write: Callable[[Study], object]) -> Callable[[Study], object]:
    return lambda study: cut(write(study))


def add_without_features(study: Study) -> None:
    with h5py.File(study.folder / "s3.h5", "w") as file:
        file["embedding"] = some_features()


def name_encoders(study: Study) -> None:
    for slide, encoder in (("s1", "uni"), ("s2", "conch")):
        write_h5(study.folder / f"{slide}.h5", some_features(), np.zeros((5, 2)), encoder, 512)


def name_one_encoder(study: Study) -> None:
    write_h5(study.folder / "s1.h5", some_features(), np.zeros((5, 2)), "uni", 512)


def remove_folder(study: Study) -> None:
    study.folder = study.folder.with_name("absent")


def empty_folder(study: Study) -> None:
    for path in study.folder.iterdir():
        path.unlink()
    (study.folder / "notes.txt").write_text("no features here")


TEXT = b"slide,label\na,N\n"
FOLDER_CASES = {
    "a label without a slide": (
        lambda s: s.label({"s1": "N", "S2": "IC", "s9": "N"}),
        [
            "slide 'S2': no feature file; the folder has 's2', in other upper and lower case",
            "slide 's9': no feature file; --allow-missing leaves such slides out",
        ],
    ),
    "the same slide as .h5 and .pt": (
        lambda s: write_pt(s.folder / "s2.pt", torch.from_numpy(some_features())),
        ["s2.pt and ", "s2.h5 are the same slide"],
    ),
    "the same slide in another case": (
        lambda s: write_pt(s.folder / "S2.pt", torch.from_numpy(some_features())),
        ["s2.h5 and ", "S2.pt are the same slide"],
    ),
    "no instances at all": (
        lambda s: [write_h5(s.folder / f"s{i}.h5", np.zeros((0, 4), np.float32)) for i in (1, 2)],
        ["features: none of its 2 readable slides has any instances"],
    ),
    "NaN": (add_h5(with_value(np.nan)), ["s3.h5: 1 of 5 instances hold NaN or infinite features"]),
    "NaN in half precision": (
        lambda s: [write_h5(s.folder / f"s{i}.h5", with_value(np.nan, "float16")) for i in (1, 2)],
        ["s1.h5: 1 of 5 instances hold NaN", "s2.h5: 1 of 5 instances hold NaN"],
    ),
    "NaN in a .pt": (
        add_pt(torch.from_numpy(with_value(np.nan))),
        ["s3.pt: 1 of 5 instances hold NaN"],
    ),
    "infinity": (
        add_h5(with_value(np.inf)),
        ["s3.h5: 1 of 5 instances hold NaN or infinite features"],
    ),
    "minus infinity": (
        add_h5(with_value(-np.inf)),
        ["s3.h5: 1 of 5 instances hold NaN or infinite features"],
    ),
    "two feature widths": (
        add_h5(some_features(5, 6)),
        ["several feature widths", "4 in 2 files such as ", "s1.h5, but 6 in ", "s3.h5"],
    ),
    "float16 mixed with float32": (
        add_h5(some_features(5, 4, "float16")),
        ["several number types", "float32 in 2 files such as ", "s1.h5, but float16 in ", "s3.h5"],
    ),
    "two encoders": (
        name_encoders,
        ["several encoders", "uni in 1 file such as ", "s1.h5, but conch in ", "s2.h5"],
    ),
    "one encoder named and one not": (
        name_one_encoder,
        ["several encoders", "uni in 1 file such as ", "s1.h5, but unnamed in ", "s2.h5"],
    ),
    "whole numbers in an .h5": (
        add_h5(np.zeros((5, 4), np.int32)),
        ["s3.h5 has features of type int32"],
    ),
    "an integer tensor": (
        add_pt(torch.zeros(5, 4, dtype=torch.int64)),
        ["s3.pt has features of type int64"],
    ),
    "a complex tensor": (
        add_pt(torch.zeros(5, 4, dtype=torch.complex64)),
        ["s3.pt has features of type complex64"],
    ),
    "a truncated .h5": (
        add_cut(add_h5(some_features(50, 4))),
        ["s3.h5 cannot be opened as HDF5", "cut short"],
    ),
    "a truncated .pt": (
        add_cut(add_pt(torch.zeros(50, 4))),
        ["s3.pt cannot be read as a torch file", "cut short"],
    ),
    "a .pt with a dict": (
        add_pt({"x": torch.zeros(5, 4)}),
        ["s3.pt holds a dict, expected exactly one of 'features'"],
    ),
    "a .pt with a list": (add_pt([torch.zeros(5, 4)]), ["s3.pt holds a list, expected one tensor"]),
    "a .pt with a NumPy array of objects": (
        add_pt(np.array([[{}]], dtype=object)),
        ["s3.pt holds more than tensors, so it was not opened"],
    ),
    "a 1-D tensor": (
        add_pt(torch.zeros(5)),
        ["s3.pt holds a tensor of shape (5,), expected (instances, width)"],
    ),
    "a 3-D tensor": (add_pt(torch.zeros(2, 5, 4)), ["s3.pt holds a tensor of shape (2, 5, 4)"]),
    "a 1-D dataset": (
        add_h5(np.zeros(5, np.float32)),
        ["s3.h5 has 'features' of shape (5,), expected (instances, width)"],
    ),
    "an empty file": (add_bytes("s3.h5", b""), ["s3.h5 is empty"]),
    "an empty .pt": (add_bytes("s3.pt", b""), ["s3.pt is empty"]),
    "a text file called .h5": (
        add_bytes("s3.h5", TEXT),
        ["s3.h5 is in no known format"],
    ),
    "a text file called .pt": (
        add_bytes("s3.pt", TEXT),
        ["s3.pt is in no known format"],
    ),
    "a zip that torch did not write": (
        add_bytes("s3.pt", b"PK\x03\x04" + TEXT),
        ["s3.pt cannot be read as a torch"],
    ),
    "an HDF5 without features": (
        add_without_features,
        ["s3.h5 has no dataset 'features'", "it holds: embedding"],
    ),
    "coordinates of another length": (
        add_h5(some_features(), coords=np.zeros((4, 2), np.int64)),
        ["s3.h5 has 5 instances but coordinates of shape (4, 2)"],
    ),
    "a missing folder": (remove_folder, ["absent", "there is no such folder"]),
    "a folder without feature files": (
        empty_folder,
        ["features", "no .h5, .hdf5, .npy, .pt, .pth file in it"],
    ),
}


@pytest.mark.parametrize(("spoil", "fragments"), FOLDER_CASES.values(), ids=FOLDER_CASES.keys())
def test_packing_refuses(
    study: Study, spoil: Callable[[Study], object], fragments: list[str]
) -> None:
    spoil(study)
    study.refused(*fragments)


def test_the_study_is_good_before_it_is_spoiled(study: Study) -> None:
    study.pack()
    assert [path.name for path in study.data.rglob("*")] == ["bracs.h5"]


class RunsCode:
    """Writes a file when it is unpickled."""

    def __init__(self, sentinel: Path):
        self._sentinel = sentinel

    def __reduce__(self) -> tuple:
        return exec, (f"open({str(self._sentinel)!r}, 'w').close()",)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "older form"])
@pytest.mark.parametrize("hidden", [True, False], ids=["beside a tensor", "alone"])
def test_code_in_a_pt_file_is_refused_and_does_not_run(
    study: Study, archive: bool, hidden: bool
) -> None:
    bomb = RunsCode(study.sentinel)
    path = write_pt(
        study.folder / "s3.pt",
        {"features": torch.zeros(5, 4), "extra": bomb} if hidden else bomb,
        archive,
    )
    torch.load(path, weights_only=False)
    assert study.sentinel.exists()  # an unguarded load runs it
    study.sentinel.unlink()
    study.refused(
        "s3.pt holds more than tensors, so it was not opened: unpickling it could run code"
    )
    assert not study.sentinel.exists()


def test_packing_onto_an_existing_store_is_refused(study: Study) -> None:
    study.pack()
    assert (study.data / "bracs.h5").is_file()
    study.refused(
        f"{study.data / 'bracs.h5'} exists; results refer to it, so it is not replaced", "--data"
    )


def test_a_generated_dataset_is_not_packed(study: Study) -> None:
    with pytest.raises(InputError) as caught:
        pack(study.folder, BRACS_SIM, study.sheet, study.data, unwatched)
    has_remedy(caught.value, "bracs-sim", "it is generated")
    assert list(study.data.rglob("*")) == []


def test_five_problems_of_the_files_come_in_one_error(study: Study) -> None:
    write_h5(study.folder / "narrow.h5", np.zeros((3, 0), np.float32))
    write_pt(study.folder / "flat.pt", torch.zeros(5))
    write_h5(study.folder / "s3.h5", some_features(5, 6))
    (study.folder / "text.h5").write_bytes(TEXT)
    write_pt(study.folder / "s1.pt", torch.zeros(5, 4))
    study.label({"s1": "N", "s3": "PB", "narrow": "N", "flat": "N", "s9": "N"})
    error = study.refused(
        "6 problems",
        "slide 's9': no feature file",
        "s1.pt and ",
        "narrow.h5: its 3 instances have no features",
        "flat.pt holds a tensor of shape (5,)",
        "text.h5 is in no known format",
        "several feature widths: 4 in 3 files such as ",
    )
    assert len(error.problems) == 6


def test_five_problems_of_the_values_come_in_one_error(study: Study) -> None:
    write_h5(study.folder / "s1.h5", with_value(np.nan))
    write_h5(study.folder / "s2.h5", with_value(np.inf), np.zeros((5, 2)))
    write_h5(study.folder / "s3.h5", some_features(), np.zeros((6, 2)))
    write_h5(study.folder / "s4.h5", some_features(), np.zeros((5, 3)))
    write_pt(study.folder / "s5.pt", torch.full((5, 4), torch.nan))
    study.label({f"s{i}": "N" for i in range(1, 6)})
    error = study.refused(
        "s1.h5: 1 of 5 instances hold NaN",
        "s2.h5: 1 of 5 instances hold NaN or infinite",
        "s3.h5 has 5 instances but coordinates of shape (6, 2)",
        "s4.h5 has 5 instances but coordinates of shape (5, 3)",
        "s5.pt: 5 of 5 instances hold NaN",
    )
    assert len(error.problems) == 5


def test_five_problems_of_the_sheet_come_in_one_error(study: Study) -> None:
    write_h5(study.folder / "s3.h5", some_features())
    study.sheet.write_text(
        "slide,label,split\ns1,N,train\ns1,IC,train\n,N,val\ns2,cancer,test\ns3,PB,holdout\ns4,,train\n"
    )
    error = study.refused(
        "line 3, slide 's1': already in line 2",
        "line 4: empty slide id",
        "line 5, slide 's2': label 'cancer'",
        "line 6, slide 's3': role 'holdout'",
        "line 7, slide 's4': no label",
    )
    assert len(error.problems) == 5


def test_one_unknown_class_in_many_rows_is_one_line(study: Study) -> None:
    study.label({f"s{i}": "cancer" for i in range(45)})
    error = study.refused("45 problems", "(45 times: line 2, slide 's0'; line 3, slide 's1'; ")
    assert len(error.problems) == 45
    assert len(str(error).splitlines()) == 1 + 1 + 1


def test_different_problems_are_told_one_by_one(study: Study) -> None:
    study.label({f"s{i}": f"cancer {i}" for i in range(45)})
    error = study.refused("45 problems", "line 46, slide 's44'")
    assert len(str(error).splitlines()) == 1 + 45 + 1


def test_a_faulty_sheet_does_not_hide_a_label_without_a_slide(study: Study) -> None:
    study.sheet.write_text(study.sheet.read_text() + "s8,N\ns9,Benign\n")
    error = study.refused("label 'Benign'", "slide 's8': no feature file")
    assert "slide 's9': no feature file" not in str(error)  # its label comes first


def test_features_of_no_width_are_refused(study: Study) -> None:
    write_h5(study.folder / "s3.h5", np.zeros((3, 0), dtype=np.float32))
    study.refused("s3.h5: its 3 instances have no features")


def test_problems_of_sheet_shape_and_values_are_listed_together(study: Study) -> None:
    study.sheet.write_text(study.sheet.read_text() + "s9,Benign\n")
    write_h5(study.folder / "s8.h5", np.full((3, 4), np.nan, dtype=np.float32))
    (study.folder / "s7.h5").write_text("not a feature file")
    study.refused(
        "label 'Benign'",
        "s8.h5: 3 of 3 instances hold NaN",
        "s7.h5 is in no known format",
    )
