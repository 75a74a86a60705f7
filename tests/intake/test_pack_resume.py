"""Interrupted packing: nothing is packed twice, and the file is the undisturbed one."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from feature_files import some_features, write_h5, write_label_table
from filelock import FileLock
from mil_bench.benchmarks.bracs import BRACS

from mil_bench.bags.store import BagStore
from mil_bench.errors import InputError, MilBenchError, StorageError
from mil_bench.intake import row_packing
from mil_bench.intake.folders import find_feature_files
from mil_bench.intake.pack import Packed, pack
from mil_bench.progress import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SLIDES = 12
LABELS = {f"s{i:02d}": BRACS.hierarchy.fine[i % 7] for i in range(SLIDES)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve slides with coordinates and their sheet ``labels.csv`` beside the folder."""
    for i, slide in enumerate(LABELS):
        coords = np.arange(2 * (i + 3)).reshape(-1, 2)
        write_h5(
            tmp_path / "features" / f"{slide}.h5",
            some_features(i + 3, 8, seed=i),
            coords,
            "uni",
            256,
        )
    write_label_table(tmp_path / "labels.csv", LABELS)
    return tmp_path / "features"


def pack_into(folder: Path, data: Path, workers: int = 0, watch=unwatched) -> Packed:
    return pack(folder, BRACS, folder.parent / "labels.csv", data, watch, workers)


def stopped_after(
    folder: Path, data: Path, slides: int, error: type[BaseException] = KeyboardInterrupt
) -> None:
    """A call that is interrupted when so many slides are packed."""

    def watch(items: Iterable, count: int, what: str) -> Iterable:
        for i, item in enumerate(items):
            yield item
            if what == "packing" and i + 1 == slides:
                raise error

    with pytest.raises(error):
        pack_into(folder, data, watch=watch)


