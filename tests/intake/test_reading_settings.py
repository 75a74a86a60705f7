"""Compressed bombs, features under other names, float64, and file systems without locks."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from feature_files import some_features, unwatched, write_h5, write_label_table, write_npy, write_pt
from mil_bench.benchmarks.bracs import BRACS

from mil_bench.bags.store import BagStore
from mil_bench.cli import main
from mil_bench.intake.pack import pack

if TYPE_CHECKING:
    from collections.abc import Callable

STORE = Path("data/bracs.h5")
PACK = (
    "data",
    "pack",
    "features",
    "--dataset",
    "bracs",
    "--labels",
    "labels.csv",
    "--workers",
    "1",
)


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("features").mkdir()
    write_label_table(Path("labels.csv"), {"a": "N", "b": "IC"})


def write_bomb(path: Path, name: str = "features", rows: int = 2**15) -> None:
    """A file whose zeros take 2**27 bytes in memory and few on the disk."""
    with h5py.File(path, "a") as file:
        values = np.zeros((rows, 1024), np.float32)
        file.create_dataset(name, data=values, chunks=(1024, 1024), compression="gzip")


def test_a_compressed_bomb_is_refused_and_named(capsys: pytest.CaptureFixture) -> None:
    write_bomb(Path("features/a.h5"))
    write_h5(Path("features/b.h5"), some_features(3, 1024))
    assert main([*PACK]) == 2
    message = capsys.readouterr().err
    assert "features/a.h5 holds " in message
    assert "bytes that unpack to 134,217,728" in message
    assert "allow it with --max-expansion (now 100)" in message
    assert main(["data", "inspect", "features"]) == 1
    assert "features/a.h5 holds " in capsys.readouterr().out


def test_a_file_that_expands_is_read_if_that_is_meant(capsys: pytest.CaptureFixture) -> None:
    write_bomb(Path("features/a.h5"))
    write_h5(Path("features/b.h5"), some_features(3, 1024))
    assert main([*PACK, "--max-expansion", "2000"]) == 0
    assert BagStore(STORE).rows == 2**15 + 3


def test_compressed_coordinates_are_measured_too(capsys: pytest.CaptureFixture) -> None:
    write_h5(Path("features/a.h5"), some_features(3, 4))
    write_bomb(Path("features/a.h5"), "coords")
    assert main([*PACK]) == 2
    assert "bytes that unpack to 134,217,728" in capsys.readouterr().err


def test_a_little_file_may_expand_as_it_likes() -> None:
    for i, slide in enumerate("ab"):
        with h5py.File(f"features/{slide}.h5", "w") as file:
            values = np.zeros((2000, 64), np.float32)
            values[0] = i
            file.create_dataset("features", data=values, chunks=(2000, 64), compression="gzip")
    assert main([*PACK]) == 0


@pytest.mark.parametrize("more", [(), ("--max-expansion", "2000")])
def test_a_compressed_bomb_of_bags_is_refused(
    more: tuple[str, ...], capsys: pytest.CaptureFixture
) -> None:
    features = np.zeros((2**14, 2048), np.float32)
    np.savez_compressed("bags.npz", features=features, offsets=[0, 9, 2**14], labels=[0, 1])
    code = main(["data", "inspect", "bags.npz", *more])
    text = capsys.readouterr()
    assert ("bags.npz holds" in text.err) == (not more)
    assert code == (1 if more else 2)  # two bags of zeros are copies with different labels


@pytest.mark.parametrize("number", ["0", "-1", "nan"])
def test_an_expansion_that_is_no_number_is_bad_input(
    number: str, capsys: pytest.CaptureFixture
) -> None:
    assert main([*PACK, f"--max-expansion={number}"]) == 2
    assert "is not a number from 1 on" in capsys.readouterr().err


def h5_under(name: str) -> Callable[[Path, np.ndarray], object]:
    def write(path: Path, features: np.ndarray) -> None:
        with h5py.File(path.with_suffix(".h5"), "w") as file:
            file[name] = features
            file["other"] = np.zeros((2, 2))

    return write


NAMED = {
    "h5": (h5_under("uni2"), "uni2"),
    "h5 in a group": (h5_under("encoders/uni2"), "encoders/uni2"),
    "h5 with a slash in front": (h5_under("uni2"), "/uni2"),
    "pt": (lambda path, x: write_pt(path.with_suffix(".pt"), {"uni2": torch.tensor(x)}), "uni2"),
    "bare pt": (lambda path, x: write_pt(path.with_suffix(".pt"), torch.tensor(x)), "uni2"),
}


@pytest.mark.parametrize(("write", "key"), NAMED.values(), ids=NAMED)
def test_features_under_another_name_are_read_with_their_key(
    write: Callable[[Path, np.ndarray], object], key: str, capsys: pytest.CaptureFixture
) -> None:
    for i, slide in enumerate("ab"):
        write(Path("features") / slide, some_features(3, 4, seed=i))
    assert main([*PACK, "--key", key]) == 0
    assert np.array_equal(BagStore(STORE).bag(1).features, some_features(3, 4, seed=1))
    assert main(["data", "inspect", "features", "--key", key]) == 0


def test_a_key_chooses_among_several_sets(capsys: pytest.CaptureFixture) -> None:
    for i, slide in enumerate("ab"):
        write_h5(Path(f"features/{slide}.h5"), some_features(3, 4, seed=i))
        with h5py.File(f"features/{slide}.h5", "r+") as file:
            file["feats"] = some_features(3, 5, seed=10 + i)
    assert main([*PACK]) == 2
    assert "several datasets of features (features, feats)" in capsys.readouterr().err
    assert main([*PACK, "--key", "feats"]) == 0
    assert np.array_equal(BagStore(STORE).bag(0).features, some_features(3, 5, seed=10))


def test_a_key_that_no_file_has_is_told_with_what_there_is(capsys: pytest.CaptureFixture) -> None:
    write_h5(Path("features/a.h5"), some_features())
    assert main([*PACK, "--key", "uni"]) == 2
    message = capsys.readouterr().err
    assert "features/a.h5 has no dataset 'uni' (it holds: features)" in message
    assert "--key" in message


def test_a_key_through_a_link_is_not_followed(capsys: pytest.CaptureFixture) -> None:
    write_h5(Path("elsewhere.h5"), some_features())
    with h5py.File("features/a.h5", "w") as file:
        file["other"] = h5py.ExternalLink("../elsewhere.h5", "/")
    assert main([*PACK, "--key", "other/features"]) == 2
    assert "as a link to another place, which is not followed" in capsys.readouterr().err


DOUBLE = {
    "h5": lambda slide, x: write_h5(Path(f"features/{slide}.h5"), x),
    "npy": lambda slide, x: write_npy(Path(f"features/{slide}.npy"), x),
    "pt": lambda slide, x: write_pt(Path(f"features/{slide}.pt"), torch.tensor(x)),
    "NumPy in a pt": lambda slide, x: write_pt(Path(f"features/{slide}.pt"), x),
}


@pytest.mark.parametrize("write", DOUBLE.values(), ids=DOUBLE)
def test_float64_is_packed_as_float32_and_said_once(
    write: Callable[[str, np.ndarray], object], capsys: pytest.CaptureFixture
) -> None:
    doubles = [some_features(3, 4, "float64", seed=i) for i in range(2)]
    for slide, features in zip("ab", doubles, strict=True):
        write(slide, features)
    assert main([*PACK]) == 0
    assert "2 files hold float64 features, which are packed as float32." in capsys.readouterr().out
    store = BagStore(STORE)
    assert store.dtype == np.float32
    assert np.array_equal(store.features, np.concatenate(doubles).astype(np.float32))
    main(["data", "inspect", "features"])
    text = capsys.readouterr().out
    assert text.count("2 files hold float64 features, which are read as float32.") == 1


def test_float64_that_float32_cannot_hold_is_refused(capsys: pytest.CaptureFixture) -> None:
    write_h5(Path("features/a.h5"), np.full((3, 4), 1e300))
    write_h5(Path("features/b.h5"), some_features(3, 4, "float64"))
    assert main([*PACK]) == 2
    assert "a.h5: 3 of 3 instances hold NaN or infinite features" in capsys.readouterr().err


def test_packing_and_reading_need_no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for i, slide in enumerate("ab"):
        write_h5(Path(f"features/{slide}.h5"), some_features(seed=i))
    pack(Path("features"), BRACS, Path("labels.csv"), Path("data"), unwatched, workers=0)
    assert len(BagStore(STORE)) == 2
    assert [path.name for path in Path("data").iterdir()] == ["bracs.h5"]
