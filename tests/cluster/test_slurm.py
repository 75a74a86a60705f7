"""Runs on a real Slurm, disturbed in every way, end in the tables of a run on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from cluster_runs import METHODS, assert_equal_tables, stored_trials
from conftest import SMALL_TWIN
from slurm_here import MAX_ARRAY_SIZE, SlurmHere, skip_without_slurm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmHere]:
    skip_without_slurm()
    with SlurmHere(tmp_path_factory.mktemp("slurm")) as here:
        yield here


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin, features and a run on this machine in "local"."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "own.py").write_text(METHODS)
    for methods in (["slow"], ["mean-pool"], ["mean-pool", "killer", "typo"]):
        done = start(folder, "local", *methods)
        done.communicate()
        assert done.returncode == int("typo" in methods)
    return folder


def start(
    folder: Path, results: str, *methods: str, more: tuple[str, ...] = (), env: dict | None = None
) -> subprocess.Popen:
    words = ["run", "--methods", *methods, "--plugin", "own.py", "--dataset", SMALL_TWIN]
    words += ["--folds", "3", "--epochs", "2", "--data", "data", "--results", results]
    return subprocess.Popen(
        [sys.executable, "-m", "mil_bench", *words, "--no-tracking", *more],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_slurm(
    slurm: SlurmHere, folder: Path, results: str, *methods: str, more: tuple[str, ...] = ()
) -> subprocess.Popen:
    """Six tasks are two bundles, unless ``more`` says how long a bundle takes."""
    words = ("--on", "slurm", "--bundle", "0.025", *more)
    return start(folder, results, *methods, more=words, env=slurm.environment)


def ended(run: subprocess.Popen) -> str:
    """Standard error of a run that ended."""
    _, errors = run.communicate(timeout=400)
    assert "Traceback" not in errors
    return errors


def assert_as_local(folder: Path, results: str) -> None:
    [report] = (folder / results / "reports").iterdir()
    assert_equal_tables(folder, results, "local", report.name)


def until(true: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)


def trained(folder: Path, results: str) -> int:
    return len(list((folder / results).rglob("fold-*.json")))


def test_arrays_are_split_and_a_failing_or_crashing_method_costs_only_its_rows(
    slurm: SlurmHere, place: Path
) -> None:
    methods = ("mean-pool", "killer", "typo")
    run = on_slurm(slurm, place, "split", *methods, more=("--bundle", "0.018"))
    errors = ended(run)
    assert run.returncode == 1
    assert "killer seed 0 fold 0 failed: the process died" in errors
    assert "typo seed 0 fold 0 failed: AttributeError" in errors
    assert_as_local(place, "split")
    [tasks] = (place / "split" / "tasks").iterdir()
    elements = [path.stem.split("_") for path in (tasks / "logs").glob("*.log")]
    assert max(int(element) for _, element in elements) < MAX_ARRAY_SIZE
    assert len({job for job, _ in elements}) == 2  # more than 4 bundles
    assert not list((tasks / "submitted").iterdir())


def test_a_cancelled_a_requeued_and_a_killed_element_are_trained_again(
    slurm: SlurmHere, place: Path
) -> None:
    run = on_slurm(slurm, place, "disturbed", "slow")
    until(lambda: len(slurm.elements()) >= 2)
    first, second = slurm.elements()[:2]
    slurm.call("scancel", first)
    slurm.call("scontrol", "requeue", second)
    until(lambda: kill_a_worker("disturbed"))
    ended(run)
    assert run.returncode == 0
    assert_as_local(place, "disturbed")


def kill_a_worker(results: str) -> bool:
    """Kill a worker of a folder of results; False if none runs, or it ended meanwhile."""
    with contextlib.suppress(IndexError, ProcessLookupError):
        os.kill(workers(results)[0], signal.SIGKILL)
        return True
    return False


def workers(results: str) -> list[int]:
    """Process ids of workers of a folder of results."""
    found = subprocess.run(
        ["pgrep", "-f", f"mil_bench worker .*/{results}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(word) for word in found.stdout.split()]


def test_a_node_that_goes_down_and_comes_back_costs_time_alone(
    slurm: SlurmHere, place: Path
) -> None:
    run = on_slurm(slurm, place, "down", "slow")
    until(slurm.elements)
    change = ("scontrol", "update", f"nodename={slurm.node}")
    slurm.call(*change, "state=down", "reason=test")
    until(lambda: not slurm.elements())
    slurm.call(*change, "state=resume")
    ended(run)
    assert run.returncode == 0
    assert_as_local(place, "down")


def test_a_submitter_may_detach_be_killed_or_have_a_twin(slurm: SlurmHere, place: Path) -> None:
    detached = on_slurm(slurm, place, "again", "slow", more=("--detach",))
    output, _ = detached.communicate(timeout=120)
    assert detached.returncode == 0
    assert "0 of 6 trainings are stored" in output
    assert slurm.call("squeue", "--noheader", "--array")
    killed = on_slurm(slurm, place, "again", "slow")
    until(lambda: trained(place, "again") >= 1)
    killed.kill()
    killed.communicate()
    twins = [on_slurm(slurm, place, "again", "slow") for _ in range(2)]
    for run in twins:
        ended(run)
        assert run.returncode == 0
    assert_as_local(place, "again")
    [tasks] = (place / "again" / "tasks").iterdir()
    assert len(list(tasks.glob("tasks-*.json"))) == 1
    assert len(list((tasks / "logs").glob("*.log"))) == 2  # nothing was sent twice


def test_a_header_that_slurm_refuses_is_answered_with_its_words(
    slurm: SlurmHere, place: Path
) -> None:
    (place / "header.sh").write_text("#SBATCH --partition=nowhere\n")
    run = on_slurm(slurm, place, "refused", "mean-pool", more=("--sbatch", "header.sh"))
    errors = ended(run)
    assert run.returncode == 2
    assert "invalid partition specified: nowhere" in errors


def test_a_header_goes_before_the_worker(slurm: SlurmHere, place: Path) -> None:
    (place / "header.sh").write_text(
        "#!/bin/bash\n#SBATCH --comment=mine\necho this is the header\n"
    )
    run = on_slurm(slurm, place, "header", "mean-pool", more=("--sbatch", "header.sh"))
    ended(run)
    assert run.returncode == 0
    assert_as_local(place, "header")
    for log in (place / "header" / "tasks").rglob("*.log"):
        assert log.read_text().startswith("this is the header\n")


def test_jobs_that_never_give_anything_are_given_up_with_the_path_of_their_log(
    slurm: SlurmHere, place: Path
) -> None:
    (place / "bad.sh").write_text("#!/bin/bash\necho no such module >&2\nexit 3\n")
    run = on_slurm(slurm, place, "vain", "mean-pool", more=("--sbatch", "bad.sh"))
    errors = ended(run)
    assert run.returncode == 1
    assert "mean-pool seed 0 fold 0 failed: its job ended 3 times without a result" in errors
    assert "vain/tasks" in errors.replace("\n", "")


def test_trials_are_made_by_elements_of_which_one_is_cancelled(
    slurm: SlurmHere, place: Path
) -> None:
    words = ["tune", "--methods", "mean-pool", "abmil", "--dataset", SMALL_TWIN, "--folds", "2"]
    words += ["--epochs", "2", "--data", "data", "--trials", "3"]
    for results, more in (("tuned-local", []), ("tuned", ["--on", "slurm", "--bundle", "0.01"])):
        run = subprocess.Popen(
            [sys.executable, "-m", "mil_bench", *words, "--results", results, *more],
            cwd=place,
            env=slurm.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if more:
            until(slurm.elements)
            slurm.call("scancel", slurm.elements()[0])
        ended(run)
        assert run.returncode == 0
    assert stored_trials(place / "tuned") == stored_trials(place / "tuned-local")
    assert (place / "tuned" / "optuna.log").exists()


def test_a_results_folder_that_the_nodes_do_not_see_is_one_message(tmp_path: Path) -> None:
    skip_without_slurm()
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.py").write_text(METHODS)
    with SlurmHere(tmp_path / "slurm", hidden=folder) as slurm:
        run = on_slurm(slurm, folder, "results", "mean-pool")
        errors = ended(run)
    assert run.returncode == 2
    assert "left no log" in errors
    assert "share with this machine" in errors
    assert not trained(folder, "results")
