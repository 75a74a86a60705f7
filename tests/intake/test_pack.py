"""Packing: files of the real tools become one store, bit for bit."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from feature_files import some_features, unwatched, write_h5, write_label_table, write_pt
from mil_bench.benchmarks.bracs import BRACS

from mil_bench.bags.bag import Slide
from mil_bench.bags.store import BagStore
from mil_bench.datasets.catalogue import open_store
from mil_bench.errors import InputError
from mil_bench.intake import row_packing
from mil_bench.intake.pack import Packed, pack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

REAL_LABELS = {"ucsb_benign_mosaic": "N", "ucsb_malignant_mosaic": "IC"}


def fixture_folder(shared: Path, name: str) -> Path:
    folder = shared / "data" / "fixtures" / name
    if not folder.is_dir():
        pytest.skip(f"the folder with real files {name} is not there")
    return folder


def pack_real(folder: Path, tmp_path: Path) -> Packed:
    labels = write_label_table(tmp_path / "labels.csv", REAL_LABELS)
    return pack(folder, BRACS, labels, tmp_path / "data", unwatched)


def raw_h5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(path) as file:
        return file["features"][:], file["coords"][:]


def assert_holds(store: BagStore, slide: str, features: np.ndarray) -> None:
    (index,) = store.index_of((slide,))
    bag = store.bag(index)
    label = BRACS.hierarchy.fine.index(REAL_LABELS[slide])
    assert bag.slide == Slide(slide, label, f"patient of {slide}")
    assert bag.features.dtype == features.dtype
    assert bag.features.shape == features.shape
    assert bag.features.tobytes() == features.tobytes()


def test_real_clam_h5_files_come_back_exactly(shared: Path, tmp_path: Path) -> None:
    folder = fixture_folder(shared, "clam/h5_files")
    packed = pack_real(folder, tmp_path)
    store = BagStore(tmp_path / "data" / "bracs.h5")
    assert packed.store.digest == store.digest
    assert packed.formats == Counter({"CLAM .h5": 2})
    assert packed.without_features == ()
    assert (len(store), store.coords_unit, store.group_name) == (2, "level-0 pixels", "patient")
    for slide in REAL_LABELS:
        features, coords = raw_h5(folder / f"{slide}.h5")
        assert_holds(store, slide, features)
        bag = store.bag(store.index_of((slide,))[0])
        assert np.array_equal(bag.coords, coords)
        assert bag.patch_size == 256.0  # from CLAM's patches/ beside


def test_real_clam_pt_files_come_back_exactly(shared: Path, tmp_path: Path) -> None:
    folder = fixture_folder(shared, "clam/pt_files")
    packed = pack_real(folder, tmp_path)
    assert packed.formats == Counter({"CLAM .pt": 2})
    assert packed.store.coords is None
    for slide in REAL_LABELS:
        assert_holds(
            packed.store, slide, torch.load(folder / f"{slide}.pt", weights_only=True).numpy()
        )


def test_clams_parent_folder_gives_its_h5_files(shared: Path, tmp_path: Path) -> None:
    folder = fixture_folder(shared, "clam")
    packed = pack_real(folder, tmp_path)
    assert packed.formats == Counter({"CLAM .h5": 2})
    for slide in REAL_LABELS:
        features, coords = raw_h5(folder / "h5_files" / f"{slide}.h5")
        assert_holds(packed.store, slide, features)
        assert np.array_equal(packed.store.bag(packed.store.index_of((slide,))[0]).coords, coords)


def test_real_trident_files_come_back_exactly(shared: Path, tmp_path: Path) -> None:
    folder = fixture_folder(shared, "trident/features_resnet50")
    packed = pack_real(folder, tmp_path)
    assert packed.formats == Counter({"TRIDENT .h5": 2})
    assert packed.store.origin == "TRIDENT .h5, resnet50_random_init"
    for slide in REAL_LABELS:
        features, coords = raw_h5(folder / f"{slide}.h5")
        assert_holds(packed.store, slide, features)
        bag = packed.store.bag(packed.store.index_of((slide,))[0])
        assert np.array_equal(bag.coords, coords)
        assert bag.patch_size == 512.0


def test_clams_two_kinds_of_file_give_the_same_features(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = pack_real(fixture_folder(shared, "clam/h5_files"), tmp_path / "one").store
    two = pack_real(fixture_folder(shared, "clam/pt_files"), tmp_path / "two").store
    assert one.features.tobytes() == two.features.tobytes()


def test_a_parent_folder_without_h5_files_gives_its_pt_files(tmp_path: Path) -> None:
    features = some_features()
    write_pt(tmp_path / "clam" / "pt_files" / "a.pt", torch.from_numpy(features))
    packed = pack(
        tmp_path / "clam",
        BRACS,
        write_label_table(tmp_path / "l.csv", {"a": "N"}),
        tmp_path / "data",
        unwatched,
    )
    assert packed.formats == Counter({"CLAM .pt": 1})
    assert np.array_equal(packed.store.bag(0).features, features)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three slides, of which one has a single instance."""
    for i, (slide, rows) in enumerate({"001": 3, "002": 1, "x.y": 6}.items()):
        coords = np.arange(2 * rows).reshape(rows, 2) + i
        write_h5(
            tmp_path / "features" / f"{slide}.h5", some_features(rows, 4, "float16", i), coords
        )
    return tmp_path / "features"


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(
        "Slide_ID,Label,Patient,Set\n001,N,1,Training\n002,IC,1,Validation\nx.y,ADH,2,Testing\n"
    )
    return path


