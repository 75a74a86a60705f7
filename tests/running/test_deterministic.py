"""``--deterministic`` reaches the worker, and what a GPU trained says how well it repeats."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import devices
from mil_bench.cli import main
from mil_bench.cluster import slurm
from mil_bench.errors import InputError
from mil_bench.evaluation.predictions import REPEATS
from mil_bench.results import Results
from mil_bench.running import executors, worker
from mil_bench.running.faults import advice_for
from mil_bench.running.setup import Setup
from mil_bench.tracking.entries import fold_entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mil_bench.running.task import Task
    from mil_bench.runs.result import RunResult


def run_in(folder: Path, **changed: object) -> RunResult:
    places = {"results": folder / "results", "data": folder / "data"}
    quick = {"folds": 2, "epochs": 1, "tracking": False, "progress": False, "on": "inline"}
    return mil_bench.run(["mean-pool"], SMALL_TWIN, **(quick | places | changed))


@pytest.mark.parametrize("debug", [False, True])
def test_the_worker_is_told_and_the_key_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    train, told = worker.train, []

    def noting(task: Task, on_epoch: object) -> object:
        told.append(task.deterministic)
        return train(task, on_epoch)

    monkeypatch.setattr(worker, "train", noting)
    one = run_in(tmp_path / "a", deterministic=True, debug=debug)
    assert set(told) == {True}
    told.clear()
    other = run_in(tmp_path / "b")
    assert set(told) == {False}
    assert one.run_id == other.run_id
    assert [job.key for job in one.plan.jobs] == [job.key for job in other.plan.jobs]
    assert one.tables["fine"].equals(other.tables["fine"])  # on a CPU


@pytest.mark.parametrize(("deterministic", "said"), [(False, True), (True, False)])
def test_the_caption_of_a_gpus_results_says_how_well_they_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool, said: bool
) -> None:
    entered = []

    @contextlib.contextmanager
    def same_order(device: torch.device) -> Iterator[None]:
        entered.append(device)
        yield

    environment = worker._environment
    monkeypatch.setattr(devices, "same_order", same_order)
    monkeypatch.setattr(devices, "model_of", lambda device: "card")
    monkeypatch.setattr(
        worker,
        "_environment",
        lambda device, *known: environment(torch.device("meta") if known else device, *known),
    )
    result = run_in(tmp_path, deterministic=deterministic)
    assert bool(entered) == deterministic
    sentence = "Trained on a GPU (card): repetitions agree up to rounding."
    assert result.caption.endswith(sentence) == said
    about_data = ("folds", "data", "trained")  # and not about results
    tables = [table for table in result.report_tables if table.name not in about_data]
    assert [t.name for t in tables if (sentence in t.caption) != said] == []
    (fold, *_), (job, *_) = result.trained["mean-pool"], result.plan.jobs
    expected = "bit for bit" if deterministic else "up to rounding"
    assert fold.environment[REPEATS] == expected
    tags = fold_entry(result.plan, job, fold, None, 0.0).tags
    assert tags["mil_bench.repeats"] == expected
    assert "version.repeats" not in tags


def test_a_cpus_results_say_nothing_of_repetitions(tmp_path: Path) -> None:
    result = run_in(tmp_path)
    assert result.caption == result.plan.caption
    assert REPEATS not in result.trained["mean-pool"][0].environment


def test_other_machines_are_told_by_their_own_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="deterministic is an option of mil-bench worker"):
        Setup(tmp_path, deterministic=True, on="workers")


def test_a_worker_takes_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = ["--results", str(tmp_path / "results"), "--data", str(tmp_path / "data")]
    words = ["run", "--methods", "mean-pool", "--dataset", SMALL_TWIN, "--folds", "2"]
    words += ["--epochs", "1", "--no-tracking", "--on", "workers", "--detach", *places]
    assert main(words) == 0
    train, told = worker.attempt, []

    def noting(task: Task, on_epoch: object) -> object:
        told.append(task.deterministic)
        return train(task, on_epoch)

    monkeypatch.setattr(worker, "attempt", noting)
    monkeypatch.setattr(executors, "local", executors.inline)
    (run,) = (tmp_path / "results" / "tasks").iterdir()
    assert main(["worker", run.name, "--deterministic", *places]) == 0
    assert set(told) == {True}


@pytest.mark.parametrize("deterministic", [False, True])
def test_slurm_hands_the_option_to_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm, "_call", lambda words: "")
    tasks = SimpleNamespace(folder=SimpleNamespace(results=Results(tmp_path)))
    setup = Setup(tmp_path, on="slurm", deterministic=deterministic)
    script = slurm.Slurm(tasks, tmp_path / "tasks.json", tmp_path, setup)._script([0])
    assert script.rstrip().endswith("--deterministic") == deterministic


def test_what_has_no_fixed_order_fails_with_advice() -> None:
    error = RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but ...")
    assert advice_for(error) == "; without --deterministic it can be trained"
    assert advice_for(RuntimeError("other")) == ""


def test_a_machine_has_the_option_of_its_setup(tmp_path: Path) -> None:
    setup = Setup(tmp_path, deterministic=True)
    assert setup.machine.deterministic
    assert dataclasses.replace(setup, debug=True).machine.deterministic
