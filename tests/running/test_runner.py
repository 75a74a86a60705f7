"""Whole runs on a small twin."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import SMALL_TWIN, permute_labels

import mil_bench
from mil_bench import registry
from mil_bench.api import execute, prepare
from mil_bench.errors import UnknownNameError
from mil_bench.planning.prepare import Prepared
from mil_bench.planning.request import RunRequest
from mil_bench.registry import Registry
from mil_bench.running.runner import tasks_of
from mil_bench.running.setup import Setup
from mil_bench.running.task import TaskMaker
from mil_bench.running.worker import train

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore
    from mil_bench.methods import Method
    from mil_bench.running.task import Task
    from mil_bench.runs.result import RunResult

QUIET = {"tracking": False, "progress": False, "on": "inline"}


def small_run(folder: Path, methods: list[str], **changed: object) -> RunResult:
    places = {"results": folder / "results", "data": folder / "data"}
    return mil_bench.run(
        methods, SMALL_TWIN, **({"folds": 3, "epochs": 2} | places | QUIET | changed)
    )


def test_it_gives_frames_and_files(tmp_path: Path) -> None:
    result = small_run(tmp_path, ["mean-pool", "abmil"], seeds=[0, 1])
    frame = result.tables["fine"]
    assert list(frame.index) == ["mean-pool", "abmil", "lookup"]
    assert frame["Macro AUC", "mean"].between(0, 100).all()
    assert (
        len(result.predictions) == 3 * 2 * 120
    )  # methods x seeds x slides: every slide is tested once
    report = tmp_path / "results" / "reports" / result.run_id
    assert {p.name for p in report.iterdir()} >= {
        "report.md",
        "tables.tex",
        "fine.csv",
        "classwise_auc.csv",
    }
    assert "a simulated dataset, not BRACS" in (report / "report.md").read_text()
    assert all("validation parts" in fact for fact in result.facts)
    assert "Macro AUC" in result._repr_html_()


@pytest.mark.slow
def test_the_same_command_gives_the_same_predictions_whatever_ran_before(tmp_path: Path) -> None:
    first = small_run(tmp_path / "a", ["abmil", "hmil"])
    torch.manual_seed(123)
    small_run(tmp_path / "b", ["max-pool"])
    torch.rand(10)
    second = small_run(tmp_path / "b", ["hmil", "abmil"])
    for method in ("abmil", "hmil"):
        for a, b in zip(first.trained[method], second.trained[method], strict=True):
            assert (a.predictions.fine == b.predictions.fine).all()


@pytest.mark.slow
def test_a_pool_of_processes_gives_the_same_as_one_process(tmp_path: Path) -> None:
    alone = small_run(tmp_path / "a", ["abmil"])
    pooled = small_run(tmp_path / "b", ["abmil"], on="local", workers=2)
    for a, b in zip(alone.trained["abmil"], pooled.trained["abmil"], strict=True):
        assert (a.predictions.fine == b.predictions.fine).all()


def test_several_folds_in_one_task_give_the_same_as_one_at_a_time(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    made = prepare(RunRequest(SMALL_TWIN, ("hmil",), folds=3, epochs=2), setup)
    job, tasks = made.plan.jobs[0], TaskMaker(made.plan.splits, made.bags, "cpu")
    together = train(tasks.task(job, (0, 1, 2)))
    for k in (0, 1, 2):
        alone = train(tasks.task(job, (k,)))[0]
        assert (alone.predictions.fine == together[k].predictions.fine).all()


def test_repeating_a_run_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small_run(tmp_path, ["abmil"])
    from mil_bench.running import worker

    monkeypatch.setattr(worker, "train", lambda *_: pytest.fail("trained again"))
    again = small_run(tmp_path, ["abmil"])
    assert again.tables["fine"].equals(first.tables["fine"])


def test_choices_do_not_depend_on_test_labels(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    made = prepare(RunRequest(SMALL_TWIN, ("abmil",), folds=3, epochs=4), setup)
    task = TaskMaker(made.plan.splits, made.bags, "cpu").task(made.plan.jobs[0], (1,))
    honest = train(task)[0]
    path = tmp_path / "permuted.h5"
    path.write_bytes(made.bags.path.read_bytes())
    permute_labels(path, made.bags.index_of(made.plan.splits.folds[1].test))
    blind = train(dataclasses.replace(task, store=path))[0]
    assert (honest.predictions.labels != blind.predictions.labels).any()
    assert (honest.predictions.fine == blind.predictions.fine).all()
    assert honest.curves == blind.curves


class Failing(registry.methods.load("mean-pool")):
    """A method that breaks in fold 1."""

    def __init__(self, in_dim: int, hierarchy: object):
        super().__init__(in_dim, hierarchy)

    def loss(
        self, out: object, bags: object, weight: torch.Tensor, progress: float
    ) -> torch.Tensor:
        raise RuntimeError("this plugin is broken")


def test_a_method_that_breaks_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = type(registry.methods).load

    def patched(self: object, name: str) -> type[Method]:
        return Failing if name == "max-pool" else load(self, name)

    monkeypatch.setattr(type(registry.methods), "load", patched)
    result = small_run(tmp_path, ["max-pool", "mean-pool"])
    assert len(result.failures) == 3
    reason = "max-pool seed 0 fold 0 failed: RuntimeError: this plugin is broken ("
    assert result.failures[0].startswith(reason)
    assert len(result.trained["mean-pool"]) == 3
    assert "max-pool: 0 of 3 trainings are stored; not ranked" in result.facts
    assert result.tables["fine"].loc["max-pool"].isna().all()


def test_the_paper_protocol_says_that_it_leaks(tmp_path: Path) -> None:
    result = small_run(tmp_path, ["mean-pool"], protocol="paper")
    assert all("LEAKS" in table.caption for table in result.report_tables)


def test_an_unknown_option_suggests_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match=r"no option 'epoch'. Did you mean epochs"):
        mil_bench.run("abmil", "digits", epoch=3)


def test_seeds_are_trained_each(tmp_path: Path) -> None:
    result = small_run(tmp_path, ["abmil"], seeds=(3, 4))
    by_seed = {t.seed: t.predictions.fine for t in result.trained["abmil"] if t.fold == 0}
    assert by_seed.keys() == {3, 4}
    assert (by_seed[3] != by_seed[4]).any()


def test_a_prepared_run_can_be_executed_twice(tmp_path: Path, small_store: BagStore) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    made = prepare(RunRequest(SMALL_TWIN, ("mean-pool",), folds=2, epochs=1), setup)
    assert isinstance(made, Prepared)
    assert execute(made, setup).tables["fine"].equals(execute(made, setup).tables["fine"])


def test_a_single_worker_stores_each_fold_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mil_bench.running import worker

    real, calls = worker.attempt, []

    def interrupted(task: Task, on_epoch: object) -> list:
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(task, on_epoch)

    monkeypatch.setattr(worker, "attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path, ["abmil"])
    assert len(list((tmp_path / "results" / "runs").rglob("fold-*.json"))) == 2


def test_the_lookup_stands_in_the_table_and_is_at_chance_without_leaks(tmp_path: Path) -> None:
    honest = small_run(tmp_path, ["mean-pool"]).tables["fine"]
    leaking = small_run(tmp_path, ["mean-pool"], protocol="paper").tables["fine"]
    assert honest.loc["lookup", ("Macro AUC", "mean")] == pytest.approx(50)
    assert (
        leaking.loc["lookup", ("Macro AUC", "mean")] > 55
    )  # shared patients tell something, noise does not reach this


KILLER = """
import os, signal
from mil_bench.baselines.simple.pooling import MeanPool

