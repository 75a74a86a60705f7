"""Runs on a Dask cluster of processes, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from cluster_runs import METHODS, assert_equal_tables
from conftest import SMALL_TWIN

from mil_bench import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.dask]

CLUSTER = """
import sys
import dask
from distributed import LocalCluster
dask.config.set({"distributed.scheduler.allowed-failures": int(sys.argv[1])})
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        pids = [worker.process.process.pid for worker in cluster.workers.values()]
        print(cluster.scheduler_address, *pids, flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Address of a scheduler that gives a task to so many more workers, and ids of its workers."""
    pytest.importorskip("distributed", reason="pip install 'mil-bench[dask]'")
    (tmp_path / "cluster.py").write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, "cluster.py", str(request.param)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield process.stdout.readline().split()
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def start(folder: Path, results: str, method: str, *more: str) -> subprocess.Popen:
    (folder / "own.py").write_text(METHODS)
    words = ["run", "--methods", method, "mean-pool", "--plugin", "own.py", "--folds", "2"]
    words += ["--dataset", SMALL_TWIN, "--epochs", "2", "--results", results, "--no-tracking"]
    return subprocess.Popen(
        [sys.executable, "-m", "mil_bench", *words, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_a_worker_that_is_killed_costs_time_alone(cluster: list[str], tmp_path: Path) -> None:
    address, *workers = cluster
    local = start(tmp_path, "local", "slow")
    output, _ = local.communicate(timeout=300)
    assert local.returncode == 0, output
    run = start(tmp_path, "remote", "slow", "--on", "dask", "--scheduler", address)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("remote/runs/*/*/*/fold-*.json")) and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(int(workers[0]), signal.SIGKILL)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    [report] = (tmp_path / "remote" / "reports").iterdir()
    assert_equal_tables(tmp_path, "local", "remote", report.name)


@pytest.mark.parametrize("cluster", [0], indirect=True)
def test_a_method_that_kills_every_worker_costs_only_its_rows(
    cluster: list[str], tmp_path: Path
) -> None:
    run = start(tmp_path, "remote", "killer", "--on", "dask", "--scheduler", cluster[0])
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 1
    assert "killer seed 0 fold 0 failed: the process died" in output
    assert "Traceback" not in output
    assert len(list(tmp_path.glob("remote/runs/*/mean-pool/*/fold-*.json"))) == 2


def test_a_scheduler_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("distributed", reason="pip install 'mil-bench[dask]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mil_bench.cluster.dask._SECONDS_TO_CONNECT", 1)
    words = ["run", "--dataset", SMALL_TWIN, "--methods", "mean-pool", "--on", "dask"]
    words += ["--folds", "2", "--epochs", "1"]
    assert cli.main([*words, "--no-tracking"]) == 2
    assert "--on dask needs the address of a scheduler" in capsys.readouterr().err
    assert cli.main([*words, "--no-tracking", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "the scheduler at tcp://127.0.0.1:9 does not answer" in capsys.readouterr().err
