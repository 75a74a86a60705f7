"""A run killed at random moments and repeated gives the same tables as an undisturbed one."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 10
TRAININGS = 4 * 4  # methods and the yardstick x folds
COMMAND = [
    sys.executable,
    "-m",
    "mil_bench",
    "run",
    "--dataset",
    SMALL_TWIN,
    "--methods",
    "abmil",
    "mean-pool",
    "hmil",
]
COMMAND += ["--folds", "4", "--epochs", "3", "--workers", "2"]


def start(folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


TIMED = {"budget.csv", "cost.svg", "report.html", "report.md", "tables.tex"}
"""Files with the seconds of trainings, which no training takes twice alike."""


def tables(folder: Path) -> dict[str, bytes]:
    """All written files but those with times."""
    files = [path for path in (folder / "results" / "reports").rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files if path.name not in TIMED}


def planned(output: bytes) -> bytes:
    """What a run printed, without the time at which it was planned: before results, once."""
    text, count = re.subn(
        rb"(Planned before results: [0-9a-f]{16}), \d{4}-\d\d-\d\d\s\d\d:\d\d:\d\d\sUTC",
        rb"\1",
        output,
    )
    assert count == 1, output.decode()
    return text


def finished(folder: Path) -> int:
    return len(list((folder / "results" / "runs").rglob("fold-*.json")))


@pytest.mark.slow
def test_ten_kills_and_a_repetition_give_the_undisturbed_tables(tmp_path: Path) -> None:
    calm, hit = tmp_path / "calm", tmp_path / "hit"
    began = time.monotonic()
    output, errors = start(calm).communicate()
    duration = time.monotonic() - began
    assert finished(calm) == TRAININGS, errors.decode()

    moments = random.Random(0)
    for _ in range(KILLS):
        process = start(hit)
        # Most kills fall into the training, some into start-up; what is done stays, so later calls
        # are shorter.
        time.sleep(moments.uniform(0.3, 0.9) * duration)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = {
        path: path.stat().st_mtime_ns for path in (hit / "results" / "runs").rglob("fold-*.json")
    }

    process = start(hit)
    repeated, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    assert finished(hit) == TRAININGS
    assert all(path.stat().st_mtime_ns == time_written for path, time_written in before.items())
    assert planned(repeated) == planned(output)
    assert {"fine.csv", "classwise_auc.csv", "verdicts.csv"} <= tables(calm).keys()
    assert tables(hit) == tables(calm)
    assert logged_folds(hit) == logged_folds(calm)
    assert len(logged_folds(hit)) == TRAININGS


def logged_folds(folder: Path) -> list[str]:
    """Folds that MLflow knows as finished, in order; a fold logged twice would stand here twice."""
    code = (
        "import sys; from mlflow import MlflowClient\n"
        "runs = MlflowClient('sqlite:///results/mlflow.db').search_runs(['1'], max_results=1000)\n"
        "for run in runs: print(run.data.tags.get('mil_bench.fold', ''), run.info.status)"
    )
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    rows = [line.split() for line in shown.stdout.splitlines() if "/" in line]
    assert all(status == "FINISHED" for _, status in rows), shown.stdout
    return sorted(name for name, _ in rows)
