"""Feature files that must not be read: the error says which, what is wrong and what to do."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from feature_files import some_features, write_h5, write_npy, write_pt

from mil_bench.errors import InputError
from mil_bench.intake.readers import open_features

FEATURES = some_features()
Write = Callable[[Path], None]


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def refused(path: Path, problem: str) -> InputError:
    with pytest.raises(InputError) as caught:
        open_features(path).read()
    error = caught.value
    assert len(error.problems) == 1
    assert str(path) in str(error)
    assert error.problems[0].startswith(f"{path} ")
    assert problem in error.problems[0]
    assert "\n" not in error.problems[0]
    assert str(error).splitlines()[-1].endswith(".")  # the remedy
    return error


def hdf5(**datasets: object) -> Write:
    """A file with datasets."""

    def write(path: Path) -> None:
        with h5py.File(path, "w") as raw:
            for name, values in datasets.items():
                raw[name] = values

    return write


def declared(**settings: object) -> Write:
    """A file whose features are declared, and never written."""

    def write(path: Path) -> None:
        with h5py.File(path, "w") as raw:
            raw.create_dataset("features", dtype="f4", **settings)

    return write


def half_written(path: Path) -> None:
    """As an extraction that was killed leaves it."""
    with h5py.File(path, "w") as raw:
        raw.create_dataset("features", (100, 4), "f4", chunks=(1, 4))[:60] = 1


def half_written_compressed(path: Path) -> None:
    with h5py.File(path, "w") as raw:
        raw.create_dataset("features", (100, 4), "f4", chunks=(1, 4), compression="gzip")[:60] = 1


def unknown_filter(path: Path) -> None:
    with h5py.File(path, "w") as raw:
        raw.create_dataset("features", data=FEATURES, chunks=(1, 4), compression="gzip")
    content = path.read_bytes()
    message = struct.pack("<HH", 1, 8) + struct.pack("<HH", 1, 1) + b"deflate\0"
    assert content.count(message) == 1
    path.write_bytes(content.replace(message, struct.pack("<HH", 32099, 8) + message[4:]))


def virtual(path: Path) -> None:
    write_h5(path.with_name("elsewhere.h5"), FEATURES)
    layout = h5py.VirtualLayout(FEATURES.shape, "f4")
    layout[:] = h5py.VirtualSource(path.with_name("elsewhere.h5"), "features", FEATURES.shape)
    with h5py.File(path, "w") as raw:
        raw.create_virtual_dataset("features", layout)


def external_values(path: Path) -> None:
    elsewhere = path.with_name("elsewhere.raw")
    elsewhere.write_bytes(FEATURES.tobytes())
    with h5py.File(path, "w") as raw:
        raw.create_dataset(
            "features", FEATURES.shape, "f4", external=[(str(elsewhere), 0, FEATURES.nbytes)]
        )


def external_link(path: Path) -> None:
    write_h5(path.with_name("elsewhere.h5"), FEATURES)
    hdf5(features=h5py.ExternalLink("elsewhere.h5", "/features"))(path)


def external_coords(path: Path) -> None:
    write_h5(path.with_name("elsewhere.h5"), FEATURES, np.zeros((5, 2)))
    hdf5(features=FEATURES, coords=h5py.ExternalLink("elsewhere.h5", "/coords"))(path)


def bad_patch_size(value: object) -> Write:
    def write(path: Path) -> None:
        write_h5(path, FEATURES, np.zeros((5, 2), np.int64), "uni")
        with h5py.File(path, "a") as raw:
            raw["coords"].attrs["patch_size_level0"] = value

    return write


def bad_tile_size(path: Path) -> None:
    hdf5(feats=FEATURES, coords=np.zeros((5, 2)))(path)
    with h5py.File(path, "a") as raw:
        raw.attrs.update(unit="um", tile_size_um=-64.0)


def flipped_checksum(path: Path) -> None:
    with h5py.File(path, "w") as raw:
        raw.create_dataset("features", data=FEATURES, chunks=(5, 4), fletcher32=True)
        at = raw["features"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut(write: Write, kept: float) -> Write:
    def write_part(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])

    return write_part


HDF5_CASES: dict[str, tuple[Write, str]] = {
    "cut short": (
        cut(hdf5(features=some_features(500)), 0.9),
        "cannot be opened as HDF5, it may be cut short",
    ),
    "a signature alone": (
        lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"),
        "cannot be opened as HDF5",
    ),
    "a group in place of features": (
        hdf5(**{"features/a": FEATURES}),
        "has 'features', but not as a dataset",
    ),
    "no features": (hdf5(embedding=FEATURES), "has no dataset 'features' (it holds: embedding)"),
    "nothing": (hdf5(), "has no dataset 'features' (it holds: nothing)"),
    "two kinds of features": (
        hdf5(features=FEATURES, feats=FEATURES),
        "several datasets of features (features, feats)",
    ),
    "a vector for the slide": (
        hdf5(features=FEATURES[0]),
        "of shape (4,), expected (instances, width); one vector",
    ),
    "a STAMP vector without its kind": (
        hdf5(feats=FEATURES[0]),
        "'feats' of shape (4,), expected (instances, width)",
    ),
    "two leading axes": (
        hdf5(features=FEATURES[None, None]),
        "of shape (1, 1, 5, 4), expected (instances, width)",
    ),
    "a batch of bags": (
        hdf5(features=np.zeros((2, 5, 4), "f4")),
        "of shape (2, 5, 4), expected (instances, width)",
    ),
    "integers": (
        hdf5(features=FEATURES.astype("u1")),
        "has features of type uint8, expected float16, float32 or float64",
    ),
    "complex numbers": (
        hdf5(features=FEATURES.astype("c8")),
        "has features of type complex64, expected float16, float32 or float64",
    ),
    "text": (
        hdf5(features=[["a", "b"]]),
        "has features of type object, expected float16, float32 or float64",
    ),
    "records": (
        hdf5(features=np.zeros((5, 4), "f4,i4")),
        "has features of type void64, expected float16, float32 or float64",
    ),
    "never written": (
        declared(shape=(5, 4)),
        "declares 'features' of shape (5, 4), but not all of it was written",
    ),
    "petabytes in a small file": (declared(shape=(10**9, 10**6)), "but not all of it was written"),
    "petabytes of chunks": (
        declared(shape=(10**9, 10**6), chunks=(1, 10**6)),
        "but not all of it was written",
    ),
    "a killed extraction": (half_written, "of shape (100, 4), but not all of it was written"),
    "a killed compressed extraction": (
        half_written_compressed,
        "of shape (100, 4), but not all of it was written",
    ),
    "a filter that is not installed": (unknown_filter, "cannot be opened as HDF5"),
    "a checksum that is wrong": (
        flipped_checksum,
        "cannot be opened as HDF5, it may be cut short or damaged",
    ),
    "values from other files": (
        virtual,
        "has 'features' with its values in other files, which are not read",
    ),
    "values in a raw file": (
        external_values,
        "has 'features' with its values in other files, which are not read",
    ),
    "a link to another file": (
        external_link,
        "has 'features' as a link to another place, which is not followed",
    ),
    "coordinates in another file": (
        external_coords,
        "has 'coords' as a link to another place, which is not followed",
    ),
    "a link in a circle": (
        hdf5(features=h5py.SoftLink("/features")),
        "has 'features' as a link to another place",
    ),
    "too few coordinates": (
        hdf5(features=FEATURES, coords=np.zeros((4, 2))),
        "5 instances but coordinates of shape",
    ),
    "coordinates of three axes": (
        hdf5(features=FEATURES, coords=np.zeros((5, 3))),
        "but coordinates of shape (5, 3)",
    ),
    "coordinates that are text": (
        hdf5(features=FEATURES, coords=[["a", "b"]] * 5),
        "coordinates that are object",
    ),
    "a patch size in words": (
        bad_patch_size("large"),
        "a patch_size_level0 that is not a positive number: 'large'",
    ),
    "a patch size of 0": (bad_patch_size(0), "a patch_size_level0 that is not a positive number"),
    "two patch sizes": (
        bad_patch_size([256, 512]),
        "a patch_size_level0 that is not a positive number",
    ),
    "a tile of negative size": (bad_tile_size, "a tile_size_um that is not a positive number"),
}


@pytest.mark.parametrize(("write", "problem"), HDF5_CASES.values(), ids=HDF5_CASES.keys())
def test_an_hdf5_file_is_refused_that_has(tmp_path: Path, write: Write, problem: str) -> None:
    write(tmp_path / "s.h5")
    refused(tmp_path / "s.h5", problem)


def torch_file(value: object, archive: bool = True) -> Write:
    return lambda path: write_pt(path, value, archive)


def repacked(
    change: Callable[[str, bytes], bytes] = lambda name, content: content, **settings: object
) -> Write:
    """A tensor's archive written again, with other content or compressed."""

    def write(path: Path) -> None:
        original = io.BytesIO()
        torch.save(torch.zeros(50, 4), original)
        with zipfile.ZipFile(original) as source, zipfile.ZipFile(path, "w", **settings) as target:
            for name in source.namelist():
                target.writestr(name, change(name, source.read(name)))

    return write