def slides_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The slides whose rows are read from now on."""
    read: list[str] = []
    original = row_packing.read_rows

    def noted(opened):
        read.append(opened.file.slide)
        return original(opened)

    monkeypatch.setattr(row_packing, "read_rows", noted)
    return read


def content(data: Path) -> bytes:
    assert [path.name for path in data.iterdir()] == ["bracs.h5"]
    return (data / "bracs.h5").read_bytes()


def test_an_interrupted_pack_goes_on_where_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_into(folder, tmp_path / "calm")
    stopped_after(folder, tmp_path / "data", 5)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        ".bracs.h5.packing",
        ".bracs.h5.packing.journal",
    ]
    read = slides_read(monkeypatch)
    assert pack_into(folder, tmp_path / "data").resumed == 5
    assert read == list(LABELS)[5:]
    assert content(tmp_path / "data") == content(tmp_path / "calm")


def test_several_processes_write_the_same_file_as_one(folder: Path, tmp_path: Path) -> None:
    pack_into(folder, tmp_path / "one")
    pack_into(folder, tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")


# Where the tests run in the background of a script, they and their children ignore Ctrl-C; a user's
# terminal does not.
PACK = (
    "import signal, sys; from mil_bench.cli import main\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
)
# In a file that Python runs at its start, so that it holds for the processes that read, too.
SLOW = (
    "import time; from mil_bench.intake import row_packing\n"
    "write = row_packing.RowFile.write\n"
    "def slow(*a): time.sleep(0.02); return write(*a)\n"
    "row_packing.RowFile.write = slow\n"
)


def start(folder: Path, data: Path, *words: str, slow: bool = True) -> subprocess.Popen:
    site = folder.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SLOW if slow else "")
    command = [
        sys.executable,
        "-c",
        PACK,
        "data",
        "pack",
        str(folder),
        "--dataset",
        "bracs",
    ]
    command += ["--labels", str(folder.parent / "labels.csv"), "--data", str(data), *words]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for_slides(data: Path, slides: int) -> None:
    journal = data / ".bracs.h5.packing.journal"
    for _ in range(3000):
        if journal.exists() and journal.read_bytes().count(b"\n") > slides:
            return
        time.sleep(0.01)
    raise AssertionError("packing did not get that far")


@pytest.mark.slow
def test_a_killed_pack_is_repeated_and_gives_the_undisturbed_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_into(folder, tmp_path / "calm")
    data = tmp_path / "data"
    for slides in (2, 6):
        process = start(folder, data, "--workers", "1")
        wait_for_slides(data, slides)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (data / "bracs.h5").exists()
    read = slides_read(monkeypatch)
    resumed = pack_into(folder, data).resumed
    assert resumed >= 6
    assert read == list(LABELS)[resumed:]
    assert content(data) == content(tmp_path / "calm")


def test_ctrl_c_says_where_the_unfinished_store_lies(folder: Path, tmp_path: Path) -> None:
    process = start(folder, tmp_path / "data", "--workers", "1")
    wait_for_slides(tmp_path / "data", 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    hidden = tmp_path / "data" / ".bracs.h5.packing"
    assert (
        f"stopped. What is packed so far is in {hidden}; the same command continues from there"
        in errors
    )
    assert "Traceback" not in errors
    assert hidden.exists()
    assert not (tmp_path / "data" / "bracs.h5").exists()


@pytest.mark.slow
def test_of_two_packs_at_once_the_second_is_told_so(folder: Path, tmp_path: Path) -> None:
    first = start(folder, tmp_path / "data", "--workers", "1")
    wait_for_slides(tmp_path / "data", 2)
    with pytest.raises(
        StorageError, match=r"Another process is packing .*bracs.h5 at this moment. Wait for it"
    ):
        pack_into(folder, tmp_path / "data")
    output, errors = first.communicate()
    assert first.returncode == 0, errors
    assert "12 slides" in output
    pack_into(folder, tmp_path / "calm")
    assert content(tmp_path / "data") == content(tmp_path / "calm")


def test_a_lock_that_a_killed_process_left_does_not_count(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    stopped_after(folder, data, 2)
    (data / ".bracs.h5.packing.lock").touch()
    assert pack_into(folder, data).resumed == 2


def test_the_lock_of_a_file_that_was_removed_meanwhile_does_not_count(
    folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    stopped_after(folder, data, 2)
    lock = data / ".bracs.h5.packing.lock"
    with FileLock(lock):
        lock.rename(tmp_path / "gone")  # as the process that finishes removes it
        assert pack_into(folder, data).resumed == 2


def test_a_file_that_was_changed_in_between_is_packed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    stopped_after(folder, data, 5)
    other = some_features(5, 8, seed=99)
    write_h5(folder / "s02.h5", other, np.arange(10).reshape(5, 2), "uni", 256)
    read = slides_read(monkeypatch)
    store = pack_into(folder, data).store
    assert read == ["s02", *list(LABELS)[5:]]
    assert store.bag(2).features.tobytes() == other.tobytes()


def test_a_file_with_other_rows_means_a_new_beginning(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    stopped_after(folder, data, 5)
    write_h5(folder / "s02.h5", some_features(9, 8), np.arange(18).reshape(9, 2), "uni", 256)
    assert pack_into(folder, data).resumed == 0
    pack_into(folder, tmp_path / "calm")
    assert content(data) == content(tmp_path / "calm")


def test_labels_may_be_corrected_before_packing_goes_on(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    stopped_after(folder, data, 5)
    write_label_table(tmp_path / "labels.csv", LABELS | {"s01": "IC"})
    packed = pack_into(folder, data)
    assert packed.resumed == 5
    assert packed.store.labels[1] == 6
    pack_into(folder, tmp_path / "calm")
    assert content(data) == content(tmp_path / "calm")


def test_rows_that_were_lost_with_the_power_are_packed_again(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    stopped_after(folder, data, 5)
    hidden = data / ".bracs.h5.packing"
    raw = bytearray(hidden.read_bytes())
    first = some_features(3, 8, seed=0).tobytes()
    place = raw.index(first)
    hidden.write_bytes(bytes(raw[:place]) + bytes(len(first)) + bytes(raw[place + len(first) :]))
    pack_into(folder, data)
    pack_into(folder, tmp_path / "calm")
    assert content(data) == content(tmp_path / "calm")


def test_a_kill_while_the_index_is_written_does_no_harm(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(
            "mil_bench.durable.publish", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            pack_into(folder, data)
    assert pack_into(folder, data).resumed == SLIDES
    pack_into(folder, tmp_path / "calm")
    assert content(data) == content(tmp_path / "calm")


def test_a_kill_between_the_two_names_leaves_the_stored_file_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr("mil_bench.intake.partial_store.PartialStore.discard", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack_into(folder, data)
    stored = (data / "bracs.h5").read_bytes()
    (data / "bracs.h5").rename(tmp_path / "kept.h5")
    write_label_table(tmp_path / "labels.csv", LABELS | {"s01": "IC"})
    pack_into(folder, data)
    assert (tmp_path / "kept.h5").read_bytes() == stored
    assert BagStore(data / "bracs.h5").labels[1] == 6


def test_a_store_that_comes_up_while_a_pack_waits_is_not_replaced(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    pack_into(folder, data)
    stored = content(data)
    monkeypatch.setattr(
        "mil_bench.intake.pack._refuse_name", lambda *arguments: None
    )  # it was not there yet
    with pytest.raises(
        StorageError,
        match=r"bracs.h5 was made by another process in the meantime; it was not replaced",
    ):
        pack_into(folder, data)
    assert content(data) == stored


def test_a_journal_of_nonsense_means_a_new_beginning(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / ".bracs.h5.packing").write_bytes(b"nonsense")
    (data / ".bracs.h5.packing.journal").write_bytes(b'{"layout": 1}\n[1]\nnull\n{"slide"\xff')
    assert pack_into(folder, data).resumed == 0


def test_a_problem_that_is_found_late_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    stopped_after(folder, tmp_path / "data", 5)
    broken = some_features(14, 8)
    broken[3, 3] = np.nan
    write_h5(folder / "s11.h5", broken, np.arange(28).reshape(14, 2), "uni", 256)
    with pytest.raises(InputError, match=r"s11.h5: 1 of 14 instances hold NaN"):
        pack_into(folder, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_problems_are_the_same_in_several_processes(folder: Path, tmp_path: Path) -> None:
    for slide in ("s03", "s10"):
        write_h5(
            folder / f"{slide}.h5",
            np.full((4, 8), np.nan, np.float32),
            np.zeros((4, 2)),
            "uni",
            256,
        )
    (folder / "s05.h5").write_text("no features")
    messages = []
    for workers in (0, 1, 2):
        with pytest.raises(InputError) as caught:
            pack_into(folder, tmp_path / "data", workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] == messages[2]
    assert "3 problems" in messages[0]


def test_a_disk_that_is_full_is_said_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(StorageError) as caught:
            pack_into(folder, tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert f"Cannot write {tmp_path / 'data' / 'bracs.h5'}: File too large. Free space" in str(
        caught.value
    )
    assert not (tmp_path / "data").exists()


def test_a_file_that_grows_while_it_is_read_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = row_packing._stamp
    seen: list[Path] = []

    def another_time(file):
        seen.append(file.path)
        return (*original(file), seen.count(file.path)) if file.slide == "s04" else original(file)

    monkeypatch.setattr(row_packing, "_stamp", another_time)
    with pytest.raises(
        InputError,
        match=r"s04.h5 changed while it was being read; pack when it is complete",
    ):
        pack_into(folder, tmp_path / "data")


def killed(found: object) -> None:
    """What the system does to a process if memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_told_of_and_packing_goes_on(folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(
            MilBenchError,
            match="A process that reads feature files was killed, as happens when memory runs out",
        ),
        row_packing.spread_over(2) as spread,
    ):
        list(spread(killed, find_feature_files(folder)))


def test_witnesses_get_the_class_of_their_bag(tmp_path: Path) -> None:
    for place in ("features", "patch_labels", "coords"):
        (tmp_path / "set" / place).mkdir(parents=True)
    for i, slide in enumerate(("a", "b")):
        np.save(tmp_path / "set" / "features" / f"{slide}.npy", some_features(3, 4, seed=i))
        np.save(tmp_path / "set" / "coords" / f"{slide}.npy", np.zeros((3, 2), np.int64))
        np.save(tmp_path / "set" / "patch_labels" / f"{slide}.npy", np.array([0, 1, i]))
    sheet = write_label_table(tmp_path / "labels.csv", {"a": "IC", "b": "N"})
    store = pack(tmp_path / "set", BRACS, sheet, tmp_path / "data", unwatched).store
    assert store.instance_labels.tolist() == [-1, 6, -1, -1, 0, 0]
