"""``data get`` that is killed, and the disk that it takes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hub_server import client_environment, get
from published import camelyon_uni, phikon

from mil_bench.intake.partial_store import hidden_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hub_server import HubServer

MADE = {
    "camelyon16-phikon": ("owkin/camelyon16-features", lambda: phikon(rows=300, width=64)),
    "camelyon16-uni": ("torchmil/Camelyon16_MIL", lambda: camelyon_uni(rows=600, width=96)),
}


def killed_until_done(
    name: str, hub: HubServer, data: Path, kills: int, chance: random.Random
) -> int:
    """Call until the store is there, and kill the first calls at random moments; the kills."""
    command = [sys.executable, "-m", "mil_bench", "data", "get", name, "--accept-licence"]
    environment = os.environ | client_environment(hub, data / "hf")
    done = 0
    while True:
        asked = len(hub.requests)
        process = subprocess.Popen(
            [*command, "--data", str(data)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while done < kills and process.poll() is None and len(hub.requests) == asked:
            time.sleep(0.01)  # until it has begun
        if done < kills and process.poll() is None:
            time.sleep(chance.uniform(0, 1.2))
            if process.poll() is None:
                process.kill()
                done += 1
        _, said = process.communicate()
        if process.returncode >= 0:
            assert process.returncode == 0, said.decode()
            return done


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_killed_calls_end_in_the_store_of_an_undisturbed_one(
    name: str, hub: HubServer, tmp_path: Path
) -> None:
    repository, make = MADE[name]
    hub.repositories[repository] = make()[0]
    assert get(name, tmp_path / "whole", "--accept-licence") == 0
    size = sum(len(content) for content in hub.repositories[repository].files.values())
    hub.behaviour.seconds_per_piece = 2**14 / size  # so that fetching takes a second
    chance = random.Random(7)
    assert killed_until_done(name, hub, tmp_path / "killed", 3, chance)
    names = sorted(path.name for path in (tmp_path / "whole").glob("camelyon16*"))
    assert len(names) >= 4  # store, labels, split, source
    for file in names:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not list((tmp_path / "killed").glob(".*"))


@pytest.mark.parametrize("name", MADE)
def test_nothing_large_is_on_the_disk_twice(name: str, hub: HubServer, tmp_path: Path) -> None:
    repository, make = MADE[name]
    files = make()[0].files
    hub.repositories[repository] = make()[0]
    with peak_of(tmp_path) as peak:
        assert get(name, tmp_path / "data", "--accept-licence") == 0
    (store,) = (path.stat().st_size for path in (tmp_path / "data").glob("*.h5"))
    assert peak() <= 1.1 * (store + max(map(len, files.values())))


class peak_of:  # reads as a function
    """The most bytes that a folder holds while a block runs."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._most, self._ends = folder, 0, threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> Callable[[], int]:
        self._thread.start()
        return lambda: self._most

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._ends.wait(0.002):
            self._most = max(self._most, self._held())

    def _held(self) -> int:
        blocks: dict[int, int] = {}
        for folder, _, names in os.walk(self._folder):
            for name in names:
                try:
                    status = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118
                except OSError:
                    continue
                blocks[status.st_ino] = status.st_blocks * 512
        return sum(blocks.values())


def test_rows_that_the_disk_lost_are_packed_again(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mil_bench.intake.growing_store import GrowingStore

    repository, make = MADE["camelyon16-uni"]
    hub.repositories[repository] = make()[0]
    assert get("camelyon16-uni", tmp_path / "whole", "--accept-licence") == 0
    whole = (tmp_path / "whole" / "camelyon16@uni.h5").read_bytes()
    complete = GrowingStore.complete

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GrowingStore, "complete", power_cut)
    assert get("camelyon16-uni", tmp_path, "--accept-licence") == 130
    monkeypatch.setattr(GrowingStore, "complete", complete)
    hidden = hidden_path(tmp_path / "camelyon16@uni.h5")
    size = hidden.stat().st_size
    with hidden.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(64))
    assert get("camelyon16-uni", tmp_path, "--accept-licence") == 0
    assert (tmp_path / "camelyon16@uni.h5").read_bytes() == whole