def more_rows(name: str, content: bytes) -> bytes:
    """The same bytes, said to be of 250 rows."""
    return (
        content.replace(b"K\x32K\x04\x86", b"K\xfaK\x04\x86")
        if name.endswith("data.pkl")
        else content
    )


def larger_storage(name: str, content: bytes) -> bytes:
    """The same bytes, said to be 60,000 numbers."""
    return content.replace(b"K\xc8t", b"M\x60\xeat") if name.endswith("data.pkl") else content


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("bomb/data.pkl", bytes(50_000_000))
    assert path.stat().st_size < 100_000


def numpy_archive(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=FEATURES)
    path.with_suffix(".npz").rename(path)


class LyingType:
    """Pickles as a NumPy array whose type hides objects: NumPy would take bytes for addresses."""

    def __reduce__(self) -> tuple:
        from numpy._core.multiarray import _reconstruct

        return (
            _reconstruct,
            (np.ndarray, (0,), b"b"),
            (1, (2, 2), HiddenObjects(), False, b"A" * 32),
        )


class HiddenObjects:
    def __reduce__(self) -> tuple:
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


class WrongSize:
    """Pickles as a NumPy array whose shape does not fit its bytes."""

    def __reduce__(self) -> tuple:
        from numpy._core.multiarray import _reconstruct

        return (
            _reconstruct,
            (np.ndarray, (0,), b"b"),
            (1, (10**6, 4), np.dtype("f4"), False, b"A" * 32),
        )