class Killer(MeanPool):
    '''Dies as a process does when memory runs out.'''

    def loss(self, out, bags, weight, progress):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_process_that_dies_costs_only_its_own_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "methods", Registry("mil_bench.methods", "method"))
    plugin = tmp_path / "killer.py"
    plugin.write_text(KILLER)
    result = small_run(
        tmp_path, ["killer", "mean-pool"], folds=2, on="local", workers=2, plugins=[plugin]
    )
    assert len(result.failures) == 2
    assert all("the process died, most likely out of memory" in line for line in result.failures)
    assert len(result.trained["mean-pool"]) == 2


def test_a_gpu_trains_all_folds_of_a_job_at_once_also_when_one_is_missing(
    small_store: BagStore, tmp_path: Path
) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    plan = prepare(RunRequest(SMALL_TWIN, ("abmil", "hmil"), folds=3, epochs=1), setup).plan
    abmil, hmil, lookup = plan.jobs
    assert tasks_of([(abmil, 1), (hmil, 0), (hmil, 2)], plan.trainings, "cuda") == [
        (abmil, (0, 1, 2)),
        (hmil, (0, 1, 2)),
    ]
    assert tasks_of([(lookup, 1), (hmil, 0), (hmil, 2)], plan.trainings, "cpu") == [
        (lookup, (1,)),
        (hmil, (0,)),
        (hmil, (2,)),
    ]


