"""MLflow's file in the folder of results: any path, moved, copied, locked, damaged, refused."""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient
from untracked_runs import TRAININGS, end_tracked, only_plan, untracked_run

from mil_bench import cli
from mil_bench.results import Results
from mil_bench.tracking import local_file
from mil_bench.tracking.tracker import resync

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of MLflow


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untracked_run(tmp_path_factory.mktemp("untracked"))


@pytest.fixture(scope="module")
def whole(untracked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = Path(shutil.copytree(untracked, tmp_path_factory.mktemp("whole") / "results"))
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        resync(Results(results), only_plan(results).run_id)
    return results


@pytest.fixture
def tracked(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tracked results, which a test may change."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(whole, tmp_path / "results"))


def artifacts(address: str) -> dict[str, list[str]]:
    """Artifacts by name of the run in MLflow, found as MLflow's page finds them."""
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("mil-bench/bracs-sim-twin").experiment_id
    return {
        run.info.run_name: sorted(file.path for file in client.list_artifacts(run.info.run_id))
        for run in client.search_runs([experiment])
    }


def refusal(results: Path, capfd: pytest.CaptureFixture) -> str:
    """What a run says that cannot be tracked; it takes seconds and is said once."""
    capfd.readouterr()
    assert end_tracked(results) < 10
    said = capfd.readouterr().err
    assert said.count("MLflow failed: ") == 1
    assert said.count("mil-bench runs track ") == 1
    assert len([x for x in said.splitlines() if not x.startswith("Waiting for MLflow")]) == 2
    return said


@pytest.mark.parametrize("way", ["move", "copy"])
def test_results_in_another_folder_keep_their_artifacts_and_leave_the_old_one_alone(
    way: str, tracked: Path, tmp_path: Path
) -> None:
    before = artifacts(local_file.address(tracked / "mlflow.db"))
    assert sum(" fold " in name for name in before) == TRAININGS
    assert all(before[name] for name in before if " fold " in name)
    (tmp_path / "new place").mkdir()
    new = shutil.copytree(tracked, tmp_path / "new place" / "results")
    shutil.rmtree(tracked)
    if way == "copy":
        shutil.copytree(new, tracked)
        shutil.rmtree(tracked / "mlartifacts")  # the copy must not lean on the original
    client = MlflowClient(local_file.address(new / "mlflow.db"))
    experiment = client.get_experiment_by_name("mil-bench/bracs-sim-twin").experiment_id
    fold = next(run for run in client.search_runs([experiment]) if " fold 1 " in run.info.run_name)
    client.delete_run(fold.info.run_id)  # so that something is logged in the new place
    end_tracked(new)
    assert artifacts(local_file.address(new / "mlflow.db")) == before
    assert not (tracked / "mlartifacts").exists()


def test_runs_whose_files_stayed_behind_still_name_the_old_place(
    tracked: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    shutil.copytree(tracked / "runs", new / "runs")
    shutil.copy(tracked / "mlflow.db", new)  # without mlartifacts
    end_tracked(new)
    found = artifacts(local_file.address(new / "mlflow.db"))
    assert all(found[name] for name in found if " fold " in name)


def test_experiments_and_places_of_others_are_left_alone(tracked: Path, tmp_path: Path) -> None:
    client = MlflowClient(local_file.address(tracked / "mlflow.db"))
    theirs = client.create_experiment("theirs", (tmp_path / "x" / "mlartifacts").as_uri())
    bucket = client.create_experiment("mil-bench/bucket", "s3://bucket/mlartifacts")
    new = Path(shutil.move(tracked, tmp_path / "new"))
    end_tracked(new)
    client = MlflowClient(local_file.address(new / "mlflow.db"))
    places = [client.get_experiment(name).artifact_location for name in (theirs, bucket)]
    assert places == [(tmp_path / "x" / "mlartifacts").as_uri(), "s3://bucket/mlartifacts"]


@pytest.mark.parametrize(
    "name",
    ["a?b", "a%20b", "a%3Fb", "100%", "a#b", "a b", "ä漢", "it's", "$HOME", "a&b=c;d", "a?mode=ro"],
)
def test_any_folder_will_do_and_the_printed_command_opens_it(
    name: str, tracked: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    results = tmp_path / "place" / name
    shutil.copytree(tracked / "runs", results / "runs")
    client = MlflowClient(f"sqlite:///{tracked / 'mlflow.db'}")
    client.rename_experiment("1", "another")  # so that all is logged anew
    shutil.copy(tracked / "mlflow.db", results)  # making a new one takes seconds
    end_tracked(results)
    assert [path.name for path in (tmp_path / "place").iterdir()] == [name]
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("Logged to MLflow")]
    command = line.removeprefix("Logged to MLflow: ").partition(", then ")[0]
    *words, address = shlex.split(command)
    assert words == ["mlflow", "ui", "--backend-store-uri"]
    found = artifacts(address)
    folds = [files for run, files in found.items() if " fold " in run]
    assert len(folds) == TRAININGS
    assert all("predictions.csv" in files for files in folds)
    assert len(list((results / "mlartifacts").iterdir())) == TRAININGS
    assert [path.name for path in (tmp_path / "place").iterdir()] == [name]


def test_a_file_that_another_process_has_locked_costs_seconds(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(local_file, "_LONGEST_LOCK", 0.5)
    with contextlib.closing(sqlite3.connect(tracked / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "mlflow.db is locked by another process" in refusal(tracked, capfd)


def damage(content: bytes) -> bytes:
    return content[:2000] + bytes(60_000) + content[62_000:]


@pytest.mark.parametrize(
    "change",
    [lambda _: b"", lambda c: c[: len(c) // 3], damage, lambda _: b"x" * 5000],
    ids=["empty", "cut short", "damaged", "no database"],
)
def test_a_damaged_file_is_named_with_what_to_do(
    change: Any, tracked: Path, capfd: pytest.CaptureFixture
) -> None:
    path = tracked / "mlflow.db"
    path.write_bytes(change(path.read_bytes()))
    said = refusal(tracked, capfd)
    assert str(path) in said
    assert "ove it away, and a new one is made" in said


@pytest.mark.parametrize("version", ["ffffffffffff", "0a8213491aaa"])
def test_a_file_of_another_mlflow_is_named_with_the_command_that_converts_it(
    version: str, tracked: Path, capfd: pytest.CaptureFixture
) -> None:
    with contextlib.closing(sqlite3.connect(tracked / "mlflow.db")) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", (version,))
    said = refusal(tracked, capfd)
    assert f"cannot use {tracked / 'mlflow.db'} (MlflowException: Detected out-of-date" in said
    assert f"`mlflow db upgrade sqlite:///{tracked / 'mlflow.db'}` converts it" in said


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that this process may not write to, also if it is root's."""
    mode, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_write_permission_is_said_at_once(
    exists: bool, tracked: Path, capfd: pytest.CaptureFixture
) -> None:
    temporary = Path(tempfile.gettempdir())  # other accounts must see what lies below it
    for parent in (tracked, *tracked.parents):
        if parent != temporary and parent.is_relative_to(temporary):
            parent.chmod(0o755)
    if not exists:
        (tracked / "mlflow.db").unlink()
    with read_only(tracked):
        said = refusal(tracked, capfd)
    assert f"{tracked / 'mlflow.db'}" in said
    assert "cannot be written to" in said or "Permission denied" in said


@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk_costs_the_log_only(
    exists: bool, tracked: Path, capfd: pytest.CaptureFixture
) -> None:
    """No file may grow beyond what this one has: what SQLite meets on a full disk."""
    path = tracked / "mlflow.db"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM latest_metrics")
    if not exists:
        path.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, limits[1]))
    try:
        said = refusal(tracked, capfd)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "Traceback" not in said
    if not exists:
        assert not list(tracked.glob(".mlflow.db.*"))
    assert cli.main(["runs", "track", only_plan(tracked).run_id, "--results", str(tracked)]) == 0


def test_a_kill_while_the_file_is_made_leaves_nothing_for_long(
    untracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    results = Path(shutil.copytree(untracked, tmp_path / "results"))
    command = ["runs", "track", only_plan(results).run_id, "--results", str(results)]
    code = f"import sys; from mil_bench.cli import main; sys.exit(main({command}))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(results.glob(".mlflow.db.*.partial-journal")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    left = list(results.glob(".mlflow.db.*"))
    assert any(path.name.endswith(".partial-journal") for path in left)
    assert cli.main(command) == 0
    assert not list(results.glob(".mlflow.db.*"))


def test_two_processes_that_log_one_run_double_nothing(
    untracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    results = Path(shutil.copytree(untracked, tmp_path / "results"))
    command = ["runs", "track", only_plan(results).run_id, "--results", str(results)]
    code = f"import sys; from mil_bench.cli import main; sys.exit(main({command}))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes
    for code_, words in zip(codes, told, strict=True):
        assert code_ == 0 or "Another process logs" in words
    client = MlflowClient(local_file.address(results / "mlflow.db"))
    experiment = client.get_experiment_by_name("mil-bench/bracs-sim-twin").experiment_id
    view = 3  # also what was deleted as double
    runs = client.search_runs([experiment], run_view_type=view)
    assert len(runs) == 1 + 2 + TRAININGS


def test_a_run_that_ends_while_another_process_logs_it_leaves_it_the_rest(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    from mil_bench.running.result_store import ResultStore
    from mil_bench.tracking import tracker
    from mil_bench.tracking.run_log import RunLog

    monkeypatch.setattr(tracker, "_LONGEST_TURN", 0.5)
    lock = RunLog(Results(tracked), only_plan(tracked)).lock_file
    assert ResultStore(tracked / "runs").root in lock.parents
    code = (
        f"import sys; from filelock import FileLock; lock = FileLock({str(lock)!r}); "
        "lock.acquire(); "
        "print('has it', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        assert end_tracked(tracked) < 5
        said = capfd.readouterr().err
        other.kill()
    assert said.count("Another process logs this run to MLflow.") == 1
    assert f"--results {tracked}" in said
    end_tracked(tracked)  # a killed process keeps no turn
    assert "Logged to MLflow" in capfd.readouterr().err
