"""What the hub can do to a user, and what the user is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hub_server import client_environment, get
from published import camelyon_uni, musk, npy, phikon, tar

if TYPE_CHECKING:
    import tarfile
    from pathlib import Path

    from hub_server import HubServer

MUSK = "mstz/musk"


def test_features_that_are_not_open_need_their_licence_accepted(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get("camelyon16-phikon", tmp_path) == 2
    said = capsys.readouterr()
    assert "non-commercial" in said.err
    assert "--accept-licence" in said.err
    assert "https://huggingface.co/datasets/owkin/camelyon16-features" in said.err
    assert not hub.requests


def test_a_gated_repository_names_its_page_and_takes_a_token(
    hub: HubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.repositories["owkin/camelyon16-features"] = repository = phikon()[0]
    repository.token = "hf_right"
    for token in ("", "hf_wrong"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        assert get("camelyon16-phikon", tmp_path, "--accept-licence") == 2
        said = capsys.readouterr().err
        assert "is gated" in said
        assert "https://huggingface.co/datasets/owkin/camelyon16-features" in said
        assert "HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert get("camelyon16-phikon", tmp_path, "--accept-licence") == 0
    stored = [headers for _, path, headers in hub.requests if path.startswith("/storage/")]
    assert stored
    assert not any("authorization" in {name.lower() for name in headers} for headers in stored)


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ([403], "forbids it"),
        ([404], "status 404"),
        ([429] * 6, "allows no more requests"),
        ([503] * 6, "status 503"),
    ],
)
def test_a_hub_that_refuses(
    statuses: list[int],
    words: str,
    hub: HubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.repositories[MUSK] = musk()[0]
    hub.behaviour.statuses = [*statuses]
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("*.h5"))
    hub.behaviour.statuses = []
    assert get("musk1", tmp_path, "--accept-licence") == 0


def test_a_hub_that_refuses_once_is_asked_again(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.repositories[MUSK] = musk()[0]
    hub.behaviour.statuses = [429]
    assert get("musk1", tmp_path, "--accept-licence") == 0


def test_a_repository_commit_or_file_that_is_gone(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert "mstz/musk is not there" in capsys.readouterr().err
    hub.repositories[MUSK] = repository = musk()[0]
    repository.commit = "0" * 40
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert "no longer has the commit" in capsys.readouterr().err
    hub.repositories[MUSK] = repository = musk()[0]
    repository.files = {"README.md": b"moved"}
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert "there is no clean1.data" in capsys.readouterr().err


def test_an_interrupted_transfer_continues_where_it_ended(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    repository = phikon(rows=300, width=20)[0]
    hub.repositories["owkin/camelyon16-features"] = repository
    size = sum(len(content) for content in repository.files.values())
    hub.behaviour.cut_after = size // 8
    assert get("camelyon16-phikon", tmp_path, "--accept-licence") == 0
    ranges = [headers.get("Range") for _, path, headers in hub.requests if "/storage/" in path]
    assert sum(text is not None for text in ranges) > 5
    assert hub.sent < 1.1 * size  # what had arrived was not sent again
    assert hub.most_transfers == 1


def test_a_transfer_that_never_ends_is_given_up(
    hub: HubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.repositories[MUSK] = musk()[0]
    hub.behaviour.cut_after = 0
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert "does not arrive" in capsys.readouterr().err
    hub.behaviour.cut_after = None
    assert get("musk1", tmp_path, "--accept-licence") == 0


def test_a_storage_that_knows_no_ranges(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.repositories[MUSK] = repository = musk()[0]
    size = len(repository.files["clean1.data"])
    hub.behaviour.cut_after, hub.behaviour.ignores_range = size // 2, True
    assert get("musk1", tmp_path, "--accept-licence") == 2  # half of it, again and again
    hub.behaviour.cut_after = None
    assert get("musk1", tmp_path, "--accept-licence") == 0


def test_bytes_that_are_not_those_that_were_announced(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories[MUSK] = repository = musk()[0]
    content = repository.files["clean1.data"]
    hub.behaviour.served["clean1.data"] = content[:-9] + b"666666666"
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert "is not what it announced" in capsys.readouterr().err
    hub.behaviour.served.clear()
    assert get("musk1", tmp_path, "--accept-licence") == 0


def test_a_file_that_changed_since_the_first_call(
    hub: HubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.repositories[MUSK] = repository = musk()[0]
    hub.behaviour.cut_after = 0
    assert get("musk1", tmp_path, "--accept-licence") == 2
    hub.behaviour.cut_after = None
    repository.files["clean1.data"] = musk(40)[0].files["clean1.data"]
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert "changed on the hub" in capsys.readouterr().err


def test_a_newer_commit_does_not_mix_with_the_first_one(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories["owkin/camelyon16-features"] = repository = phikon()[0]
    hub.behaviour.served["data/Phikon_train-00001-of-00002.parquet"] = b"x"
    assert get("camelyon16-phikon", tmp_path, "--accept-licence") == 2
    repository.commit = "1" * 40
    hub.behaviour.served.clear()
    assert get("camelyon16-phikon", tmp_path, "--accept-licence") == 2  # the first one is gone
    (tmp_path / "camelyon16-phikon.source.json").unlink()
    assert get("camelyon16-phikon", tmp_path, "--accept-licence") == 0


def test_offline_mode_asks_nobody(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[MUSK] = musk()[0]
    environment = os.environ | client_environment(hub, tmp_path / "hf") | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "mil_bench", "data", "get", "musk1", "--accept-licence"]
    run = subprocess.run(
        [*command, "--data", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "HF_HUB_OFFLINE is set" in run.stderr
    assert "Traceback" not in run.stderr
    assert not hub.requests


def test_a_hub_that_is_not_there(
    hub: HubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert get("camelyon16-phikon", tmp_path, "--accept-licence") == 2
    assert "The hub at http://127.0.0.1:9 does not answer" in capsys.readouterr().err


def _entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    import tarfile

    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


UNSAFE = {
    "a link": _entry("./slide_000.npy", b"2", "/etc/passwd"),
    "a hard link": _entry("./slide_000.npy", b"1", "slide_001.npy"),
    "a device": _entry("./slide_000.npy", b"3"),
    "an absolute path": _entry("/tmp/slide_000.npy", b"0"),
    "a path that leaves": _entry("../slide_000.npy", b"0"),
}


@pytest.mark.parametrize("what", UNSAFE)
def test_an_archive_with_an_unsafe_member_is_refused(
    what: str, hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, slides = camelyon_uni()
    features = "dataset/patches_512/features/features_UNI.tar.gz"
    members = {f"./{name}.npy": npy(slide.features) for name, slide in slides.items()}
    repository.files[features] = tar({"unsafe": UNSAFE[what], **members})
    hub.repositories["torchmil/Camelyon16_MIL"] = repository
    assert get("camelyon16-uni", tmp_path, "--accept-licence") == 2
    said = capsys.readouterr().err
    assert "slide_000.npy" in said
    assert "is neither a file nor a folder" in said or "leaves it" in said
    assert not (tmp_path / "camelyon16@uni.h5").exists()


def test_archives_that_are_damaged_or_hold_something_else(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, _ = camelyon_uni()
    features = "dataset/patches_512/features/features_UNI.tar.gz"
    whole = repository.files[features]
    import pickle

    import numpy as np

    objects = npy(np.zeros((2, 2), np.float32))[:-4]
    pickled = b"\x93NUMPY" + pickle.dumps([1])
    for content, words in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"no archive" * 400, "cannot be read"),
        (tar({"./slide_000.npy": objects}, "w"), "cannot be read"),
        (tar({"./slide_000.npy": pickled}, "w"), "cannot be read"),
        (tar({"./slide_000.npy": npy(np.full((3, 6), np.nan, np.float32))}, "w"), "NaN"),
        (tar({"./slide_999.npy": npy(np.zeros((3, 6), np.float32))}, "w"), "slide_999 has nothing"),
    ):
        repository.files[features] = content
        hub.repositories["torchmil/Camelyon16_MIL"] = repository
        (tmp_path / "camelyon16@uni.source.json").unlink(missing_ok=True)
        assert get("camelyon16-uni", tmp_path, "--accept-licence") == 2
        said = capsys.readouterr().err
        assert words in said
        assert "Traceback" not in said
