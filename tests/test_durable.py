"""Durable files: whole or absent, first writer wins, and a full disk touches nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mil_bench import durable
from mil_bench.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"result-{i:02d}.bin" for i in range(50)]
PROCESSES = 8
LENGTH = 20_000


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    durable.write_once(tmp_path / "a" / "b" / "c.bin", lambda file: file.write(b"content"))
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"content"
    assert names_in(tmp_path) == ["a", "b", "c.bin"]


def test_write_once_does_not_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    durable.write_once(path, lambda file: file.write(b"first"))
    durable.write_once(path, lambda file: file.write(b"second"))
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["x.bin"]


def test_replace_overwrites_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    durable.replace(path, "first")
    inode = path.stat().st_ino
    durable.replace(path, "zweite Fassung, größer")
    assert path.read_text(encoding="utf-8") == "zweite Fassung, größer"
    assert path.stat().st_ino != inode
    assert names_in(tmp_path) == ["table.md"]


def test_the_final_name_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with durable.new_file(path) as temporary:
        temporary.write_bytes(b"half")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert not temporary.exists()


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def fill(file) -> None:
        file.write(b"half")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        durable.write_once(tmp_path / "x.bin", fill)
    assert names_in(tmp_path) == []


def test_what_exists_is_not_even_written_a_second_time(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    durable.write_once(path, lambda file: file.write(b"first"))
    durable.write_once(path, lambda file: file.write(b"x" * (1 // 0)))
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["x.bin"]


def test_a_full_disk_names_the_path_and_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.write_once(tmp_path / "earlier.bin", lambda file: file.write(b"earlier"))
    durable.replace(tmp_path / "table.md", "earlier")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError) as caught:
        durable.write_once(tmp_path / "new.bin", lambda file: file.write(b"new"))
    assert f"Cannot write {tmp_path / 'new.bin'}: No space left on device" in str(caught.value)
    assert "Free space" in str(caught.value)
    with pytest.raises(StorageError) as caught:
        durable.replace(tmp_path / "table.md", "new")
    assert str(tmp_path / "table.md") in str(caught.value)
    assert names_in(tmp_path) == ["earlier.bin", "table.md"]
    assert (tmp_path / "earlier.bin").read_bytes() == b"earlier"
    assert (tmp_path / "table.md").read_text() == "earlier"


def test_the_same_write_succeeds_once_there_is_space(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StorageError):
            durable.write_once(path, lambda file: file.write(b"content"))
    durable.write_once(path, lambda file: file.write(b"content"))
    assert path.read_bytes() == b"content"


def test_bytes_reach_the_disk_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.bin"
    flushed = []

    def watched(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", watched)
    durable.write_once(path, lambda file: file.write(b"content"))
    assert (7, False) in flushed
    assert path.exists()


@pytest.mark.parametrize("write", ["write_once", "replace"])
def test_a_file_in_place_of_the_folder_is_a_storage_error(tmp_path: Path, write: str) -> None:
    (tmp_path / "results").write_text("a file stands here")
    path = tmp_path / "results" / "x.bin"
    content = "text" if write == "replace" else lambda file: file.write(b"content")
    with pytest.raises(StorageError) as caught:
        getattr(durable, write)(path, content)
    assert f"Cannot write {path}: " in str(caught.value)
    assert "choose a folder you may write to" in str(caught.value)
    assert (tmp_path / "results").read_text() == "a file stands here"
    assert names_in(tmp_path) == ["results"]


def race(folder: Path, writer: int, start) -> None:
    """One racing process: tries to write every name with its own content."""
    start.wait(timeout=60)
    for name in NAMES:
        durable.write_once(folder / name, lambda file: file.write(bytes([writer]) * LENGTH))


@pytest.mark.slow
def test_racing_processes_leave_whole_files_of_one_writer_each(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # as torch's threads forbid a fork
    start = context.Barrier(PROCESSES)
    processes = [
        context.Process(target=race, args=(tmp_path, writer, start), daemon=True)
        for writer in range(1, PROCESSES + 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert names_in(tmp_path) == NAMES
    for name in NAMES:
        content = (tmp_path / name).read_bytes()
        assert len(content) == LENGTH
        assert len(set(content)) == 1
        assert 1 <= content[0] <= PROCESSES


def test_what_a_killed_process_has_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    left = tmp_path / f".x.bin.{platform.node()}-{dead.stdout.strip()}-0.partial"
    living = tmp_path / f".x.bin.{platform.node()}-{os.getpid()}-0.partial"
    for path in (left, living):
        path.write_text("half")
    durable.write_once(tmp_path / "x.bin", lambda file: file.write(b"whole"))
    assert names_in(tmp_path) == [living.name, "x.bin"]


def test_space_that_is_not_there_is_refused_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: int) -> None:
        full_disk(0)

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with (
        pytest.raises(StorageError, match=r"store.h5: No space left on device"),
        durable.new_file(tmp_path / "store.h5") as t,
    ):
        durable.reserve(t, 10**9)
    assert names_in(tmp_path) == []


def without_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EOPNOTSUPP) -> None:
    def refused(*paths: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS])
def test_without_hard_links_the_first_writer_wins_too(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch, number)
    path = tmp_path / "x.bin"
    with durable.new_file(path) as late:
        late.write_bytes(b"second")
        durable.write_once(path, lambda file: file.write(b"first"))
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["x.bin"]


def test_another_fault_of_a_link_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch, errno.EIO)
    with pytest.raises(StorageError, match=r"x.bin: Input/output error"):
        durable.write_once(tmp_path / "x.bin", lambda file: file.write(b"content"))
    assert names_in(tmp_path) == []


HOLD = """
import sys, time
from pathlib import Path
from filelock import _unix
import errno, os
def refused(descriptor):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
_unix.lock_fd_nonblocking = refused
from mil_bench import durable
with durable.exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_without_system_locks_a_file_that_names_its_process_keeps_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import Timeout, _unix

    def refused(descriptor: int) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(_unix, "lock_fd_nonblocking", refused)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Timeout):
        durable.acquired(tmp_path / ".lock", patience=0)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    durable.acquired(tmp_path / ".lock", patience=10).release()
