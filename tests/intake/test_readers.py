"""Readers: files of the real tools and of users' scripts, read exactly as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from feature_files import some_features, write_h5, write_pt

from mil_bench.errors import InputError
from mil_bench.intake.readers import open_features

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("ucsb_benign_mosaic", "ucsb_malignant_mosaic")


def fixture_file(shared: Path, folder: str, name: str) -> Path:
    path = shared / "data" / "fixtures" / folder / name
    if not path.is_file():
        pytest.skip(f"the real file {folder}/{name} is not there")
    return path


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_real_clam_h5_file_is_read_as_h5py_reads_it(shared: Path, name: str) -> None:
    path = fixture_file(shared, "clam/h5_files", f"{name}.h5")
    with h5py.File(path) as raw:
        features, coords = raw["features"][:], raw["coords"][:]
    file, bag = open_features(path), open_features(path).read()
    assert (file.format, file.dtype, file.encoder, file.has_coords) == (
        "CLAM .h5",
        "float32",
        "",
        True,
    )
    assert (file.rows, file.width) == features.shape
    assert file.width == 1024
    assert_same_bits(bag.features, features)
    assert np.array_equal(bag.coords, coords)
    assert (bag.coords_unit, bag.patch_size) == ("level-0 pixels", 256.0)  # from patches/ beside


@pytest.mark.parametrize("name", NAMES)
def test_a_real_clam_pt_file_is_read_as_torch_reads_it(shared: Path, name: str) -> None:
    path = fixture_file(shared, "clam/pt_files", f"{name}.pt")
    features = torch.load(path, weights_only=True).numpy()
    file, bag = open_features(path), open_features(path).read()
    assert (file.format, file.dtype, file.encoder, file.has_coords) == (
        "CLAM .pt",
        "float32",
        "",
        False,
    )
    assert (file.rows, file.width) == features.shape
    assert_same_bits(bag.features, features)
    assert (bag.coords, bag.coords_unit, bag.patch_size) == (None, "", None)


@pytest.mark.parametrize("name", NAMES)
def test_clams_two_files_of_a_slide_hold_the_same_features(shared: Path, name: str) -> None:
    one = open_features(fixture_file(shared, "clam/h5_files", f"{name}.h5")).read()
    other = open_features(fixture_file(shared, "clam/pt_files", f"{name}.pt")).read()
    assert_same_bits(one.features, other.features)


@pytest.mark.parametrize("name", NAMES)
def test_a_real_trident_file_is_read_as_h5py_reads_it(shared: Path, name: str) -> None:
    path = fixture_file(shared, "trident/features_resnet50", f"{name}.h5")
    with h5py.File(path) as raw:
        features, coords = raw["features"][:], raw["coords"][:]
    file, bag = open_features(path), open_features(path).read()
    assert (file.format, file.dtype, file.encoder) == (
        "TRIDENT .h5",
        "float32",
        "resnet50_random_init",
    )
    assert (file.rows, file.width) == features.shape == (42, 1024)
    assert file.has_coords
    assert_same_bits(bag.features, features)
    assert np.array_equal(bag.coords, coords)
    assert (bag.coords_unit, bag.patch_size) == ("level-0 pixels", 512.0)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("leading", [False, True], ids=["plain", "leading axis"])
def test_an_h5_file_keeps_rows_and_type(
    tmp_path: Path, rows: int, dtype: str, leading: bool
) -> None:
    features, coords = (
        some_features(rows, 3, dtype),
        np.arange(2 * rows, dtype=np.int64).reshape(rows, 2),
    )
    given = (features[None], coords[None]) if leading else (features, coords)
    file = open_features(write_h5(tmp_path / "s.h5", *given, encoder="uni", patch_size=512))
    assert (file.rows, file.width, file.dtype) == (rows, 3, dtype)
    bag = file.read()
    assert_same_bits(bag.features, features)
    assert np.array_equal(bag.coords, coords)
    assert bag.patch_size == 512.0


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("leading", [False, True], ids=["plain", "leading axis"])
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "older form"])
def test_a_pt_file_keeps_rows_and_type(
    tmp_path: Path, rows: int, dtype: str, leading: bool, archive: bool
) -> None:
    features = some_features(rows, 3, dtype)
    tensor = torch.from_numpy(features[None] if leading else features)
    file = open_features(write_pt(tmp_path / "s.pt", tensor, archive))
    assert (file.rows, file.width, file.dtype) == (rows, 3, dtype)
    assert_same_bits(file.read().features, features)


@pytest.mark.parametrize("suffix", [".h5", ".pt"])
def test_a_bag_of_one_instance_of_width_one_is_not_squeezed_away(
    tmp_path: Path, suffix: str
) -> None:
    features = np.array([[2.5]], dtype=np.float32)
    path = tmp_path / f"s{suffix}"
    file = open_features(
        write_h5(path, features) if suffix == ".h5" else write_pt(path, torch.from_numpy(features))
    )
    assert (file.rows, file.width) == (1, 1)
    assert_same_bits(file.read().features, features)


@pytest.mark.parametrize(
    ("shape", "width"),
    [((0,), 0), ((0, 7), 7), ((1, 0, 7), 7)],
    ids=["(0,)", "(0, D)", "(1, 0, D)"],
)
def test_an_empty_h5_file_opens_with_no_rows(
    tmp_path: Path, shape: tuple[int, ...], width: int
) -> None:
    path = write_h5(
        tmp_path / "s.h5", np.zeros(shape, np.float32), np.zeros((0, 2), np.int64), "uni", 512
    )
    file = open_features(path)
    assert (file.rows, file.width) == (0, width)
    bag = file.read()
    assert bag.features.shape == (0, width)
    assert bag.coords.shape == (0, 2)


def test_an_empty_pt_file_opens_with_no_rows(tmp_path: Path) -> None:
    file = open_features(write_pt(tmp_path / "s.pt", torch.zeros(0, 7)))
    assert (file.rows, file.width) == (0, 7)
    assert file.read().features.shape == (0, 7)


def test_an_h5_file_without_coordinates_has_none(tmp_path: Path) -> None:
    file = open_features(write_h5(tmp_path / "s.h5", some_features()))
    assert not file.has_coords
    assert (file.read().coords, file.read().coords_unit) == (None, "")


def test_large_coordinates_are_exact(tmp_path: Path) -> None:
    coords = np.array([[2**24 + 1, 2**31 + 1], [2**40 + 1, 0]], dtype=np.int64)
    bag = open_features(write_h5(tmp_path / "s.h5", some_features(2), coords)).read()
    assert np.array_equal(bag.coords.astype(np.int64), coords)


def test_numbers_in_the_other_byte_order_keep_their_values(tmp_path: Path) -> None:
    features = some_features()
    file = open_features(write_h5(tmp_path / "s.h5", features.astype(">f4")))
    assert file.dtype == "float32"
    assert np.array_equal(file.read().features, features)


def test_a_chunked_file_that_can_grow_is_read_whole(tmp_path: Path) -> None:
    features = some_features(70, 3)
    with h5py.File(tmp_path / "s.h5", "w") as raw:
        raw.create_dataset("features", data=features, chunks=(32, 3), maxshape=(None, 3))
    assert_same_bits(open_features(tmp_path / "s.h5").read().features, features)


def test_the_content_decides_and_not_the_ending(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.pt", some_features())
    write_pt(tmp_path / "b.h5", torch.from_numpy(some_features()))
    assert open_features(tmp_path / "a.pt").format == "CLAM .h5"
    assert open_features(tmp_path / "b.h5").format == "CLAM .pt"


def test_a_tensor_that_still_requires_gradients_is_read(tmp_path: Path) -> None:
    # As an extraction without torch.no_grad leaves it.
    features = some_features()
    path = write_pt(tmp_path / "s.pt", torch.from_numpy(features).requires_grad_())
    assert_same_bits(open_features(path).read().features, features)


def test_a_view_of_a_larger_tensor_is_read_alone(tmp_path: Path) -> None:
    features = some_features(6, 4)
    path = write_pt(tmp_path / "s.pt", torch.from_numpy(features).T[1:3])
    assert np.array_equal(open_features(path).read().features, features.T[1:3])


def read(path: Path) -> None:
    open_features(path).read()


def assert_refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert caught.value.problems[0].startswith(f"{path} ")
    assert problem in caught.value.problems[0]


@pytest.mark.parametrize("form", ["h5", "archive", "older form"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, form: str) -> None:
    if form == "h5":
        path = write_h5(
            tmp_path / "s.h5", some_features(8, 16), np.zeros((8, 2), np.int64), "uni", 512
        )
    else:
        path = write_pt(
            tmp_path / "s.pt", torch.from_numpy(some_features(8, 16)), archive=form == "archive"
        )
    raw = path.read_bytes()
    cuts = range(0, len(raw), max(1, len(raw) // 150))
    for kept in cuts:
        path.write_bytes(raw[:kept])
        with pytest.raises(InputError):
            read(path)
    path.write_bytes(raw)
    read(path)


@pytest.mark.parametrize("shape", [(2, 3, 4), (5,), (), (1, 1, 5, 4)])
@pytest.mark.parametrize("suffix", [".h5", ".pt"])
def test_features_that_are_not_a_table_are_refused(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    path, values = tmp_path / f"s{suffix}", np.zeros(shape, np.float32)
    path = (
        write_h5(path, values)
        if suffix == ".h5"
        else write_pt(path, torch.from_numpy(np.asarray(values)))
    )
    assert_refused(path, "expected (instances, width)")


def test_a_dataset_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    assert_refused(write_h5(tmp_path / "s.h5", h5py.Empty("f4")), "features")


def test_a_sparse_tensor_is_refused(tmp_path: Path) -> None:
    assert_refused(write_pt(tmp_path / "s.pt", torch.eye(4).to_sparse()), "sparse")


@pytest.mark.parametrize("shape", [(4, 2), (5,), (5, 3), (2, 5)], ids=str)
def test_coordinates_that_are_not_a_pair_for_each_instance_are_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = write_h5(tmp_path / "s.h5", some_features(5), np.arange(np.prod(shape)).reshape(shape))
    assert_refused(path, "5 instances but coordinates of shape")


def test_coordinates_that_are_a_group_are_refused(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "s.h5", some_features(5))
    with h5py.File(path, "a") as raw:
        raw.create_group("coords")
    assert_refused(path, "coord")


def test_a_folder_with_the_name_of_a_feature_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.h5").mkdir()
    assert_refused(tmp_path / "s.h5", "cannot be read: Is a directory")
