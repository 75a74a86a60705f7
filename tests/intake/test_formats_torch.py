"""Torch's files: tensors, dicts, and the NumPy arrays that TRIDENT saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from feature_files import some_features, write_h5, write_pt

from mil_bench.errors import InputError
from mil_bench.intake.readers import open_features

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4"])
@pytest.mark.parametrize("leading", [False, True], ids=["plain", "leading axis"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "older form"])
def test_the_numpy_array_that_trident_saves_is_read(
    tmp_path: Path, dtype: str, leading: bool, order: str, archive: bool
) -> None:
    features = some_features(5, 3, dtype)
    given = np.asarray(features[None] if leading else features, order=order)
    file = open_features(write_pt(tmp_path / "a.pt", given, archive))
    assert (file.format, file.dtype, file.rows, file.width) == (
        "TRIDENT .pt",
        features.dtype.name,
        5,
        3,
    )
    found = file.read().features
    assert found.dtype == features.dtype
    assert np.array_equal(found, features)


@pytest.mark.parametrize("shape", [(0,), (0, 7), (1, 0, 7)])
def test_an_empty_slide_of_trident_opens_with_no_rows(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    file = open_features(write_pt(tmp_path / "a.pt", np.zeros(shape, np.float32)))
    assert (file.rows, file.width) == (0, shape[-1])
    assert file.read().features.shape == (0, shape[-1])


@pytest.mark.parametrize("key", ["features", "feats", "patch_embeddings"])
@pytest.mark.parametrize("wrap", [torch.from_numpy, np.asarray], ids=["tensors", "arrays"])
def test_a_dict_with_features_and_coordinates_is_read(tmp_path: Path, key: str, wrap: type) -> None:
    features, coords = some_features(4, 3), np.arange(8).reshape(4, 2)
    file = open_features(
        write_pt(tmp_path / "a.pt", {key: wrap(features), "coords": wrap(coords), "slide": "a"})
    )
    assert (file.format, file.rows, file.width, file.coords_unit) == (
        "plain .pt",
        4,
        3,
        "unknown unit",
    )
    bag = file.read()
    assert bag.features.tobytes() == features.tobytes()
    assert np.array_equal(bag.coords, coords)
    assert (bag.coords_unit, bag.patch_size) == ("unknown unit", None)


def test_a_dict_without_coordinates_has_none(tmp_path: Path) -> None:
    file = open_features(write_pt(tmp_path / "a.pt", {"feats": torch.from_numpy(some_features())}))
    assert (file.has_coords, file.read().coords) == (False, None)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "older form"])
def test_bfloat16_becomes_float32_exactly(tmp_path: Path, archive: bool) -> None:
    features = torch.from_numpy(some_features()).to(torch.bfloat16)
    file = open_features(write_pt(tmp_path / "a.pt", features, archive))
    assert file.dtype == "float32"
    found = file.read().features
    assert found.dtype == np.float32
    assert torch.equal(torch.from_numpy(found).to(torch.bfloat16), features)
    assert torch.equal(torch.from_numpy(found), features.double().float())


def test_a_parameter_is_a_tensor(tmp_path: Path) -> None:
    features = some_features()
    file = open_features(
        write_pt(tmp_path / "a.pt", torch.nn.Parameter(torch.from_numpy(features)))
    )
    assert np.array_equal(file.read().features, features)


def test_what_numpy_arrays_need_is_not_left_allowed(tmp_path: Path) -> None:
    path, before = (
        write_pt(tmp_path / "a.pt", some_features()),
        torch.serialization.get_safe_globals(),
    )
    open_features(path).read()
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with pytest.raises(Exception, match="weights_only"):
        torch.load(path, weights_only=True)


def trident_job(root: Path, features: np.ndarray, rows: int) -> Path:
    """A .pt in a job's folder of TRIDENT with a list of so many patches."""
    coords = np.arange(2 * rows).reshape(rows, 2)
    write_h5(root / "patches" / "a.1_patches.h5", some_features(), coords, patch_size=512)
    return write_pt(root / "features_uni" / "a.1.pt", features)


def test_an_array_of_trident_gets_the_coordinates_of_the_jobs_patches(tmp_path: Path) -> None:
    file = open_features(trident_job(tmp_path, some_features(5, 3), 5))
    assert (file.format, file.coords_unit) == ("TRIDENT .pt", "level-0 pixels")
    assert tmp_path / "patches" / "a.1_patches.h5" in file.sources
    bag = file.read()
    assert np.array_equal(bag.coords, np.arange(10).reshape(5, 2))
    assert (bag.coords_unit, bag.patch_size) == ("level-0 pixels", 512.0)


def test_patches_of_another_number_or_of_another_tool_are_not_taken(tmp_path: Path) -> None:
    file = open_features(trident_job(tmp_path / "other", some_features(5, 3), 4))
    assert (file.has_coords, file.read().coords) == (False, None)
    file = open_features(trident_job(tmp_path / "tensor", torch.from_numpy(some_features(5, 3)), 5))
    assert (file.format, file.has_coords) == ("CLAM .pt", False)


def test_a_damaged_list_of_tridents_patches_is_named(tmp_path: Path) -> None:
    path = trident_job(tmp_path, some_features(5, 3), 5)
    (tmp_path / "patches" / "a.1_patches.h5").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"patches/a\.1_patches\.h5 cannot be opened as HDF5"):
        open_features(path)
