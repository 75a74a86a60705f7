"""Readers that other packages bring."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from feature_files import some_features, write_h5, write_label_table

from mil_bench import registry
from mil_bench.bags.store import BagStore
from mil_bench.cli import main
from mil_bench.datasets.slide_ids import without_ending
from mil_bench.intake.readers import BUILT_IN
from mil_bench.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.intake.readers import Reader

MAGIC = b"ROWS"
PACKAGE = """
from dataclasses import dataclass

import numpy as np

from mil_bench.intake.readers import FeatureFile, RawBag, Reader

MAGIC = b"ROWS"


@dataclass(frozen=True, kw_only=True)
class RowsFile(FeatureFile):
    @classmethod
    def open(cls, path, slide):
        rows, width = np.fromfile(path, np.int32, 2, offset=len(MAGIC)).tolist()
        return cls(path=path, slide=slide, format=".rows", rows=rows, width=width, dtype="float32")

    def load(self):
        features = np.fromfile(self.path, np.float32, offset=len(MAGIC) + 8)
        return RawBag(features.reshape(self.rows, self.width))


def open_named(path, slide):
    raise AssertionError("it was asked")


READER = Reader(
    "the .rows of nobody", (".rows",), lambda start: start.content.startswith(MAGIC), RowsFile.open
)
ASKED = Reader("any HDF5", (".h5",), lambda start: "features" in start.datasets, open_named)
"""


def write_rows(path: Path, features: np.ndarray) -> None:
    path.write_bytes(MAGIC + np.array(features.shape, np.int32).tobytes() + features.tobytes())


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Installs a package whose entry point is one of the names in it."""
    monkeypatch.chdir(tmp_path)

    def put(name: str) -> None:
        site = tmp_path / "site"
        about = site / "rows_of_nobody-1.0.dist-info"
        about.mkdir(parents=True)
        (site / "package_with_a_reader.py").write_text(PACKAGE)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: rows-of-nobody\nVersion: 1\n")
        points = f"[mil_bench.readers]\nrows = package_with_a_reader:{name}\n"
        (about / "entry_points.txt").write_text(points)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, "package_with_a_reader", raising=False)
        monkeypatch.setattr(registry, "readers", Registry("mil_bench.readers", "reader"))

    return put


def pack(tmp_path: Path) -> int:
    write_label_table(tmp_path / "labels.csv", {"a": "N", "b": "IC"})
    words = ["data", "pack", "features", "--dataset", "bracs", "--labels", "labels.csv"]
    return main([*words, "--workers", "1"])


def test_a_package_brings_a_format_and_its_folder_is_packed(
    offer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    offer("READER")
    (tmp_path / "features").mkdir()
    features = {"a": some_features(3), "b": some_features(5, seed=1)}
    for slide, rows in features.items():
        write_rows(tmp_path / "features" / f"{slide}.rows", rows)
    assert pack(tmp_path) == 0
    assert "2 slides, 8 instances, 4 features (2 .rows)" in capsys.readouterr().out
    store = BagStore(tmp_path / "data" / "bracs.h5")
    assert store.features[:].tobytes() == np.concatenate(list(features.values())).tobytes()


def test_the_readers_of_packages_are_asked_before_the_built_in_ones(offer, tmp_path: Path) -> None:
    offer("ASKED")
    write_h5(tmp_path / "features" / "a.h5", some_features())
    with pytest.raises(AssertionError, match="it was asked"):
        pack(tmp_path)


def test_a_format_nobody_reads_is_refused_with_the_known_ones(
    offer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    offer("READER")
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "a.rows").write_bytes(b"something else")
    assert pack(tmp_path) == 2
    message = capsys.readouterr().err
    assert "a.rows is in no known format" in message
    for title in ("the .rows of nobody", *(reader.title for reader in BUILT_IN)):
        assert title in message


def test_an_entry_point_that_is_no_reader_is_refused(
    offer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    offer("RowsFile")
    write_h5(tmp_path / "features" / "a.h5", some_features())
    assert pack(tmp_path) == 2
    expected = "The reader 'rows' of rows-of-nobody (package_with_a_reader:RowsFile) is"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("reader", BUILT_IN, ids=lambda reader: reader.title)
def test_slide_ids_come_without_the_endings_of_the_built_in_readers(reader: Reader) -> None:
    assert {without_ending(f"slide-1{ending}") for ending in reader.endings} == {"slide-1"}