MORE = "holds more than tensors, so it was not opened"
TORCH_CASES: dict[str, tuple[Write, str]] = {
    "cut short": (
        cut(torch_file(torch.zeros(500, 4)), 0.9),
        "cannot be read as a torch file, it may be cut short",
    ),
    "a dict without features": (
        torch_file({"x": torch.zeros(5, 4)}),
        "expected exactly one of 'features' or 'feats'",
    ),
    "a dict with two": (
        torch_file({"features": FEATURES, "feats": FEATURES}),
        "(it holds: features, feats)",
    ),
    "an empty dict": (torch_file({}), "(it holds: nothing)"),
    "a dict of lists": (torch_file({"features": [[1.0]]}), "holds a list, expected one tensor"),
    "a list of tensors": (torch_file([torch.zeros(5, 4)]), "holds a list, expected one tensor"),
    "a number": (torch_file(7), "holds a int, expected one tensor"),
    "a vector for the slide": (
        torch_file(torch.zeros(4)),
        "holds a tensor of shape (4,), expected (instances, width)",
    ),
    "a batch of bags": (
        torch_file(torch.zeros(2, 5, 4)),
        "holds a tensor of shape (2, 5, 4), expected",
    ),
    "integers": (
        torch_file(torch.zeros(5, 4).int()),
        "has features of type int32, expected float16, float32 or float64",
    ),
    "complex numbers": (
        torch_file(torch.zeros(5, 4) * 1j),
        "has features of type complex64, expected float16, float32 or float64",
    ),
    "a sparse tensor": (torch_file(torch.eye(4).to_sparse()), "holds a sparse tensor"),
    "a meta tensor": (torch_file(torch.zeros(5, 4, device="meta")), "holds a meta tensor"),
    "one row said to be a million": (
        torch_file(torch.zeros(1, 4).expand(10**6, 4)),
        "but holds fewer values",
    ),
    "more rows than values": (repacked(more_rows), "cannot be read as a torch file"),
    "a storage larger than its bytes": (repacked(larger_storage), "cannot be read as a torch file"),
    "compressed tensors": (repacked(compression=zipfile.ZIP_DEFLATED), "is a compressed archive"),
    "a zip bomb": (zip_bomb, "is a compressed archive, which torch.save does not write"),
    "a NumPy array of objects": (torch_file(np.array([[{}, 1]], dtype=object)), MORE),
    "a NumPy array of text": (torch_file(np.array([["a", "b"]])), MORE),
    "a NumPy array of records": (torch_file(np.zeros((5, 4), "f4,i4")), MORE),
    "a NumPy type that lies": (torch_file(LyingType()), MORE),
    "a NumPy array of too few bytes": (torch_file(WrongSize()), "cannot be read as a torch file"),
    "coordinates of other length": (
        torch_file({"feats": FEATURES, "coords": np.zeros((4, 2))}),
        "coordinates of shape",
    ),
    "coordinates that are a list": (
        torch_file({"feats": FEATURES, "coords": [1, 2]}),
        "holds a list, expected one",
    ),
    "arrays of NumPy's own archive": (numpy_archive, "cannot be read as a torch file"),
    "a model": (torch_file(torch.nn.Linear(2, 2)), MORE),
}


