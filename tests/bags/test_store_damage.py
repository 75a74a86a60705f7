"""Stores that changed on disk, or that something else has written."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from test_store import some_bags, write

from mil_bench.bags.store import BagStore
from mil_bench.cli import main
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK = 512


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of five bags."""
    write(tmp_path / "toy.h5", some_bags())
    return tmp_path / "toy.h5"


def refusal(path: Path) -> str:
    """Why a store is refused when it is opened and its rows are verified."""
    with pytest.raises(InputError) as caught:
        BagStore(path).verify()
    return str(caught.value)


def column(path: Path, name: str) -> tuple[int, int]:
    with h5py.File(path) as file:
        return file[name].id.get_offset(), file[name].nbytes


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 64
    path.write_bytes(raw)


def test_a_whole_store_is_verified(path: Path) -> None:
    store = BagStore(path)
    store.verify()
    assert [store.damaged(i) for i in range(5)] == [()] * 5


@pytest.mark.parametrize(
    ("name", "row_bytes"), [("features", 24), ("coords", 16), ("instance_labels", 2)]
)
@pytest.mark.parametrize(("row", "slide"), [(0, "000"), (3, "001"), (4, "002"), (16, "004")])
def test_a_flipped_bit_of_a_row_names_its_slide(
    path: Path, name: str, row_bytes: int, row: int, slide: str
) -> None:
    flip(path, column(path, name)[0] + row * row_bytes)
    assert f"toy.h5 is damaged: the {name} of slide '{slide}' changed on disk" in refusal(path)


def test_every_damaged_slide_is_named_once(path: Path) -> None:
    start, size = column(path, "features")
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(size))
    text = refusal(path)
    assert [text.count(f"slide '00{i}'") for i in range(5)] == [1] * 5


