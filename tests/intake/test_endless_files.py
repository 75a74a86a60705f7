"""Files on which HDF5 loops for ever, and readers that end their process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from feature_files import some_features, write_h5, write_label_table

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.opening import open_bags
from mil_bench.bags.reading_process import NoEndError, ReadingProcess
from mil_bench.bags.store import create_store
from mil_bench.cli import main
from mil_bench.errors import InputError, MilBenchError
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLIDES = ("a", "b", "c")
HEAP = b"GCOL"  # HDF5 keeps texts in such heaps, in which every object states its size


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three slides whose coordinates have attributes of text; that of b has lost some bytes."""
    monkeypatch.chdir(tmp_path)
    for i, slide in enumerate(SLIDES):
        path = write_h5(Path("features") / f"{slide}.h5", some_features(5, 4, seed=i))
        with h5py.File(path, "r+") as file:
            file["features"].attrs["encoder"] = "uni"
    loop(Path("features/b.h5"))
    write_label_table(Path("labels.csv"), dict.fromkeys(SLIDES, "N"))
    return tmp_path


def loop(path: Path) -> None:
    """Set the size of a heap's first object to zero: the next one is then sought at its place."""
    raw = bytearray(path.read_bytes())
    heap = raw.index(HEAP) + 16
    raw[heap : heap + 16] = bytes(16)
    path.write_bytes(raw)


@pytest.fixture
def reader() -> Iterator[ReadingProcess]:
    process = ReadingProcess()
    yield process
    process.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_file_without_an_end_is_named_and_the_others_are_read(
    folder: Path, workers: str, capsys: pytest.CaptureFixture
) -> None:
    words = ("--dataset", "bracs", "--labels", "labels.csv", "--workers", workers)
    assert main(["data", "pack", "features", *words]) == 2
    message = capsys.readouterr().err
    assert "features/b.h5 has no end for the library that reads it" in message
    assert "1 problem\n" in message


@pytest.mark.slow
def test_inspection_goes_on_after_a_file_without_an_end(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["data", "inspect", "features"]) == 1
    text = capsys.readouterr().out
    assert "features/b.h5 has no end for the library that reads it" in text
    assert "features: 2 bags, 10 instances, 4 features" in text


@pytest.mark.slow
def test_a_store_without_a_seal_that_has_no_end_is_refused(tmp_path: Path) -> None:
    header = StoreHeader("toy", LabelHierarchy.flat(("a", "b")), 4, 3, "float32", "test", "patient")
    path = tmp_path / "toy.h5"
    with create_store(path, header) as writer:
        for i in range(2):
            writer.add(Bag(Slide(f"s{i}", i, f"p{i}"), np.ones((2, 3), np.float32)))
    with h5py.File(path, "r+") as file:
        del file.attrs["sealed"]
    loop(path)
    with pytest.raises(InputError, match=r"toy.h5 cannot be read as a bag store: it has no end"):
        open_bags(path)


def test_results_come_back_and_the_process_stays(reader: ReadingProcess) -> None:
    assert [reader.call(abs, -i, 0) for i in range(3)] == [0, 1, 2]
    assert len({reader.call(os.getpgid, 0, 0) for _ in range(2)}) == 1


@pytest.mark.parametrize(
    ("work", "item", "reason"),
    [
        pytest.param(sum, range(10**15), "has no end", marks=pytest.mark.slow),
        (signal.raise_signal, signal.SIGSEGV, "ended the process that read it (SIGSEGV)"),
        (os._exit, 7, "ended the process that read it (exit code 7)"),
    ],
    ids=["never", "crash", "leave"],
)
def test_work_that_ends_its_process_costs_one_item(
    reader: ReadingProcess, work: Callable[[Any], Any], item: Any, reason: str
) -> None:
    with pytest.raises(NoEndError) as caught:
        reader.call(work, item, 0)
    assert reason in str(caught.value)
    assert reader.call(abs, -3, 0) == 3


def test_errors_of_the_work_are_raised_with_their_type_and_text(reader: ReadingProcess) -> None:
    with pytest.raises(ValueError, match="invalid literal for int"):
        reader.call(int, "x", 0)


def test_closing_ends_a_call_that_waits(reader: ReadingProcess) -> None:
    reader.call(abs, 1, 0)
    threading.Timer(0.2, reader.close).start()
    started = time.perf_counter()
    with pytest.raises(MilBenchError, match="Stopped"):
        reader.call(time.sleep, 60, 0)
    assert time.perf_counter() - started < 10