@pytest.mark.parametrize(("write", "problem"), TORCH_CASES.values(), ids=TORCH_CASES.keys())
def test_a_torch_file_is_refused_that_has(tmp_path: Path, write: Write, problem: str) -> None:
    write(tmp_path / "s.pt")
    refused(tmp_path / "s.pt", problem)


def object_array(path: Path) -> None:
    np.save(path, np.array([[{}, 1]], dtype=object), allow_pickle=True)


def newer_array(path: Path) -> None:
    write_npy(path, FEATURES)
    content = path.read_bytes()
    path.write_bytes(content[:6] + b"\x09\x00" + content[8:])


def large_array(path: Path) -> None:
    write_npy(path, FEATURES)
    path.write_bytes(path.read_bytes().replace(b"(5, 4), }         ", b"(5000000000, 4), }"))


def code_in_header(path: Path) -> None:
    write_npy(path, FEATURES)
    path.write_bytes(path.read_bytes().replace(b"(5, 4), }           ", b"(exit(), 4), }      "))


NUMPY_CASES: dict[str, tuple[Write, str]] = {
    "values cut short": (
        cut(lambda path: write_npy(path, some_features(500)), 0.9),
        "cannot be read as a NumPy array",
    ),
    "a header cut short": (
        cut(lambda path: write_npy(path, FEATURES), 0.2),
        "cannot be read as a NumPy array",
    ),
    "Python objects": (
        object_array,
        "has features of type object, expected float16, float32 or float64",
    ),
    "text": (
        lambda path: write_npy(path, [["a", "b"]]),
        "has features of type str32, expected float16, float32 or float64",
    ),
    "a vector for the slide": (
        lambda path: write_npy(path, FEATURES[0]),
        "holds an array of shape (4,), expected",
    ),
    "a version of the future": (newer_array, "cannot be read as a NumPy array"),
    "more rows than it holds": (large_array, "80 bytes of values for the shape (5000000000, 4)"),
    "code in its header": (code_in_header, "cannot be read as a NumPy array"),
}