def test_ids_are_text_and_keep_zeros_and_dots(folder: Path, sheet: Path, tmp_path: Path) -> None:
    store = pack(folder, BRACS, sheet, tmp_path / "data", unwatched).store
    assert store.slides["slide"].tolist() == ["001", "002", "x.y"]
    assert store.slides["label"].tolist() == [0, 6, 4]
    assert store.slides["group"].tolist() == ["1", "1", "2"]
    assert store.slides["split"].tolist() == ["train", "val", "test"]
    assert store.slides["rows"].tolist() == [3, 1, 6]


def test_half_precision_stays_half_precision(folder: Path, sheet: Path, tmp_path: Path) -> None:
    store = pack(folder, BRACS, sheet, tmp_path / "data", unwatched).store
    assert store.dtype == np.dtype("float16")
    for i, rows in enumerate((3, 1, 6)):
        assert store.bag(i).features.tobytes() == some_features(rows, 4, "float16", i).tobytes()
        assert np.array_equal(store.bag(i).coords, np.arange(2 * rows).reshape(rows, 2) + i)


def test_the_packed_store_is_the_one_a_run_opens(folder: Path, sheet: Path, tmp_path: Path) -> None:
    packed = pack(folder, BRACS, sheet, tmp_path / "data", unwatched)
    assert open_store(BRACS, tmp_path / "data").digest == packed.store.digest
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["bracs.h5"]


def test_packing_the_same_files_elsewhere_gives_the_same_digest(
    folder: Path, sheet: Path, tmp_path: Path
) -> None:
    first = pack(folder, BRACS, sheet, tmp_path / "data", unwatched).store
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert pack(moved, BRACS, sheet, tmp_path / "other", unwatched).store.digest == first.digest


def test_labelled_slides_without_a_file_are_reported_if_that_is_allowed(
    folder: Path, tmp_path: Path
) -> None:
    labels = {"001": "N", "lost-1": "PB", "002": "IC", "x.y": "ADH", "lost-2": "IC"}
    table, data = write_label_table(tmp_path / "l.csv", labels), tmp_path / "data"
    with pytest.raises(InputError, match="slide 'lost-1': no feature file"):
        pack(folder, BRACS, table, data, unwatched)
    packed = pack(folder, BRACS, table, data, unwatched, allow_missing=True)
    assert packed.store.without_features == 2
    assert packed.without_features == ("lost-1", "lost-2")
    assert packed.store.slides["slide"].tolist() == ["001", "002", "x.y"]


def test_a_sheet_without_a_group_column_leaves_groups_unknown(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("slide,label\n001,N\n002,IC\nx.y,ADH\n")
    store = pack(folder, BRACS, tmp_path / "l.csv", tmp_path / "data", unwatched).store
    assert store.group_name == ""
    assert store.slides["group"].nunique() == 3


def test_every_pass_over_the_files_is_shown_with_its_length(
    folder: Path, sheet: Path, tmp_path: Path
) -> None:
    told = []

    def watch(items: Iterable, count: int, what: str) -> Iterable:
        items = list(items)
        told.append((what, count, len(items)))
        return items

    pack(folder, BRACS, sheet, tmp_path / "data", watch)
    assert told == [("opening the files", 3, 3), ("packing", 3, 3)]


def test_other_files_in_the_folder_are_left_alone(
    folder: Path, sheet: Path, tmp_path: Path
) -> None:
    (folder / "notes.txt").write_text("not a feature file")
    (folder / "config.json").write_text("{}")
    assert len(pack(folder, BRACS, sheet, tmp_path / "data", unwatched).store) == 3


def test_packing_does_not_change_the_features(folder: Path, sheet: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pack(folder, BRACS, sheet, tmp_path / "data", unwatched)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_store_without_all_coordinates_has_none(
    folder: Path, sheet: Path, tmp_path: Path
) -> None:
    write_h5(folder / "002.h5", some_features(1, 4, "float16"))
    store = pack(folder, BRACS, sheet, tmp_path / "data", unwatched).store
    assert (store.coords_unit, store.coords) == ("", None)


@pytest.mark.parametrize(
    "value", [np.nan, -np.nan, np.inf, -np.inf, 65504, -65504, 0.0, -0.0, 6e-8]
)
def test_half_precision_is_checked_as_all_other_numbers(value: float) -> None:
    values = np.zeros((3, 2), np.float16)
    values[1, 1] = value
    assert row_packing.all_finite(values) == np.isfinite(np.float16(value))