MISBEHAVING = """
import os, sys, threading, time
from mil_bench.baselines.simple.pooling import MeanPool

class Leaves(MeanPool):
    def loss(self, out, bags, weight, progress):
        sys.exit(3)

class Interrupts(MeanPool):
    def loss(self, out, bags, weight, progress):
        raise KeyboardInterrupt

class Unspeakable(Exception):
    def __str__(self):
        raise ValueError

class Raises(MeanPool):
    def loss(self, out, bags, weight, progress):
        raise Unspeakable

class Typo(MeanPool):
    def loss(self, out, bags, weight, progress):
        return self.helper(bags.labls)

    def helper(self, labels):
        return labels

class Wanders(MeanPool):
    def loss(self, out, bags, weight, progress):
        os.chdir("/")
        return super().loss(out, bags, weight, progress)

class Sleeps(MeanPool):
    def loss(self, out, bags, weight, progress):
        time.sleep(3600)

class Threads(MeanPool):
    def loss(self, out, bags, weight, progress):
        if threading.active_count() < 5:
            threading.Thread(target=time.sleep, args=(3600,)).start()
        return super().loss(out, bags, weight, progress)
"""


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "methods", Registry("mil_bench.methods", "method"))
    plugin = tmp_path / "misbehaving.py"
    plugin.write_text(MISBEHAVING)
    return plugin


@pytest.mark.slow
def test_a_method_that_exits_or_wanders_costs_only_its_own_row(
    tmp_path: Path, misbehaving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    methods = ["leaves", "interrupts", "raises", "typo", "wanders", "mean-pool"]
    quiet = {"tracking": False, "progress": False, "workers": 1}
    result = mil_bench.run(
        methods, SMALL_TWIN, folds=2, epochs=1, plugins=[misbehaving.name], **quiet
    )
    lines = [line for line in result.failures if "fold 0" in line]
    assert len(result.failures) == 8
    assert "leaves seed 0 fold 0 failed: the method called sys.exit(3) (" in lines[0]
    assert "interrupts seed 0 fold 0 failed: KeyboardInterrupt (" in lines[1]
    assert "raises seed 0 fold 0 failed: Unspeakable: its message cannot be shown (" in lines[2]
    assert "AttributeError: 'BagBatch' object has no attribute 'labls'" in lines[3]
    assert "misbehaving.py, line 23, in loss)" in lines[3]
    log = Path(lines[3].partition("traceback: ")[2])
    assert "self.helper(bags.labls)" in log.read_text()
    assert len(result.trained["wanders"]) == len(result.trained["mean-pool"]) == 2


@pytest.mark.slow
def test_a_method_that_hangs_or_leaves_threads_does_not_hold_the_run(
    tmp_path: Path, misbehaving: Path
) -> None:
    result = small_run(
        tmp_path,
        ["sleeps", "threads", "mean-pool"],
        folds=2,
        on="local",
        workers=2,
        plugins=[misbehaving],
        patience_minutes=0.2,
    )
    assert len(result.failures) == 2
    assert all("no epoch ended within 0.2 minutes" in line for line in result.failures)
    assert len(result.trained["threads"]) == len(result.trained["mean-pool"]) == 2
