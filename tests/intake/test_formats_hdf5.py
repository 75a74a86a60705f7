"""CLAM's, TRIDENT's and STAMP's HDF5 files: what each of them means by its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from feature_files import some_features, write_h5, write_pt, write_stamp

from mil_bench.errors import InputError
from mil_bench.intake.readers import FeatureFile, RawBag, open_features
from mil_bench.intake.readers.hdf5 import dataset, opened, values
from mil_bench.intake.readers.row_chunks import read_row_chunks

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("ucsb_benign_mosaic", "ucsb_malignant_mosaic")
STAMP_FOLDER = "resnet50_random_init-49b04e14"
GRID = np.array([[0, 0], [224, 0], [0, 224]])


def real(shared: Path, *parts: str) -> Path:
    path = shared.joinpath("data", "fixtures", *parts)
    if not path.is_file():
        pytest.skip(f"the real file {'/'.join(parts)} is not there")
    return path


def tissue(bag: RawBag, pixels: float) -> np.ndarray:
    """Which pixels of the slide, 4096 wide, are in a patch; ``pixels`` per unit of coordinates."""
    covered = np.zeros((4096, 4096), dtype=bool)
    side = int(bag.patch_size * pixels)
    for x, y in (bag.coords * pixels).astype(int):
        covered[y : y + side, x : x + side] = True
    return covered


@pytest.mark.parametrize("name", NAMES)
def test_a_real_stamp_file_is_read_in_micrometres(shared: Path, name: str) -> None:
    path = real(shared, "stamp", STAMP_FOLDER, f"{name}.h5")
    with h5py.File(path) as raw:
        features, coords = raw["feats"][:], raw["coords"][:]
    file = open_features(path)
    assert (file.format, file.slide, file.dtype) == ("STAMP .h5", name, "float16")
    assert (file.encoder, file.coords_unit) == ("resnet50_random_init", "micrometres")
    assert (file.rows, file.width) == features.shape
    bag = file.read()
    assert (bag.coords_unit, bag.patch_size) == ("micrometres", 64.0)
    assert np.array_equal(bag.features, features)
    assert bag.features.dtype == np.float16
    assert np.array_equal(bag.coords, coords)


@pytest.mark.parametrize("name", NAMES)
def test_the_three_tools_show_the_same_tissue_of_a_slide(shared: Path, name: str) -> None:
    clam = open_features(real(shared, "clam", "h5_files", f"{name}.h5")).read()
    trident = open_features(real(shared, "trident", "features_resnet50", f"{name}.h5")).read()
    stamp = open_features(real(shared, "stamp", STAMP_FOLDER, f"{name}.h5")).read()
    assert (clam.patch_size, trident.patch_size, stamp.patch_size) == (256.0, 512.0, 64.0)
    tiles = tissue(clam, 1)
    overlap = {}
    for pixels in (1, 2, 4, 8):  # pixels a micrometre
        shown = tissue(stamp, pixels)
        overlap[pixels] = np.count_nonzero(shown & tiles) / np.count_nonzero(shown | tiles)
    assert max(overlap, key=overlap.get) == 4  # the slide has 0.25 micrometres a pixel
    assert overlap[4] > 0.6
    assert not np.any(tiles & ~tissue(trident, 1))
    assert not np.any(tissue(stamp, 4) & ~tissue(trident, 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_real_list_of_patches_is_told_from_features(shared: Path, name: str) -> None:
    for path in (
        real(shared, "clam", "patches", f"{name}.h5"),
        real(shared, "trident", "patches", f"{name}_patches.h5"),
    ):
        with pytest.raises(
            InputError, match="a list of patches, their features are in another folder"
        ):
            open_features(path)


def clam_slide(folder: Path, **attributes: object) -> FeatureFile:
    """A slide of CLAM with its list of patches in the folder beside."""
    coords = np.array([[512, 0], [1024, 0], [512, 512]], dtype=np.int32)
    path = write_h5(folder / "h5_files" / "a.h5", some_features(3), coords)
    patches = folder / "patches" / "a.h5"
    patches.parent.mkdir()
    with h5py.File(patches, "w") as raw:
        raw["coords"] = coords.astype(np.int64)
        raw["coords"].attrs.update(attributes)
    return open_features(path)


def test_clams_patch_size_is_that_at_level_0(tmp_path: Path) -> None:
    file = clam_slide(tmp_path, patch_size=256, downsample=np.array([4.0, 4.0]))
    assert file.read().patch_size == 1024.0


def test_clams_patches_of_another_run_say_nothing_of_the_patch_size(tmp_path: Path) -> None:
    file = clam_slide(tmp_path, patch_size=256, downsample=np.array([1.0, 1.0]))
    with h5py.File(tmp_path / "patches" / "a.h5", "a") as raw:
        raw["coords"][2] = [0, 0]
    assert file.read().patch_size is None


def test_a_list_of_patches_without_its_attributes_is_named(tmp_path: Path) -> None:
    file = clam_slide(tmp_path, patch_size=256)
    with pytest.raises(InputError, match="no patch_size and downsample") as caught:
        file.read()
    assert str(tmp_path / "patches" / "a.h5") in str(caught.value)


@pytest.mark.parametrize(
    ("written", "expected"), [("None", None), (512, 512.0), (np.array([512]), 512.0)]
)
def test_tridents_patch_size_may_be_the_word_none(
    tmp_path: Path, written: object, expected: float | None
) -> None:
    path = write_h5(tmp_path / "a.h5", some_features(1), np.zeros((1, 2), np.int64), "uni", written)
    assert open_features(path).read().patch_size == expected


def test_tridents_unnamed_encoder_is_no_name(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", some_features(1), np.zeros((1, 2), np.int64), "None", 512)
    assert (open_features(path).format, open_features(path).encoder) == ("TRIDENT .h5", "")


@pytest.mark.parametrize(
    "attributes", [{"tile_size_um": 112.0}, {"tile_size": 112.0, "unit": "um"}], ids=str
)
def test_stamps_spellings_of_micrometres_are_one(tmp_path: Path, attributes: dict) -> None:
    path = write_stamp(tmp_path / "a.h5", some_features(3, dtype="float16"), GRID / 2, **attributes)
    bag = open_features(path).read()
    assert (bag.coords_unit, bag.patch_size) == ("micrometres", 112.0)
    assert np.array_equal(bag.coords, GRID / 2)


@pytest.mark.parametrize(
    "coords", [GRID, GRID[:1] + 448, GRID + 0.2], ids=["a grid", "a lone tile", "off by rounding"]
)
def test_stamps_first_version_had_tiles_of_224_pixels_and_256_micrometres(
    tmp_path: Path, coords: np.ndarray
) -> None:
    bag = open_features(write_stamp(tmp_path / "a.h5", some_features(len(coords)), coords)).read()
    assert (bag.coords_unit, bag.patch_size) == ("micrometres", 256.0)
    assert np.array_equal(bag.coords, coords * (256 / 224))


def test_stamps_first_version_may_say_its_tile_size(tmp_path: Path) -> None:
    bag = open_features(
        write_stamp(tmp_path / "a.h5", some_features(3), GRID * 3, tile_size=224)
    ).read()
    assert (bag.coords_unit, bag.patch_size) == ("micrometres", 256.0)


def test_coordinates_without_a_unit_say_so(tmp_path: Path) -> None:
    file = open_features(write_stamp(tmp_path / "a.h5", some_features(3), GRID * 2))
    bag = file.read()
    assert file.coords_unit == bag.coords_unit == "unknown unit"
    assert bag.patch_size is None
    assert np.array_equal(bag.coords, GRID * 2)


def test_stamps_other_name_for_features_comes_without_coordinates(tmp_path: Path) -> None:
    features = some_features()
    file = open_features(write_stamp(tmp_path / "a.h5", features, key="patch_embeddings"))
    assert (file.format, file.has_coords) == ("STAMP .h5", False)
    assert np.array_equal(file.read().features, features)


def test_stamps_vector_of_a_whole_patient_is_refused(tmp_path: Path) -> None:
    path = write_stamp(tmp_path / "a.h5", some_features(1), feat_type="patient")
    with pytest.raises(InputError, match=r"a whole patient .*features of slides are needed"):
        open_features(path)


@pytest.mark.parametrize("shape", [(6,), (1, 6)])
def test_stamps_vector_of_a_slide_is_a_bag_of_one_row(tmp_path: Path, shape: tuple) -> None:
    features = some_features(1, 6).reshape(shape)
    path = write_stamp(tmp_path / "a.h5", features, feat_type="slide", encoder="titan")
    file = open_features(path)
    assert (file.rows, file.width, file.encoder, file.has_coords) == (1, 6, "titan", False)
    assert np.array_equal(file.read().features, features.reshape(1, 6))


def test_tridents_vector_of_a_slide_is_told_by_its_folder(tmp_path: Path) -> None:
    features, coords = some_features(1, 6)[0], np.zeros((9, 2), np.int64)
    path = write_h5(tmp_path / "slide_features_titan" / "a.h5", features, coords, "titan", 512)
    file = open_features(path)
    assert (file.rows, file.width, file.encoder, file.has_coords) == (1, 6, "titan", False)
    assert np.array_equal(file.read().features, features[None])
    with pytest.raises(InputError, match="one vector for a whole slide"):
        open_features(write_h5(tmp_path / "features_uni" / "a.h5", features))


def test_a_slide_id_may_be_given(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.b.h5", some_features())
    assert open_features(path).slide == "a.b"
    assert open_features(path, "site/a.b").slide == "site/a.b"


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 500])
@pytest.mark.parametrize("chunk", [1, 32])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_chunks_of_rows_are_read_as_hdf5_reads_them(
    tmp_path: Path, rows: int, chunk: int, dtype: str
) -> None:
    features = some_features(rows, 3, dtype)
    with h5py.File(tmp_path / "a.h5", "w") as raw:
        grown = raw.create_dataset("features", (0, 3), dtype, chunks=(chunk, 3), maxshape=(None, 3))
        for start in range(
            0, rows, 100
        ):  # other things lie between the chunks, as when a slide grows
            grown.resize(min(start + 100, rows), axis=0)
            grown[start:] = features[start : start + 100]
            raw[f"other {start}"] = np.ones(50)
    with opened(tmp_path / "a.h5") as raw:
        into = np.zeros_like(features)
        assert read_row_chunks(dataset(raw, tmp_path, "features"), into)
    assert into.tobytes() == features.tobytes()
    assert open_features(tmp_path / "a.h5").read().features.tobytes() == features.tobytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"chunks": (2, 3), "compression": "gzip"},
        {"chunks": (2, 3), "shuffle": True},
        {"chunks": (2, 3), "fletcher32": True},
        {"chunks": (2, 2)},
        {"chunks": (2, 3), "dtype": ">f4"},
        {},
    ],
    ids=str,
)
def test_what_is_not_plain_chunks_of_rows_is_left_to_hdf5(tmp_path: Path, settings: dict) -> None:
    features = some_features(5, 3)
    with h5py.File(tmp_path / "a.h5", "w") as raw:
        raw.create_dataset("features", data=features, **settings)
    with opened(tmp_path / "a.h5") as raw:
        found = dataset(raw, tmp_path, "features")
        assert not read_row_chunks(found, np.empty_like(features))
        assert np.array_equal(values(found), features)


def test_bfloat16_becomes_float32_exactly(tmp_path: Path) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()  # there is no NumPy type to write it by
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    features = np.array([[1.0, -2.5], [2.0**100, 0.0]], dtype=np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as raw:
        space = h5py.h5s.create_simple(features.shape)
        h5py.h5d.create(raw.id, b"features", kind, space).write(
            h5py.h5s.ALL, h5py.h5s.ALL, features
        )
    file = open_features(tmp_path / "a.h5")
    assert file.dtype == "float32"
    assert np.array_equal(file.read().features, features)


def test_a_file_behind_a_user_block_is_read_by_hdf5(tmp_path: Path) -> None:
    features = some_features(5, 3)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as raw:
        raw.create_dataset("features", data=features, chunks=(1, 3))
    with opened(tmp_path / "a.h5") as raw:
        assert np.array_equal(values(raw["features"]), features)


def test_opening_hdf5_files_does_not_import_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = write_h5(tmp_path / "a.h5", some_features())
    code = (
        "import sys, pathlib; from mil_bench.intake.readers import open_features\n"
        f"open_features(pathlib.Path({str(path)!r})).read(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_feature_file_can_be_sent_to_another_process(tmp_path: Path) -> None:
    import pickle

    import torch

    for path in (
        write_h5(tmp_path / "a.h5", some_features()),
        write_stamp(tmp_path / "b.h5", some_features(3), GRID),
        write_pt(tmp_path / "c.pt", torch.from_numpy(some_features())),
    ):
        file = open_features(path)
        assert pickle.loads(pickle.dumps(file)) == file
