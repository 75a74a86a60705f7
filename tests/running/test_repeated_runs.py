"""Runs of a repeated cross-validation: sharded, resumed, frozen for other machines, reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import cli
from mil_bench.api import prepare
from mil_bench.cluster.bundles import bundles_of, frozen_tasks
from mil_bench.cluster.frozen import OpenTasks, TaskFolder, freeze, write_tasks
from mil_bench.errors import InputError
from mil_bench.planning.request import RunRequest
from mil_bench.running import worker
from mil_bench.running.result_store import ResultStore
from mil_bench.running.setup import Setup
from mil_bench.running.worker import train
from mil_bench.runs.fold_table import audit_lines

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

QUIET = {"tracking": False, "progress": False, "on": "inline"}


def repeated_run(folder: Path, **changed: object) -> RunResult:
    about = {"folds": 3, "repeats": 2, "epochs": 1, "seeds": (0, 1)} | QUIET
    places = {"results": folder / "results", "data": folder / "data"}
    return mil_bench.run(["mean-pool"], SMALL_TWIN, **(about | places | changed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of which two shards have each trained their part."""
    folder = tmp_path_factory.mktemp("repeats")
    for part in ("1/2", "2/2"):
        repeated_run(folder, shard=part)
    return folder


def test_shards_train_all_repeats_and_the_whole_run_finds_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "train", lambda *_: pytest.fail("trained again"))
    result = repeated_run(folder)
    assert len(result.predictions) == 2 * 2 * 2 * 120  # methods, repeats, seeds, slides
    caption = result.report_tables[0].caption
    assert "patient-kfold, 2 repeats x 3 folds x 2 seeds (seeds 0, 1)" in caption
    assert "over the 12 trainings (2 repeats x 3 folds x 2 seeds)" in caption
    assert "each repeat has other folds" in caption
    folds = result.tables["folds"]
    assert folds["Repeat", "mean"].tolist() == [1, 1, 1, 2, 2, 2]
    assert result.evidence.repeats == 2
    assert not result.verdicts[0].reason
    again = mil_bench.open_run(result.run_id, folder / "results")
    assert again.tables["verdicts_all"].equals(result.tables["verdicts_all"])
    tests = "2 repeats of 3-fold cross-validation: 120 of 120 slides are tested, 240 tests"
    assert tests in audit_lines(result.plan)[1]


def test_the_first_repeat_has_the_folds_of_a_run_without_repeats(folder: Path) -> None:
    setup = Setup(folder / "results", folder / "data", **QUIET)
    about = {"dataset": SMALL_TWIN, "methods": ("mean-pool",), "folds": 3, "epochs": 1}
    once = prepare(RunRequest(**about), setup).plan.splits
    twice = prepare(RunRequest(**about, repeats=2), setup).plan.splits
    assert twice.folds[:3] == once.folds
    assert twice.digest != once.digest


def test_frozen_tasks_hold_all_repeats(folder: Path) -> None:
    setup = Setup(folder / "results", folder / "data", **QUIET)
    request = RunRequest(SMALL_TWIN, ("max-pool",), folds=3, repeats=2, epochs=1)
    prepared = prepare(request, setup)
    store = ResultStore(setup.folder.runs)
    store.save_plan(prepared.plan)
    tasks = frozen_tasks(prepared.plan, "cpu")
    bundles = bundles_of(prepared.plan, tasks, store, "cpu", 10)
    frozen = freeze(prepared, setup.folder, tasks, bundles)
    path = write_tasks(frozen, TaskFolder(setup.folder, prepared.plan.run_id))
    opened = OpenTasks.read(path, setup.folder)
    assert (opened.plan.splits.repeats, len(opened.missing())) == (2, 6)
    (task,) = [task for task in opened.missing() if opened.folds(task) == (5,)]
    maker = opened.maker(setup.data, "cpu")
    (fold,) = train(maker.task(opened.job(task), opened.folds(task)))
    assert sorted(fold.predictions.slides) == list(prepared.plan.splits.folds[5].test)


def test_a_dry_run_names_the_repeats_and_the_command_repeats_them(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["run", "--methods", "mean-pool", "--dataset", SMALL_TWIN, "--folds", "3", "--repeats"]
    places = ["--results", str(folder / "results"), "--data", str(folder / "data")]
    assert cli.main([*words, "2", *places, "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "repeat 2, fold 5: " in output
    assert "6 of 6 folds to train" in output
    assert cli.main([*words, "0", *places]) == 2
    assert "repeats must be a whole number from 1 on, not 0" in capsys.readouterr().err
    command = RunRequest("digits", repeats=3).command
    assert "--repeats 3" in command
    assert "--repeats" not in RunRequest("digits").command


def test_a_split_file_decides_on_repeats_itself(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    file, data = folder / "twice.json", ["--data", str(folder / "data")]
    make = ["splits", "make", "--dataset", SMALL_TWIN, "--folds", "3", *data]
    assert cli.main([*make, "--repeats", "2", str(file)]) == 0
    said = capsys.readouterr().out
    assert (
        "2 repeats of 3-fold cross-validation: each of the 120 slides is tested once per " in said
    )
    result = repeated_run(folder, folds=None, repeats=1, splits=file)
    assert result.plan.splits.repeats == 2
    # The same split by the protocol: nothing was trained for it.
    assert result.plan.splits.digest == repeated_run(folder).plan.splits.digest
    with pytest.raises(InputError, match="repeats is given, but the split file says what it is"):
        RunRequest(SMALL_TWIN, repeats=2, splits=file)
    audit = ["splits", "audit", "--dataset", SMALL_TWIN, *data, "--repeats", "2"]
    assert cli.main(audit) == 2
    assert "name either a PATH, or" in capsys.readouterr().err
    assert cli.main([*audit, "--protocol", "patient-kfold", "--folds", "3"]) == 0
    assert "2 repeats of 3-fold cross-validation" in capsys.readouterr().out
