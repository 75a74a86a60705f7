"""Whole runs on a GPU; quick runs also run on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import devices
from mil_bench.api import prepare
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore
from mil_bench.planning.request import RunRequest
from mil_bench.running import worker
from mil_bench.running.setup import Setup
from mil_bench.running.task import TaskMaker

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

DIGITS = "digits:bags=140,rows=8"
NEAR = 0.02
"""Probabilities of two trainings on a GPU differ by less: sums there come in any order."""


def run_on(device: str, folder: Path, dataset: str = SMALL_TWIN, **changed: Any) -> RunResult:
    places = {"results": folder / "results", "data": folder / "data"}
    quiet = {"tracking": False, "progress": False, "on": "inline"}
    request = {"methods": ["abmil", "hmil", "linear-probe"], "folds": 2, "epochs": 2}
    result = mil_bench.run(dataset=dataset, device=device, **(places | quiet | request | changed))
    assert not result.failures
    return result


def assert_same(one: RunResult, other: RunResult, tolerance: float) -> None:
    for method, folds in one.trained.items():
        for a, b in zip(folds, other.trained[method], strict=True):
            assert np.abs(a.predictions.fine - b.predictions.fine).max() <= tolerance, method


def test_what_a_gpu_trained_is_reported_and_used_without_it(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_on(device.type, tmp_path)
    model = {fold.environment["device"] for fold in result.trained["abmil"]}
    assert model == {devices.model_of(device)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    again = mil_bench.open_run(result.run_id, tmp_path / "results")
    assert again.tables["fine"].equals(result.tables["fine"])
    again.write(tmp_path / "report")
    store = BagStore(next((tmp_path / "data").glob("*.h5")))
    for method, folds in result.trained.items():
        if method != "lookup":  # trains nothing
            tested = folds[0].predictions
            bags = Feed(store, torch.device("cpu")).batch(store.index_of(tested.slides))
            found = again.model(method)(bags).fine.double().softmax(1).detach().numpy()
            assert np.abs(found - tested.fine).max() <= NEAR, method


@pytest.mark.gpu
def test_a_gpu_gives_nearly_the_results_of_a_cpu(tmp_path: Path) -> None:
    # One epoch: rounding grows with every step. The probe draws nothing and has no products.
    methods = {"methods": ["mean-pool", "linear-probe"], "epochs": 1}
    one, other = (run_on(d, tmp_path / d, **methods) for d in ("cpu", "cuda"))
    assert_same(one, other, NEAR)


@pytest.mark.parametrize(
    ("device", "dataset"),
    [
        ("cpu", DIGITS),
        pytest.param("cuda", DIGITS, marks=pytest.mark.gpu),
        pytest.param("cuda", SMALL_TWIN, marks=pytest.mark.gpu),
    ],
)
@pytest.mark.slow
def test_a_run_that_was_killed_is_completed(device: str, dataset: str, tmp_path: Path) -> None:
    calm = run_on(device, tmp_path / "calm", dataset)
    words = f"-m mil_bench run --dataset {dataset} --methods abmil hmil linear-probe --folds 2"
    words += f" --epochs 2 --no-tracking --device {device} --workers 1"
    hit = tmp_path / "hit"
    hit.mkdir()
    process = subprocess.Popen(
        [sys.executable, *words.split()], cwd=hit, stderr=subprocess.DEVNULL, env=os.environ
    )
    until = time.monotonic() + 120
    stored: list[Path] = []
    while not stored and time.monotonic() < until:
        time.sleep(0.05)
        stored = [p for p in hit.glob("results/runs/*/*/*/fold-*.json") if "lookup" not in p.parts]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert stored
    before = {path: path.read_bytes() for path in stored}
    again = run_on(device, hit, dataset)
    assert {path: path.read_bytes() for path in stored} == before
    assert_same(calm, again, 0.0 if devices.is_cpu(device) else NEAR)


@pytest.mark.gpu
@pytest.mark.slow
def test_eight_workers_share_a_gpu(tmp_path: Path) -> None:
    seeds = {"seeds": (0, 1, 2, 3)}
    alone = run_on("cuda", tmp_path / "alone", **seeds)
    shared = run_on("cuda", tmp_path / "shared", on="local", workers=8, **seeds)
    assert_same(alone, shared, NEAR)


@pytest.mark.gpu
def test_folds_that_do_not_fit_on_the_gpu_together_are_trained_in_parts(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", tracking=False, progress=False)
    made = prepare(
        RunRequest("bracs-sim:slides=120,rows=4000,width=512", ("abmil",), folds=4, epochs=1), setup
    )
    task = TaskMaker(made.plan.splits, made.bags, "cuda").task(made.plan.jobs[0], range(4))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    worker.train(task)
    peak = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total, events = torch.cuda.get_device_properties(0).total_memory, []
    try:
        torch.cuda.set_per_process_memory_fraction(0.7 * peak / total)
        parts = worker.train(task, events.append)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert [fold.fold for fold in parts] == [0, 1, 2, 3]
    assert any("more memory than there is" in event.note for event in events)


@pytest.mark.gpu
@pytest.mark.slow
def test_a_deterministic_run_gives_equal_tables_twice(tmp_path: Path) -> None:
    # In workers of their own: cuBLAS looks at the environment once per process.
    options = {"methods": "all", "deterministic": True, "on": "local"}
    one, other = (run_on("cuda", tmp_path / name, DIGITS, **options) for name in ("a", "b"))
    assert_same(one, other, 0.0)
    assert "up to rounding" not in one.caption
