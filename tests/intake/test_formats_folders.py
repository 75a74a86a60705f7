"""Folders of the tools: which files are the features, and what their slides are called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mil_bench.errors import InputError
from mil_bench.intake.folders import find_feature_files
from mil_bench.intake.readers import open_features

if TYPE_CHECKING:
    from pathlib import Path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path) -> dict[str, str]:
    """Paths below the folder by slide."""
    return {
        file.slide: file.path.relative_to(folder).as_posix() for file in find_feature_files(folder)
    }


def refused(folder: Path, *fragments: str) -> InputError:
    with pytest.raises(InputError) as caught:
        find_feature_files(folder)
    for fragment in fragments:
        assert fragment in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("folder", "ending"),
    [
        ("clam", ".h5"),
        ("clam/pt_files", ".pt"),
        ("trident", ".h5"),
        ("trident/features_resnet50", ".h5"),
        ("stamp", ".h5"),
    ],
)
def test_the_features_of_the_real_tools_are_found(shared: Path, folder: str, ending: str) -> None:
    place = shared / "data" / "fixtures" / folder
    if not place.is_dir():
        pytest.skip(f"the real folder {folder} is not there")
    files = find_feature_files(place)
    assert [file.slide for file in files] == ["ucsb_benign_mosaic", "ucsb_malignant_mosaic"]
    assert {file.path.suffix for file in files} == {ending}
    for file in files:
        assert open_features(file.path, file.slide).rows > 40


def test_files_of_other_kinds_are_left_alone(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.h5",
        "a.pt",
        "C.H5",
        "notes.txt",
        "labels.csv",
        ".hidden.h5",
        ".cache/x.h5",
        "a.index.npz",
    )
    assert found(tmp_path) == {"C": "C.H5", "a": "a.pt", "b": "b.h5"}


def test_dots_and_tools_own_endings_belong_to_the_slide_id(tmp_path: Path) -> None:
    touch(tmp_path, "TCGA-1.DX1.0a.h5", "NOR0010994_feat.pt", "00123.npy")
    assert set(found(tmp_path)) == {"TCGA-1.DX1.0a", "NOR0010994_feat", "00123"}


def test_clams_h5_files_come_before_its_pt_files(tmp_path: Path) -> None:
    touch(tmp_path, "h5_files/a.h5", "pt_files/a.pt", "patches/a.h5")
    assert found(tmp_path) == {"a": "h5_files/a.h5"}


def test_clams_pt_files_are_taken_where_it_kept_no_others(tmp_path: Path) -> None:
    touch(tmp_path, "pt_files/a.pt", "h5_files/none.txt")
    assert found(tmp_path) == {"a": "pt_files/a.pt"}


SETTING = "20x_256px_0px_overlap"


@pytest.mark.parametrize("named", ["", SETTING, f"{SETTING}/features_uni_v2"])
def test_tridents_job_leads_to_its_features(tmp_path: Path, named: str) -> None:
    touch(
        tmp_path,
        f"{SETTING}/features_uni_v2/a.h5",
        f"{SETTING}/patches/a_patches.h5",
        "thumbnails/a.jpg",
    )
    touch(tmp_path, f"{SETTING}/slide_features_titan/a.h5")
    assert [file.slide for file in find_feature_files(tmp_path / named)] == ["a"]


@pytest.mark.parametrize(
    "second",
    [f"{SETTING}/features_conch", "10x_256px_0px_overlap/features_uni"],
    ids=["encoders", "patch sizes"],
)
def test_several_sets_of_trident_are_listed_to_choose_from(tmp_path: Path, second: str) -> None:
    touch(tmp_path, f"{SETTING}/features_uni/a.h5", f"{second}/a.h5")
    error = refused(
        tmp_path,
        str(tmp_path / SETTING / "features_uni"),
        str(tmp_path / second),
        "name one of these",
    )
    assert len(error.problems) == 2


def test_a_job_of_trident_without_features_is_told_so(tmp_path: Path) -> None:
    touch(tmp_path, f"{SETTING}/patches/a_patches.h5")
    refused(tmp_path, f"{SETTING}: no folder features_<encoder> in it")


def test_stamps_slides_keep_their_path_only_where_names_collide(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"uni2-0a1b2c3d/{name}.h5" for name in ("site1/a", "site2/a", "site1/b", "c"))
    )
    assert set(found(tmp_path)) == {"site1/a", "site2/a", "b", "c"}


def test_several_extractors_of_stamp_are_listed_to_choose_from(tmp_path: Path) -> None:
    touch(tmp_path, "uni2-0a1b2c3d/a.h5", "ctranspath-00aa11bb/a.h5")
    assert len(refused(tmp_path, "uni2-0a1b2c3d", "ctranspath-00aa11bb").problems) == 2


@pytest.mark.parametrize("prefix", ["", "patches_512/"])
def test_torchmils_features_are_told_from_its_other_arrays(tmp_path: Path, prefix: str) -> None:
    touch(
        tmp_path,
        *(
            f"{prefix}{name}/a.npy"
            for name in ("features/features_uni", "labels", "coords", "patch_labels")
        ),
    )
    assert found(tmp_path) == {"a": f"{prefix}features/features_uni/a.npy"}


def test_several_patch_sizes_of_torchmil_are_listed_to_choose_from(tmp_path: Path) -> None:
    touch(tmp_path, "patches_256/features/a.npy", "patches_512/features/a.npy")
    assert len(refused(tmp_path, "patches_256", "patches_512").problems) == 2


def test_two_files_of_a_slide_in_one_folder_keep_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.h5", "a.pt")
    assert [file.slide for file in find_feature_files(tmp_path)] == ["a", "a"]


def test_a_folder_beside_files_does_not_hide_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.h5", "features_uni/b.h5")
    assert set(found(tmp_path)) == {"a", "b"}


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "a.h5")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "site").symlink_to(tmp_path / "disk")
    assert found(tmp_path / "study") == {"a": "site/a.h5"}


def test_a_link_in_a_circle_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.h5", "site/b.h5")
    (tmp_path / "site" / "up").symlink_to(tmp_path)
    refused(tmp_path, f"{tmp_path}/site/up: a symbolic link that leads back to {tmp_path}")


def test_a_link_to_itself_is_told_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a.h5").symlink_to(tmp_path / "a.h5")
    (tmp_path / "other").symlink_to(tmp_path / "other")
    (file,) = find_feature_files(tmp_path)
    with pytest.raises(
        InputError, match=r"a\.h5 cannot be read: Too many levels of symbolic links"
    ):
        open_features(file.path)


def test_a_link_to_nothing_is_told_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a.h5").symlink_to(tmp_path / "gone.h5")
    (file,) = find_feature_files(tmp_path)
    with pytest.raises(InputError, match=r"a\.h5 cannot be read: No such file or directory"):
        open_features(file.path)


def test_a_folder_with_an_ending_is_told_when_it_is_opened(tmp_path: Path) -> None:
    touch(tmp_path, "a.h5/b.h5")
    (file,) = find_feature_files(tmp_path)
    with pytest.raises(InputError, match=r"a\.h5 cannot be read: Is a directory"):
        open_features(file.path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.h5", "site/b.h5")
    (tmp_path / "site").chmod(0)
    try:
        refused(tmp_path, f"{tmp_path}/site: cannot be read: Permission denied")
    finally:
        (tmp_path / "site").chmod(0o700)


def test_a_folder_without_features_is_told_which_endings_count(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    refused(tmp_path, f"{tmp_path}: no .h5, .hdf5, .npy, .pt, .pth file in it")


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "a.h5")
    refused(tmp_path / "gone", "there is no such folder")
    refused(tmp_path / "a.h5", "it is not a folder")
