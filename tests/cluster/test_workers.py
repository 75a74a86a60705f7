"""Workers that share a folder, shards, joined reports, and task files that do not fit."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from cluster_runs import METHODS, assert_equal_tables, stored_trials
from conftest import SMALL_TWIN
from filelock import SoftFileLease

from mil_bench import cli, registry
from mil_bench.api import prepare
from mil_bench.cluster import frozen
from mil_bench.cluster.bundles import bundles_of, frozen_tasks
from mil_bench.cluster.frozen import OpenTasks, TaskFolder, freeze, write_tasks
from mil_bench.cluster.worker import ClaimedTasks
from mil_bench.errors import InputError, StorageError
from mil_bench.planning.request import RunRequest
from mil_bench.registry import Registry
from mil_bench.results import Results
from mil_bench.running import pool
from mil_bench.running.result_store import Failure, ResultStore
from mil_bench.running.setup import Machine, Setup

if TYPE_CHECKING:
    from collections.abc import Iterator


def words(results: str, *methods: str) -> list[str]:
    named = ["run", "--methods", *methods, "--dataset", SMALL_TWIN, "--folds", "3"]
    return [*named, "--epochs", "2", "--data", "data", "--results", results, "--no-tracking"]


def start(folder: Path, *command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "mil_bench", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that a script starts in the background ignore Ctrl-C, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def ended(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == code, output
    assert "Traceback" not in output
    return output


@pytest.mark.slow
def test_three_workers_on_one_folder_of_which_one_is_killed_give_the_tables_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(METHODS)
    plugin = ["--plugin", "own.py"]
    ended(start(tmp_path, *words("local", "slow", "abmil"), *plugin))
    frozen_run = [*words("shared", "slow", "abmil"), *plugin, "--on", "workers"]
    output = ended(start(tmp_path, *frozen_run, "--detach"))
    assert "0 of 9 trainings are stored" in output
    [run] = [path.name for path in (tmp_path / "shared" / "tasks").iterdir()]
    worker = ["worker", run, "--results", "shared", "--workers", "1"]
    doomed = start(tmp_path, *worker)
    claims = tmp_path / "shared" / "tasks" / run / "claims"
    until = time.monotonic() + 60
    while not list(claims.glob("*.claim")) and time.monotonic() < until:
        time.sleep(0.05)
    doomed.kill()
    doomed.communicate()
    others = [start(tmp_path, *worker) for _ in range(2)]
    watching = start(tmp_path, *frozen_run)
    trained = [int(ended(process).split(" fold")[0]) for process in others]
    assert sum(trained) == 9  # nothing twice
    ended(watching)
    assert_equal_tables(tmp_path, "local", "shared", run)
    assert not list(claims.glob("*.claim"))


def counted(shown: str) -> list[str]:
    """The counts at the beginning of the lines of a progress display without a terminal."""
    return re.findall(r"^(\d+/\d+) ", shown, re.MULTILINE)


@pytest.mark.slow
def test_shards_and_collect_and_joined_reports_give_the_tables_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    inline = ["--on", "inline"]
    assert cli.main([*words("one", "mean-pool", "max-pool"), *inline]) == 0
    [run] = [path.name for path in Path("one/reports").iterdir()]
    shard = [*words("sharded", "mean-pool", "max-pool"), *inline, "--shard"]
    capsys.readouterr()
    assert cli.main([*shard, "1/2"]) == 0
    assert not Path("sharded/reports").exists()
    first = capsys.readouterr().err
    assert cli.main([*shard, "2/2"]) == 0
    second = capsys.readouterr().err
    # Three folds of two methods and the yardstick: nine trainings, five of them in the first shard.
    assert counted(first) == [f"{n}/5" for n in range(1, 6)]
    assert counted(second) == [f"{n}/4" for n in range(1, 5)]
    assert "stored from an earlier call" not in second
    assert cli.main([*shard, "1/2"]) == 0
    again = capsys.readouterr().err
    assert "5 of 5 trainings are stored from an earlier call." in again
    assert counted(again) == []
    capsys.readouterr()
    assert cli.main([*words("sharded", "mean-pool", "max-pool"), "--collect"]) == 0
    assert_equal_tables(tmp_path, "one", "sharded", run)
    names = []
    for method in ("mean-pool", "max-pool"):
        assert cli.main([*words("joined", method), *inline]) == 0
        names += [path.name for path in Path("joined/reports").iterdir() if path.name not in names]
    assert cli.main(["report", *names, "--results", "joined"]) == 0
    assert_equal_tables(tmp_path, "one", "joined", run)
    capsys.readouterr()
    assert cli.main([*words("other", "mean-pool"), "--collect"]) == 0
    assert "mean-pool: 0 of 3 trainings are stored" in capsys.readouterr().out
    assert not list(Path("other").rglob("fold-*"))


def test_runs_whose_rows_have_other_settings_are_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for epochs in ("1", "2"):
        line = [*words("r", "mean-pool"), "--on", "inline", "--epochs", epochs]
        assert cli.main(line) == 0
        names += [path.name for path in Path("r/reports").iterdir() if path.name not in names]
    capsys.readouterr()
    assert cli.main(["report", *names, "--results", "r"]) == 2
    assert "mean-pool seed 0 has other settings in another run" in capsys.readouterr().err


@pytest.fixture
def tasks(tmp_path: Path) -> tuple[Path, OpenTasks, Results]:
    """A frozen run of two methods, three folds each, in bundles of one task."""
    setup = Setup(tmp_path / "results", tmp_path / "data", progress=False)
    prepared = prepare(RunRequest(SMALL_TWIN, ("mean-pool", "abmil"), folds=3, epochs=1), setup)
    store = ResultStore(setup.folder.runs)
    store.save_plan(prepared.plan)
    numbers = frozen_tasks(prepared.plan, "cpu")
    bundles = bundles_of(prepared.plan, numbers, store, "cpu", 0.0001)
    folder = TaskFolder(setup.folder, prepared.plan.run_id)
    path = write_tasks(freeze(prepared, setup.folder, numbers, bundles), folder)
    return path, OpenTasks.read(path, setup.folder), setup.folder


def test_bundles_hold_every_task_once_and_what_needs_no_gpu_apart(
    tasks: tuple[Path, OpenTasks, Results],
) -> None:
    _, opened, _ = tasks
    plan, store = opened.plan, opened.store
    numbers = frozen_tasks(plan, "cuda")
    assert [folds for _, folds in numbers] == [(0, 1, 2), (0, 1, 2), (0,), (1,), (2,)]
    for minutes, count in ((0.0001, 5), (60, 2)):
        bundles = bundles_of(plan, numbers, store, "cuda", minutes)
        assert sorted(task for bundle in bundles for task in bundle.tasks) == list(range(5))
        assert len(bundles) == count
        for bundle in bundles:
            trained = {plan.jobs[numbers[task][0]].is_trained for task in bundle.tasks}
            assert trained == {bundle.device == "cuda"}


def test_a_claim_that_a_full_disk_refuses_is_one_message(
    tasks: tuple[Path, OpenTasks, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: SoftFileLease) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _, opened, _ = tasks
    source = ClaimedTasks(opened, range(len(opened.frozen.tasks)), opened.maker(None, "cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(SoftFileLease, "acquire", full)
        with pytest.raises(StorageError, match=r"Cannot write .*\.claim: No space left on device"):
            source.next_task()
    assert source.next_task() is not None  # as soon as there is space
    source.release()


def test_a_task_file_of_another_version_or_that_was_changed_is_refused(
    tasks: tuple[Path, OpenTasks, Results],
) -> None:
    path, _, results = tasks
    value = json.loads(path.read_text())
    for change, message in (
        ({"version": 99}, "it has version 99, this mil-bench reads 2"),
        ({"run": "x"}, "it was changed after it was written"),
    ):
        path.write_text(json.dumps(value | change))
        with pytest.raises(InputError, match=message):
            OpenTasks.read(path, results)
    for content, message in ((b"[" * 10**5, "nested too deeply"), (b"\xff", "decode")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            OpenTasks.read(path, results)


def test_a_worker_whose_machine_differs_says_in_what(
    tasks: tuple[Path, OpenTasks, Results], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, opened, _ = tasks
    here = frozen.environment()
    monkeypatch.setattr(frozen, "environment", lambda: here | {"torch": "9.9"})
    with pytest.raises(InputError, match=r"torch is '9.9' here, the tasks were frozen with '2"):
        opened.maker(None, "cpu")
    monkeypatch.setattr(frozen, "environment", lambda: here)
    changed = replace(opened, frozen=replace(opened.frozen, data_digest="other"))
    with pytest.raises(InputError, match=r"have the digest \w+, not other"):
        changed.maker(None, "cpu")
    assert opened.maker(tmp_path / "data", "cpu")


def train_without_training(path: Path, folder: Path, notes: Path) -> None:
    """Work like ``work``, with a file per task in place of a training."""
    opened = OpenTasks.read(path, Results(folder))
    source = ClaimedTasks(opened, range(len(opened.frozen.tasks)), opened.maker(None, "cpu"))
    while True:
        task = source.next_task()
        if task is None and not source.is_waiting:
            return
        if task is None:
            time.sleep(0.02)
            continue
        time.sleep(0.01)
        with (notes / f"{task.key}.txt").open("a") as file:
            file.write(f"{os.getpid()}\n")
        source.receive(task, Failure("a stub trains nothing"))


def test_workers_that_share_a_folder_lose_nothing_and_do_nothing_twice(
    tasks: tuple[Path, OpenTasks, Results], tmp_path: Path
) -> None:
    path, opened, results = tasks
    notes = tmp_path / "notes"
    notes.mkdir()
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=train_without_training, args=(path, results.folder, notes))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    done = sorted(note.stem for note in notes.iterdir())
    assert done == sorted(opened.key(task) for task in range(len(opened.frozen.tasks)))
    assert all(len(note.read_text().split()) == 1 for note in notes.iterdir())


def test_tasks_are_spread_over_the_gpus_there_are(
    small_store: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []

    class Noting(Executor):
        def submit(self, call, /, *args, **more):
            devices.append(args[0].device)
            return Future()  # never done

    @contextmanager
    def noting(workers: int) -> Iterator[Executor]:
        yield Noting()

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Machine(None, "auto").resolve(100) == ("cuda", 3)
    assert Machine(8, "cuda").resolve(100) == ("cuda", 8)
    assert Machine(None, "cuda:2").resolve(100) == ("cuda:2", 1)
    with pytest.raises(InputError, match=r"device=cuda:3, but torch finds only the GPUs 0 to 2"):
        Machine(None, "cuda:3").resolve(1)
    monkeypatch.setattr(registry, "executors", Registry("mil_bench.executors", "executor"))
    registry.executors.add("noting", noting)
    setup = Setup(tmp_path / "results", tmp_path / "data", progress=False, tracking=False)
    request = RunRequest(SMALL_TWIN, ("mean-pool", "abmil", "max-pool", "hmil"), folds=2, epochs=1)
    plan = prepare(request, setup)

    class Source:
        is_waiting = False

        def __init__(self) -> None:
            maker = pool_tasks(plan)
            self.left = [maker.task(job, (0, 1)) for job in plan.plan.jobs if job.is_trained]

        def next_task(self):
            return self.left.pop() if self.left else None

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "wait", stop)
    with pytest.raises(KeyboardInterrupt):
        pool.train_all(Source(), Machine(4, "cuda", "noting"), 4, print)  # type: ignore[arg-type]
    assert sorted(devices) == ["cuda:0", "cuda:0", "cuda:1", "cuda:2"]


def pool_tasks(prepared):
    from mil_bench.running.task import TaskMaker

    return TaskMaker(prepared.plan.splits, prepared.bags, "cuda")


@pytest.mark.slow
def test_ctrl_c_ends_a_run_in_the_middle_of_its_trainings(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METHODS)
    line = [*words("r", "mean-pool", "slow"), "--plugin", "own.py", "--epochs", "40"]
    run = start(tmp_path, *line)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("r/runs/*/mean-pool/*/fold-*.json")) and time.monotonic() < until:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    assert "Finished work is stored" in ended(run, code=130)


def test_where_no_tasks_are_frozen_a_worker_says_how_to_freeze_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["worker", "digits_x"]) == 2
    error = capsys.readouterr().err
    assert "no tasks of digits_x are frozen in results" in error
    assert "mil-bench run ... --on workers --detach" in error


def test_trials_and_the_trainings_that_they_decide_are_not_sent_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [*words("r", "mean-pool"), "--tune", "2", "--on", "workers", "--detach"]
    assert cli.main(line) == 2
    error = capsys.readouterr().err
    assert "the trials decide what is trained" in error
    assert "Call mil-bench tune ... --detach first" in error


@pytest.mark.slow
def test_studies_whose_worker_is_killed_are_continued_by_another_as_on_one_machine(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.py").write_text(METHODS)
    tune = ["--dataset", SMALL_TWIN, "--folds", "2", "--epochs", "2", "--data", "data"]
    tune = ["tune", "--methods", "slow", "abmil", *tune, "--plugin", "own.py", "--trials", "3"]
    ended(start(tmp_path, *tune, "--results", "local"))
    shared = [*tune, "--results", "shared", "--on", "workers"]
    output = ended(start(tmp_path, *shared, "--detach"))
    assert "0 of 12 trials are stored" in output
    [name] = [path.name for path in (tmp_path / "shared" / "tasks").iterdir()]
    worker = ["worker", name, "--results", "shared", "--workers", "1"]
    doomed = start(tmp_path, *worker)
    until = time.monotonic() + 120
    while not list((tmp_path / "shared" / "studies").rglob("trial-*.json")):
        assert time.monotonic() < until, "no trial was made"
        time.sleep(0.05)
    doomed.kill()
    doomed.communicate()
    assert len(list((tmp_path / "shared" / "studies").rglob("trial-*.json"))) < 12
    other, watching = start(tmp_path, *worker), start(tmp_path, *shared)
    ended(other)
    ended(watching)
    assert stored_trials(tmp_path / "shared") == stored_trials(tmp_path / "local")
    assert (tmp_path / "shared" / "optuna.log").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detach"], "detach is for on=slurm and on=workers, not for on=local"),
        (["--scheduler", "tcp://x:1"], "scheduler is for on=dask, not for on=local"),
        (["--on", "workers", "--shard", "1/2"], "shard trains here, and on=workers trains on"),
        (["--on", "slurm", "--debug"], "debug trains here, and on=slurm trains on other machines"),
        (["--shard", "3/2"], "shard must be I/N with I from 1 to N, not '3/2'"),
        (["--bundle", "0"], "bundle must be a number of minutes above 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words("r", "mean-pool"), *options]) == 2
    assert message in capsys.readouterr().err


def test_gpus_are_asked_for_on_a_machine_without_any_and_a_worker_says_if_it_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    line = [*words("r", "mean-pool"), "--on", "workers", "--detach", "--device", "cuda"]
    assert cli.main(line) == 0
    [run] = [path.name for path in Path("r/tasks").iterdir()]
    newest = TaskFolder(Results(Path("r")), run).newest()
    assert newest is not None
    devices = [bundle["device"] for bundle in json.loads(newest.read_text())["bundles"]]
    assert sorted(devices) == ["cpu", "cuda"]
    assert cli.main(line) == 0
    assert len(list(newest.parent.glob("tasks-*.json"))) == 1
    assert cli.main(["worker", run, "--results", "r"]) == 2
    assert "device=cuda, but torch finds no GPU on this machine" in capsys.readouterr().err


def test_slurm_without_sbatch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main([*words("r", "mean-pool"), "--on", "slurm"]) == 2
    assert "there is no sbatch on this machine's path" in capsys.readouterr().err
