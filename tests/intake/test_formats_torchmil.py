"""torchmil's folders of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from feature_files import some_features, write_npy

from mil_bench.errors import InputError
from mil_bench.intake.folders import find_feature_files
from mil_bench.intake.readers import open_features

if TYPE_CHECKING:
    from pathlib import Path

COORDS = np.arange(10).reshape(5, 2)
WITNESSES = np.array([0, 1, 0, 0, 1])


def write_array(folder: Path, name: str, bag: str, values: np.ndarray, ending: str) -> Path:
    path = folder / name / f"{bag}{ending}"
    if ending == ".npy":
        return write_npy(path, values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as raw:
        raw[name.partition("/")[0]] = values
    return path


def bag_folder(
    root: Path, ending: str = ".npy", features: str = "features", witnesses: np.ndarray = WITNESSES
) -> Path:
    """A bag with everything torchmil may have; labels of patches are always .npy."""
    path = write_array(root, features, "a.1", some_features(), ending)
    write_array(root, "coords", "a.1", COORDS, ending)
    write_array(root, "labels", "a.1", np.array([1]), ending)
    write_array(root, "patch_labels", "a.1", witnesses, ".npy")
    return path


@pytest.mark.parametrize("ending", [".npy", ".h5"])
@pytest.mark.parametrize("features", ["features", "features/features_resnet50"])
def test_a_bag_brings_coordinates_and_labels_of_its_patches(
    tmp_path: Path, ending: str, features: str
) -> None:
    bag_folder(tmp_path, ending, features)
    (found,) = find_feature_files(tmp_path)
    file = open_features(found.path, found.slide)
    assert (file.format, file.slide, file.rows, file.width) == (f"torchmil {ending}", "a.1", 5, 4)
    assert (file.coords_unit, file.has_instance_labels) == ("unknown unit", True)
    bag = file.read()
    assert np.array_equal(bag.features, some_features())
    assert np.array_equal(bag.coords, COORDS)
    assert np.array_equal(bag.instance_labels, WITNESSES)
    assert bag.instance_labels.dtype == np.int16
    assert (bag.coords_unit, bag.patch_size) == ("unknown unit", None)


@pytest.mark.parametrize("shape", [(5, 1), (1, 5)])
def test_labels_of_patches_may_have_an_axis_of_length_one(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = bag_folder(tmp_path, witnesses=WITNESSES.reshape(shape).astype(np.float32))
    assert np.array_equal(open_features(path).read().instance_labels, WITNESSES)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("leading", [False, True], ids=["plain", "leading axis"])
def test_a_lone_array_is_read(tmp_path: Path, dtype: str, order: str, leading: bool) -> None:
    features = some_features(5, 3, dtype)
    path = write_npy(
        tmp_path / "a.npy", np.asarray(features[None] if leading else features, order=order)
    )
    file = open_features(path)
    assert (file.format, file.dtype, file.rows, file.width) == ("plain .npy", dtype, 5, 3)
    assert (file.has_coords, file.has_instance_labels) == (False, False)
    bag = file.read()
    assert bag.features.dtype == dtype
    assert np.array_equal(bag.features, features)
    assert bag.instance_labels is None


def test_an_empty_array_opens_with_no_rows(tmp_path: Path) -> None:
    file = open_features(write_npy(tmp_path / "a.npy", np.zeros((0, 7), np.float32)))
    assert (file.rows, file.width) == (0, 7)
    assert file.read().features.shape == (0, 7)


@pytest.mark.parametrize(
    ("witnesses", "problem"),
    [
        (np.array([0, 1]), r"a.1.npy has labels of shape \(2,\) for 5 instances"),
        (np.array([0, 1, 2, 0, 0]), "a.1.npy has labels of patches other than 0 and 1"),
        (np.array([0, 1, np.nan, 0, 0]), "a.1.npy has labels of patches other than 0 and 1"),
        (np.array(["0", "1", "0", "0", "0"]), "a.1.npy has labels of patches other than 0 and 1"),
    ],
    ids=["too few", "another class", "NaN", "text"],
)
def test_labels_of_patches_are_refused_that_are(
    tmp_path: Path, witnesses: np.ndarray, problem: str
) -> None:
    path = bag_folder(tmp_path, witnesses=witnesses)
    with pytest.raises(InputError, match=problem) as caught:
        open_features(path).read()
    assert str(tmp_path / "patch_labels" / "a.1.npy") in str(caught.value)


def test_coordinates_of_other_length_are_refused_by_their_own_name(tmp_path: Path) -> None:
    path = bag_folder(tmp_path)
    write_npy(tmp_path / "coords" / "a.1.npy", COORDS[:3])
    with pytest.raises(InputError, match="5 instances but coordinates of shape") as caught:
        open_features(path).read()
    assert str(tmp_path / "coords" / "a.1.npy") in str(caught.value)


def test_coordinates_under_another_name_are_refused(tmp_path: Path) -> None:
    path = bag_folder(tmp_path, ".h5")
    (tmp_path / "coords" / "a.1.h5").unlink()
    with h5py.File(tmp_path / "coords" / "a.1.h5", "w") as raw:
        raw["places"] = COORDS
    with pytest.raises(InputError, match=r"has no dataset 'coords' \(it holds: places\)"):
        open_features(path).read()
