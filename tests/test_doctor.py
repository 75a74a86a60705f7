"""What the doctor says of a machine, and that it names nobody."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from concurrent.futures import Executor, Future
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mil_bench import devices, durable
from mil_bench.cli import main
from mil_bench.commands.machine import doctor as command
from mil_bench.commands.machine import folders, hardware, software, speed
from mil_bench.commands.machine.finding import Finding
from mil_bench.results import Results
from mil_bench.tracking import local_file, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator


class Inline(Executor):
    """Calls at once; a call that fails fails later, as in a process."""

    def submit(self, call: Any, /, *args: Any, **named: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(call(*args, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@contextlib.contextmanager
def inline(workers: int) -> Iterator[Executor]:
    yield Inline()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short trainings on one core, in this process."""
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    monkeypatch.setattr(speed, "cores", lambda: 1)
    monkeypatch.setattr(speed, "local", inline)


@pytest.mark.filterwarnings("ignore")  # warnings of MLflow
@pytest.mark.usefixtures("quick")
def test_it_says_what_it_saw_as_json_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(hardware, "_allowed", lambda quota: 1e3)
    home = tmp_path / "alice"
    home.mkdir()
    words = ["doctor", "--results", str(home / "results"), "--data", str(home / "data"), "--json"]
    assert main(words) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["ok"]
    seen = {finding["subject"]: finding["seen"] for finding in content["findings"]}
    assert f"torch {metadata.version('torch')}" in seen["packages"]
    assert seen["results, locks"] == "work"
    assert "can be used" in seen["MLflow"]
    assert seen["training on one core"].endswith("bags per second")
    assert "alice" not in str(content)
    assert list(home.iterdir()) == []


def test_a_machine_without_problems_has_its_last_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_findings", lambda arguments: [Finding("cores", "8 usable")])
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out.split("\n")
    assert shown == ["  cores                    8 usable", "", "Nothing would go wrong.", ""]


@pytest.mark.filterwarnings("ignore")  # warnings of MLflow
@pytest.mark.usefixtures("quick")
def test_what_would_go_wrong_is_said_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://alice:secret@127.0.0.1:9")
    words = ["doctor", "--results", str(tmp_path / "file"), "--data", str(tmp_path)]
    monkeypatch.setattr(speed, "train", lambda *_: 1 / 0)
    monkeypatch.setattr(folders, "_LEAST_SPACE", 1e30)
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "data: A run may fill the disk. Free space, or name a folder on another disk." in text
    assert "results: It is a file" in text
    assert "MLflow: Runs would not be logged: " in text
    assert "training on one core: ZeroDivisionError: division by zero Use --device cpu" in text
    assert "MLFLOW_TRACKING_URI is set" in text
    assert not any(word in text for word in ("alice", "secret", "127.0.0.1"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read /home/alice/data/x.h5: no", "cannot read [path]: no"),
        (r"cannot read C:\Users\alice\x", "cannot read [path]"),
        ("('/home/alice')", "('[path]')"),
        ("~/alice, ../bob/c", "[path], [path]"),
        ("http://alice:word@lab.org/mlflow and sqlite:////home/a", "[address] and [address]"),
        ("17 bags/s and/or 3.2 of 4.0 GB", "17 bags/s and/or 3.2 of 4.0 GB"),
    ],
)
def test_paths_and_addresses_are_left_out(text: str, shown: str) -> None:
    assert Finding("x", text, text).shareable() == Finding("x", shown, shown)


def named(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_package_of_another_version_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["torch>=99", "not-there>=1", "numpy>=1", "dask>=99; extra == 'dask'"]
    monkeypatch.setattr(metadata, "requires", lambda name: required)
    found = named(software.findings())
    assert "tested with torch >=99 only" in found["torch"].problem
    assert found["not-there"].seen == "is not installed"
    assert found["packages"].seen == f"numpy {metadata.version('numpy')}"
    assert "dask" not in found


@pytest.mark.parametrize(("quota", "workers"), [("150000 100000", 1), ("max 100000", 0), ("", 0)])
def test_a_container_with_less_time_than_cores_is_a_problem(
    tmp_path: Path, quota: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    (tmp_path / "cpu.max").write_text(quota)
    remedy = named(hardware.findings(tmp_path / "cpu.max"))["cores"].remedy
    assert remedy == (f"Use --workers {workers}." if workers else "")


def test_a_driver_without_a_gpu_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = named(hardware.findings())["GPU"]
    assert "torch finds no GPU" in found.problem
    assert "built without CUDA" in found.remedy or "nvidia-smi" in found.remedy


def test_gpus_are_listed_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_names", lambda: ["cuda:0", "cuda:1"])
    monkeypatch.setattr(devices, "memory_of", lambda device: (10**9, 8 * 10**10))
    monkeypatch.setattr(devices, "model_of", lambda device: f"card {device.index}")
    found = named(hardware.findings())
    assert found["cuda:1"].seen == "card 1, 1.0 of 80.0 GB of memory free"
    assert "GPU" not in found


def test_a_folder_without_links_or_locks_or_the_time_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(errno.EPERM, "no links")

    class Free:
        def release(self) -> None:
            pass

    assert not any(finding.problem for finding in folders.findings("data", tmp_path))
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(durable, "acquired", lambda path, patience: Free())
    monkeypatch.setattr(folders.time, "time", lambda: 0.0)
    found = named(folders.findings("data", tmp_path))
    assert "lock files" in found["data, hard links"].seen
    assert "do the same work" in found["data, locks"].problem
    assert "expired" in found["data, clock"].problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (found,) = folders.findings("results", tmp_path)
    assert "Permission denied" in found.problem


def test_other_losses_than_those_of_a_cpu_are_a_problem(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpu_names", lambda: ["cuda:0", "cuda:1", "cuda:2"])
    results = {"cpu": (10.0, 1.0), "cuda:0": (500.0, 1.01), "cuda:1": (500.0, float("nan"))}

    def train(device: str, method: str, seconds: float) -> speed.Trained:
        if device not in results:
            raise RuntimeError("CUDA error: no kernel image is available\nmore")
        return speed.Trained(*results[device])

    monkeypatch.setattr(speed, "train", train)
    found = named(speed.findings("abmil", 0.1, print))
    assert found["training on cuda:0"] == Finding(
        "training on cuda:0", "500 bags per second, 50.0 times one core"
    )
    assert "Do not trust" in found["training on cuda:1"].remedy
    assert found["training on cuda:2"].remedy.startswith("Install a torch that was built for")


def test_a_training_of_the_doctor_takes_steps_as_a_gpu_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_ROWS", 60), ("_FOLDS", 2), ("_BAGS", 2)):  # quick
        monkeypatch.setattr(speed, name, value)
    looped = speed.train("cpu", "abmil", 0.01)
    monkeypatch.setattr(speed.devices, "is_cpu", lambda where: False)
    assert speed.train("cpu", "abmil", 0.01).loss == pytest.approx(looped.loss, rel=0.05)


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(reaching, "_LONGEST_ANSWER", 0.1)
    monkeypatch.setattr(reaching, "_try", lambda results: time.sleep(1))
    assert reaching.why_unreachable(Results(Path("nowhere"))) == "no answer for 0 seconds"


def test_a_file_in_a_relative_folder_of_results_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    local_file.opened(Results(tmp_path / "results"))
    assert Results(Path("results")).database.exists()
    assert reaching.why_unreachable(Results(Path("results"))) == ""