@pytest.mark.parametrize(("write", "problem"), NUMPY_CASES.values(), ids=NUMPY_CASES.keys())
def test_a_numpy_file_is_refused_that_has(tmp_path: Path, write: Write, problem: str) -> None:
    write(tmp_path / "s.npy")
    refused(tmp_path / "s.npy", problem)


def test_the_cases_are_readable_before_they_are_spoiled(tmp_path: Path) -> None:
    repacked()(tmp_path / "s.pt")
    assert open_features(tmp_path / "s.pt").read().features.shape == (50, 4)
    for path in (write_h5(tmp_path / "s.h5", FEATURES), write_npy(tmp_path / "s.npy", FEATURES)):
        assert np.array_equal(open_features(path).read().features, FEATURES)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "older form"])
@pytest.mark.parametrize(
    "place", [lambda bad: bad, lambda bad: {"features": torch.zeros(5, 4), "more": bad}]
)
def test_code_in_a_torch_file_is_never_run(tmp_path: Path, archive: bool, place: Callable) -> None:
    trace = tmp_path / "trace"
    write_pt(tmp_path / "s.pt", place(RunsCode(trace)), archive)
    refused(tmp_path / "s.pt", MORE)
    assert not trace.exists()


def test_code_in_an_array_of_objects_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    bad = np.array([[RunsCode(trace)]], dtype=object)
    np.save(tmp_path / "s.npy", bad, allow_pickle=True)
    write_pt(tmp_path / "s.pt", bad)
    refused(tmp_path / "s.npy", "has features of type object")
    refused(tmp_path / "s.pt", MORE)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_code_in_a_bare_pickle_is_never_run(tmp_path: Path, protocol: int) -> None:
    trace, path = tmp_path / "trace", tmp_path / "s.pt"
    path.write_bytes(pickle.dumps(RunsCode(trace), protocol))
    refused(path, "")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"slide,label\n", "is in no known format"),
        (bytes(64), "is in no known format"),
        (b"\x89", "is in no known format"),
    ],
    ids=["nothing", "text", "zeros", "one byte"],
)
@pytest.mark.parametrize("ending", [".h5", ".pt", ".npy"])
def test_what_is_no_feature_file_is_told_so(
    tmp_path: Path, ending: str, content: bytes, problem: str
) -> None:
    (tmp_path / f"s{ending}").write_bytes(content)
    assert "Known formats: " in str(refused(tmp_path / f"s{ending}", problem))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.h5")
    refused(tmp_path / "s.h5", "is not a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    write_h5(tmp_path / "s.h5", FEATURES).chmod(0)
    refused(tmp_path / "s.h5", "cannot be read: Permission denied")


@pytest.mark.parametrize("ending", [".h5", ".pt", ".npy"])
def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path, ending: str) -> None:
    write = {
        ".h5": write_h5,
        ".pt": lambda path, values: write_pt(path, torch.from_numpy(values)),
        ".npy": write_npy,
    }[ending]
    path = write(tmp_path / f"s{ending}", FEATURES)
    file = open_features(path)
    path.unlink()
    write(path, some_features(7, 3))
    with pytest.raises(InputError, match="changed while it was read"):
        file.read()
    path.unlink()
    with pytest.raises(InputError):
        file.read()


def test_a_damaged_list_of_patches_is_named(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "h5_files" / "s.h5", FEATURES, np.zeros((5, 2)))
    (tmp_path / "patches").mkdir()
    shutil.copy(path, tmp_path / "patches" / "s.h5")
    with (tmp_path / "patches" / "s.h5").open("r+b") as raw:
        raw.truncate(1000)
    with pytest.raises(InputError, match="cannot be opened as HDF5") as caught:
        open_features(path).read()
    assert str(tmp_path / "patches" / "s.h5") in str(caught.value)