def test_no_zeroed_block_of_a_store_goes_unnoticed(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    for start in range(0, len(whole), BLOCK):
        block = whole[start : start + BLOCK]
        if not block.strip(b"\0"):
            continue
        path.write_bytes(whole[:start] + bytes(len(block)) + whole[start + BLOCK :])
        assert "toy.h5" in refusal(path), start


@pytest.mark.slow
def test_no_flipped_bit_outside_the_rows_goes_unnoticed(path: Path) -> None:
    whole = path.read_bytes()
    end = len(whole) - 200  # the seal
    for position in [*range(0, len(whole), 61), *range(end, len(whole) - 8)]:
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert "toy.h5" in refusal(path), position


def test_the_seal_is_the_only_part_that_older_stores_lack(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["sealed"]
    assert not path.read_bytes().endswith(b"MILSEAL1")
    BagStore(path).verify()


def unsealed(path: Path, change: Callable[[h5py.File], Any]) -> str:
    """Why a store that something else has changed is refused."""
    with h5py.File(path, "r+") as file:
        del file.attrs["sealed"]
        change(file)
    return refusal(path)


def replaced(name: str, values: Any, **storage: Any) -> Callable[[h5py.File], Any]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values, **storage)

    return change


def external(file: h5py.File) -> None:
    values = file["features"][:]
    del file["features"]
    file.create_dataset(
        "features", values.shape, values.dtype, external=[("rows.bin", 0, values.nbytes)]
    )


def linked(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = h5py.ExternalLink("other.h5", "labels")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((17, 6), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "features", (17, 6))
    del file["features"]
    file.create_virtual_dataset("features", layout)


def grouped(file: h5py.File) -> None:
    del file["offsets"]
    file.create_group("offsets")


def attribute(name: str, value: Any) -> Callable[[h5py.File], Any]:
    return lambda file: file.attrs.__setitem__(name, value)


TREE = {"fine": ["N", "PB", "IC"], "coarse": ["benign", "malignant"], "parent": [0, 0, 1]}
ROWS = np.ones((17, 6), np.float32)
IDS = ["000", "001", "002", "003", "004"]
TEXT = h5py.string_dtype()
MALFORMED = {
    "features in chunks": (replaced("features", ROWS, chunks=(1, 6)), "'features' in chunks"),
    "features in another file": (external, "'features' with its values in other files"),
    "virtual features": (virtual, "'features' with its values in other files"),
    "linked labels": (linked, "'labels', but not as a dataset of its own"),
    "a group for offsets": (grouped, "'offsets', but not as a dataset of its own"),
    "float64 features": (replaced("features", ROWS.astype(float)), "features of type float64"),
    "features as text": (replaced("features", ["a"] * 17, dtype=TEXT), "features of type"),
    "flat features": (replaced("features", ROWS.ravel()), "features of shape (102,)"),
    "no rows": (replaced("features", ROWS[:0]), "features of shape (0, 6)"),
    "no width": (replaced("features", ROWS[:, :0]), "features of shape (17, 0)"),
    "a scalar": (replaced("features", np.float32(1)), "features of shape ()"),
    "an empty dataset": (replaced("features", h5py.Empty("f")), "'features', but not as a dataset"),
    "more rows": (replaced("features", np.ones((18, 6), "f4")), "17 rows of coords and 18"),
    "offsets too far": (replaced("offsets", [0, 3, 4, 11, 13, 18]), "offsets that do not rise"),
    "offsets from 1": (replaced("offsets", [1, 3, 4, 11, 13, 17]), "offsets that do not rise"),
    "offsets that fall": (replaced("offsets", [0, 4, 3, 11, 13, 17]), "offsets that do not rise"),
    "an empty bag": (replaced("offsets", [0, 3, 3, 11, 13, 17]), "offsets that do not rise"),
    "negative offsets": (replaced("offsets", [0, -3, 4, 11, 13, 17]), "offsets that do not rise"),
    "huge offsets": (
        replaced("offsets", np.array([0, 3, 4, 11, 2**64 - 1, 17], np.uint64)),
        "offsets that",
    ),
    "offsets as numbers with points": (
        replaced("offsets", [0.0, 3, 4, 11, np.nan, 17]),
        "offsets of type float64",
    ),
    "one bag less": (replaced("offsets", [0, 3, 4, 11, 17]), "labels of type int16"),
    "no offsets": (replaced("offsets", np.zeros(0, int)), "offsets that do not rise"),
    "offsets in a table": (replaced("offsets", np.zeros((2, 3), int)), "offsets of type int64"),
    "a label outside": (replaced("labels", [0, 1, 2, 3, -1]), "labels [-1, 3]"),
    "labels as text": (replaced("labels", ["0"] * 5, dtype=TEXT), "labels of type object"),
    "labels with points": (replaced("labels", [0, np.nan, 1, 2, 0]), "labels of type float64"),
    "another label": (replaced("labels", [1, 1, 2, 0, 1]), "labels or digests are not those"),
    "sides below 0": (replaced("patch_sizes", [512.0, -1, 1, 1, 1]), "patch sizes that are not"),
    "endless sides": (replaced("patch_sizes", [np.inf] * 5), "patch sizes that are not"),
    "sides as text": (replaced("patch_sizes", ["512"] * 5, dtype=TEXT), "patch_sizes of type"),
    "slides as numbers": (replaced("slides", np.arange(5)), "slides of type int64"),
    "too few slides": (replaced("slides", IDS[:4], dtype=TEXT), "shape (4,) for 5 slides"),
    "a slide twice": (replaced("slides", [*IDS[:4], "000"], dtype=TEXT), "a slide without an id"),
    "a slide without id": (replaced("slides", [*IDS[:4], ""], dtype=TEXT), "a slide without an id"),
    "a long id": (
        replaced("slides", [*IDS[:4], "x" * 5000], dtype=TEXT),
        "are not those that were written",
    ),
    "bytes that are no text": (
        replaced("groups", np.array([b"\xff\xfe"] * 5, object), dtype=h5py.string_dtype("ascii")),
        "groups that are not UTF-8",
    ),
    "another id": (replaced("slides", [*IDS[:4], "\x1b[31m"], dtype=TEXT), "are not those that"),
    "unknown roles": (replaced("splits", ["fold 1"] * 5, dtype=TEXT), "roles of slides"),
    "digests as words": (replaced("coords_digests", ["x"] * 5, dtype=TEXT), "that are no digests"),
    "no digests": (lambda file: file.__delitem__("features_digests"), "no dataset 'features_dig"),
    "no format": (lambda file: file.attrs.__delitem__("format"), "is not a bag store of version 2"),
    "two versions": (attribute("version", [2, 3]), "is not a bag store of version 2"),
    "a version in words": (attribute("version", "two"), "is not a bag store of version 2"),
    "a number as name": (attribute("dataset", 7), "something else than text as its attribute"),
    "no origin": (lambda file: file.attrs.__delitem__("origin"), "has no attribute 'origin'"),
    "another name": (attribute("dataset", "other"), "are not those that were written"),
    "another digest": (attribute("digest", "0" * 16), "are not those that were written"),
    "no JSON": (attribute("hierarchy", "{"), "hierarchy that cannot be read"),
    "deep JSON": (attribute("hierarchy", "[" * 10_000), "hierarchy that cannot be read"),
    "a list as hierarchy": (attribute("hierarchy", "[1]"), "hierarchy that cannot be read"),
    "one class": (
        attribute("hierarchy", json.dumps({"fine": ["a"], "coarse": ["a"], "parent": [0]})),
        "hierarchy with an error: at least two fine classes",
    ),
    "classes as numbers": (
        attribute("hierarchy", json.dumps(TREE | {"fine": [1, 2, 3]})),
        "classes that have no name",
    ),
    "parents as text": (
        attribute("hierarchy", json.dumps(TREE | {"parent": ["0", "0", "1"]})),
        "parents are not whole numbers",
    ),
    "parents outside": (
        attribute("hierarchy", json.dumps(TREE | {"parent": [0, 0, 9]})),
        "parents [9] are outside",
    ),
}


@pytest.mark.parametrize(("change", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_store_is_refused_in_one_message(
    path: Path, change: Callable[[h5py.File], Any], problem: str, capsys: pytest.CaptureFixture
) -> None:
    text = unsealed(path, change)
    assert problem in text
    assert text.count("\n") == 2  # the file, the problem, what to do
    assert main(["data", "info", str(path)]) == 2
    assert problem in capsys.readouterr().err


DATASETS = (
    *("features", "coords", "instance_labels", "offsets", "labels", "patch_sizes"),
    *("slides", "groups", "splits", "centres"),
    *("features_digests", "coords_digests", "instance_labels_digests"),
)
VALUES = {
    "nothing": h5py.Empty("f4"),
    "one number": 7,
    "one text": "x",
    "whole numbers": np.arange(5),
    "numbers with points": np.array([0.5, np.nan, np.inf, -1, 0]),
    "truth values": np.ones(5, bool),
    "complex numbers": np.ones(5, complex),
    "big whole numbers": np.full(6, 2**63 - 1),
    "a table": np.zeros((5, 5)),
    "a cube": np.zeros((17, 6, 2), np.float32),
    "records": np.zeros(5, [("a", "i4"), ("b", "f4")]),
    "bytes": np.array([b"\xff\x00"] * 5),
    "void": np.void(b"abc"),
    "no rows": np.zeros(0),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", DATASETS)
def test_anything_in_place_of_a_dataset_is_one_message(path: Path, name: str, values: Any) -> None:
    assert unsealed(path, replaced(name, values)).count("\n") == 2


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(
    "name",
    ["format", "version", "dataset", "hierarchy", "origin", "group_name", "coords_unit", "digest"],
)
def test_anything_in_place_of_an_attribute_is_one_message(
    path: Path, name: str, values: Any
) -> None:
    if name in ("origin", "coords_unit") and isinstance(values, str):
        return  # what they say is not part of the digest
    assert unsealed(path, attribute(name, values)).count("\n") == 2


@pytest.mark.slow
def test_a_run_refuses_rows_that_changed_and_stores_nothing(tmp_path: Path) -> None:
    words = [
        *("run", "--methods", "mean-pool", "--dataset", "bracs-sim:slides=105,rows=12,width=16"),
        *("--preset", "quick", "--epochs", "1", "--no-tracking"),
    ]
    made = "import sys; from mil_bench.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", made, *words]
    elsewhere = ["--results", "elsewhere"]
    subprocess.run([*command, *elsewhere], cwd=tmp_path, check=True, capture_output=True)
    (store,) = (tmp_path / "data").iterdir()
    slide = BagStore(store).slides["slide"].iloc[0]
    flip(store, column(store, "features")[0])
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"the features of slide '{slide}' changed on disk" in ended.stderr
    assert not (tmp_path / "results" / "runs").exists()
