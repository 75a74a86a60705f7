"""A real MLflow server that dies in the middle of a run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import cli
from mil_bench.running.result_store import ResultStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of MLflow

LONGEST_START = 180  # seconds; a fresh server makes its tables first


class Server:
    """A server on loopback that can be killed and started again with what it kept."""

    def __init__(self, folder: Path):
        self._folder, self._process = folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
        ]
        command += [
            "--backend-store-uri",
            f"sqlite:///{self._folder / 'server.db'}",
            "--workers",
            "1",
        ]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        quiet.pop("MLFLOW_TRACKING_URI", None)
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=quiet, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + LONGEST_START
        while time.monotonic() < end:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.address}/health", timeout=5),
            ):
                return
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            time.sleep(0.3)
        raise AssertionError((self._folder / "server.log").read_text())

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    try:
        served.start()
        yield served
    finally:
        served.kill()


def logged() -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient()
    return client.search_runs(
        [client.get_experiment_by_name("mil-bench/bracs-sim-twin").experiment_id]
    )


def test_a_server_that_dies_in_the_middle_costs_nothing_and_is_filled_in_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from mlflow import MlflowClient

    log_artifact, calls = MlflowClient.log_artifact, []

    def dying(self: MlflowClient, *args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 6:  # inside of the third or fourth fold: half of it is written
            server.kill()
        log_artifact(self, *args, **kwargs)

    folders = {
        "results": tmp_path / "results",
        "data": tmp_path / "data",
        "progress": False,
        "on": "inline",
    }
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifact", dying)
        result = mil_bench.run(["mean-pool", "abmil"], SMALL_TWIN, folds=3, epochs=2, **folders)
    assert all("validation parts" in fact for fact in result.facts)  # all nine trainings are there
    assert all(len(done) == 3 for done in result.trained.values())
    assert capsys.readouterr().err.count("MLflow failed: ") == 1
    assert len(calls) == 6

    server.start()
    before = logged()
    assert {run.info.status for run in before} == {"FINISHED", "RUNNING"}
    whole = {run.info.run_id for run in before if run.data.tags["mil_bench.kind"] == "fold"}
    whole -= {run.info.run_id for run in before if run.info.status == "RUNNING"}
    assert 0 < len(whole) < 9

    resync = ["runs", "track", result.run_id, "--results", str(tmp_path / "results")]
    assert cli.main(resync) == 0
    assert f"{9 - len(whole)} of 9 stored trainings were missing" in capsys.readouterr().out
    after = logged()
    assert {run.info.status for run in after} == {"FINISHED"}
    kinds = [run.data.tags["mil_bench.kind"] for run in after]
    assert (kinds.count("benchmark"), kinds.count("method"), kinds.count("fold")) == (1, 3, 9)
    folds = [run for run in after if run.data.tags["mil_bench.kind"] == "fold"]
    store = ResultStore(tmp_path / "results" / "runs")
    stored = {f"{job.key}/{fold}" for job in result.plan.jobs for fold in store.done(job)}
    assert {run.data.tags["mil_bench.fold"] for run in folds} == stored
    assert whole <= {run.info.run_id for run in folds}  # what was whole was left alone
    client = MlflowClient()
    for run in folds:
        files = {file.path.rpartition(".")[2] for file in client.list_artifacts(run.info.run_id)}
        trained = run.data.tags["mil_bench.method"] != "lookup"
        assert files == ({"csv", "json", "npz"} if trained else {"csv", "json"})

    assert cli.main(resync) == 0
    assert "0 of 9 stored trainings were missing" in capsys.readouterr().out
    assert {run.info.run_id: run.data.metrics for run in logged()} == {
        run.info.run_id: run.data.metrics for run in after
    }
