"""Tuning: equal budgets, choices that do not depend on test labels, studies that resume."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import SMALL_TWIN, permute_labels
from mil_bench.baselines.abmil import ABMIL

import mil_bench
from mil_bench import registry
from mil_bench.api import execute, prepare, tune_settings
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.evaluation.trials import Trial, best_of
from mil_bench.methods import Choice, Float, Int
from mil_bench.planning.request import RunRequest
from mil_bench.registry import Registry
from mil_bench.running.setup import Setup
from mil_bench.tuning.choosing import studies_of
from mil_bench.tuning.studies import trial_job
from mil_bench.tuning.trial_store import TrialStore

if TYPE_CHECKING:
    from collections.abc import Mapping

QUIET: Mapping[str, Any] = {"tracking": False, "progress": False, "on": "inline"}
SMALL: Mapping[str, Any] = {"folds": 2, "epochs": 3, "tune": 5}


def tuned_run(folder: Path, methods: list[str], **options: Any) -> mil_bench.RunResult:
    places = {"results": folder / "results", "data": folder / "data"}
    return mil_bench.run(methods, SMALL_TWIN, **places, **{**QUIET, **SMALL, **options})


def records_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Every stored trial without what no training takes twice the same: seconds."""
    import json

    files = sorted((folder / "results" / "studies").rglob("trial-*.json"))
    return {
        f"{path.parent.name}/{path.name}": json.loads(path.read_text()) | {"seconds": 0}
        for path in files
    }


def test_newer_fields_of_recipes_can_be_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {
        "sampler": Choice(("shuffled", "balanced")),
        "optimizer": Choice(("adam", "sgd")),
        "momentum": Float(0.0, 0.9),
        "schedule": Choice((ABMIL.recipe.schedule, "plateau")),
        "plateau_patience": Int(0, 10),
        "ema": Float(0.0, 0.99),
        "accumulate": Int(1, 3),
    }
    monkeypatch.setattr(ABMIL, "search_space", space)
    result = tuned_run(tmp_path, ["abmil"], tune=4, epochs=2, pruning=False)
    assert not result.failures
    records = records_of(tmp_path)
    assert len(records) == 8
    assert {record["state"] for record in records.values()} == {"complete"}
    tried = [record["settings"] for record in records.values()]
    assert sum(settings == {} for settings in tried) == 2
    assert all(settings.keys() == space.keys() for settings in tried if settings)


@pytest.mark.slow
def test_every_method_and_fold_gets_the_same_number_of_trials_and_the_recipe_first(
    tmp_path: Path,
) -> None:
    result = tuned_run(tmp_path, ["abmil", "mean-pool"])
    assert result.tuned is not None
    spent = result.tables["tuning"]
    assert spent["Trials", "mean"].tolist() == [2 * 5, 2 * 5]
    assert spent["Studies", "mean"].tolist() == [2, 2]
    assert all(record.settings == {} for record in result.tuned.records if record.number == 0)
    assert {len(job.recipe) and job.recipe.get("epochs") for job in result.plan.jobs} == {0, 3}
    assert "tuned by 5 trials per method, seed and fold" in result.plan.caption
    assert len(result.trained["abmil"]) == len(result.trained["mean-pool"]) == 2


@pytest.mark.slow
def test_each_fold_is_tested_with_the_trial_of_its_best_validation_loss(
    tmp_path: Path,
) -> None:
    result = tuned_run(tmp_path, ["abmil"])
    assert result.tuned is not None
    for trial, history in zip(result.trained["abmil"], result.trained["abmil"], strict=True):
        own = [record for record in result.tuned.records if record.fold == trial.fold]
        best = best_of(own)
        assert best is not None
        assert trial.job_key == best.job_key
        assert (
            min(history.curves["val_loss"])
            == best.value
            == min(r.value for r in own if r.is_complete)
        )


def test_methods_share_the_seeds_of_the_sampler(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    plans = studies_of(prepare(RunRequest(SMALL_TWIN, ("abmil", "hmil"), **SMALL), setup))
    by_method = {
        name: [p.sampler for p in plans if p.base.method == name] for name in ("abmil", "hmil")
    }
    assert by_method["abmil"] == by_method["hmil"]
    assert len(set(by_method["abmil"])) == 2  # one per fold


@pytest.mark.slow
def test_settings_that_the_user_fixes_are_not_tuned(tmp_path: Path) -> None:
    result = tuned_run(tmp_path, ["abmil:learning_rate=0.001,dropout=0.1"], tune=3)
    assert {job.recipe["learning_rate"] for job in result.plan.jobs if job.recipe} == {0.001}
    assert {job.params["dropout"] for job in result.plan.jobs if job.recipe} == {0.1}
    assert result.tuned is not None
    assert all(
        {"learning_rate", "dropout"}.isdisjoint(record.settings) for record in result.tuned.records
    )


@pytest.mark.slow
def test_permuting_the_labels_of_test_slides_changes_no_choice(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    made = prepare(RunRequest(SMALL_TWIN, ("abmil", "mean-pool"), **SMALL), setup)
    honest = tune_settings(made, setup).plan
    fold = 1
    permute_labels(made.bags.path, made.bags.index_of(made.plan.splits.folds[fold].test))
    # The same store under the same name and digest, with other labels in the test part: nothing is
    # taken from results.
    elsewhere = dataclasses.replace(setup, results=tmp_path / "others")
    blind = tune_settings(made, elsewhere).plan

    def choices(plan: Any) -> list[Any]:
        return [(c.label, c.number) for c in plan.tuning.chosen if c.fold == fold]

    assert len(choices(honest)) == 2
    assert choices(honest) == choices(blind)
    records = [
        [r for r in TrialStore(p.folder.studies).of_plan(plan) if r.fold == fold]
        for p, plan in ((setup, honest), (elsewhere, blind))
    ]
    assert [r.curves for r in records[0]] == [r.curves for r in records[1]]
    others = [
        [r.curves for r in TrialStore(p.folder.studies).of_plan(q) if r.fold == 0]
        for p, q in ((setup, honest), (elsewhere, blind))
    ]
    # Fold 0 trains on slides that fold 1 tests: its labels did change.
    assert others[0] != others[1]


@pytest.mark.slow
def test_an_interrupted_study_resumes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mil_bench.running import worker

    calm = tuned_run(tmp_path / "calm", ["abmil", "mean-pool"])
    real, trained = worker.attempt, []

    def interrupted(task: Any, on_epoch: Any) -> list:
        trained.append((task.job.key, task.numbers))
        if len(trained) % 4 == 0:
            trained.pop()
            raise KeyboardInterrupt
        return real(task, on_epoch)

    with monkeypatch.context() as patched:
        patched.setattr(worker, "attempt", interrupted)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                tuned_run(tmp_path / "hit", ["abmil", "mean-pool"])
            trained.append(("interrupted", ()))
    again = tuned_run(tmp_path / "hit", ["abmil", "mean-pool"])
    assert records_of(tmp_path / "hit") == records_of(tmp_path / "calm")
    assert again.run_id == calm.run_id
    assert again.tables["fine"].equals(calm.tables["fine"])


@pytest.mark.slow
def test_a_killed_study_trains_nothing_twice_and_chooses_the_same(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mil_bench",
        "tune",
        "--dataset",
        SMALL_TWIN,
        "--methods",
        "abmil",
        "hmil",
    ]
    command += ["--folds", "2", "--epochs", "4", "--trials", "6", "--workers", "2"]
    outputs = {}
    for name, kills in (("calm", 0), ("hit", 3)):
        folder = tmp_path / name
        folder.mkdir()
        for _ in range(kills):
            before = len(records_of(folder))
            with subprocess.Popen(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                try:
                    wait_for_more_trials(folder, before)
                finally:
                    process.kill()
        before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.json")}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert all(path.stat().st_mtime_ns == written for path, written in before.items())
        assert len(before) > 0 or not kills
        outputs[name] = done.stdout
    assert records_of(tmp_path / "hit") == records_of(tmp_path / "calm")
    chosen = [output.partition("Tuning: chosen settings")[2] for output in outputs.values()]
    assert chosen[0] == chosen[1] != ""


def wait_for_more_trials(folder: Path, before: int) -> None:
    """Until more trials than ``before`` are stored, two minutes at most."""
    for _ in range(2400):
        if len(records_of(folder)) > before:
            return
        time.sleep(0.05)
    pytest.fail("no trial was stored")


@pytest.mark.slow
def test_more_trials_are_added_to_stored_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned_run(tmp_path, ["abmil"], tune=3)
    few = records_of(tmp_path)
    longer = tuned_run(tmp_path, ["abmil"], tune=5)
    assert few.items() <= records_of(tmp_path).items()
    assert len(records_of(tmp_path)) == 2 * 5
    from mil_bench.running import worker

    monkeypatch.setattr(worker, "train", lambda *_: pytest.fail("trained again"))
    shorter = tuned_run(tmp_path, ["abmil"], tune=3)
    assert shorter.tables["tuning"]["Trials", "mean"].tolist() == [6]
    assert shorter.run_id != longer.run_id
    assert tuned_run(tmp_path, ["abmil"], tune=None, tuned=True).run_id == longer.run_id


@pytest.mark.slow
def test_stored_settings_need_the_same_budget_for_all(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"abmil seed 0 fold 0 has 0 trials\n(.|\n)*mil-bench tune --methods abmil"
    ):
        tuned_run(tmp_path, ["abmil"], tune=None, tuned=True)
    tuned_run(tmp_path, ["abmil"], tune=3)
    tuned_run(tmp_path, ["mean-pool"], tune=2)
    with pytest.raises(
        InputError,
        match=r"mean-pool seed 0 fold 1 has 2 trials, others have 3"
        r"(.|\n)*mil-bench tune .*--trials 3",
    ):
        tuned_run(tmp_path, ["abmil", "mean-pool"], tune=None, tuned=True)


@pytest.mark.slow
def test_a_shared_choice_is_one_job_and_says_that_it_is_not_blind(tmp_path: Path) -> None:
    result = tuned_run(tmp_path, ["abmil"], select="shared", folds=3)
    jobs = [job for job in result.plan.jobs if job.label == "abmil"]
    assert len(jobs) == 1
    assert "the trial with the best mean validation loss over folds" in result.plan.caption
    assert "not blind to test slides" in result.plan.caption
    assert result.tuned is not None
    best = best_of(result.tuned.records)
    assert best is not None
    assert best.job_key == jobs[0].key
    assert best.value == pytest.approx(np.mean([min(curve) for curve in best.curves.values()]))


BREAKING = """
import os, signal
from mil_bench.baselines.simple.pooling import MeanPool
from mil_bench.methods import Choice

class Breaking(MeanPool):
    '''Fails with two of its three settings.'''

    search_space = {"kind": Choice(("good", "diverges", "dies"))}

    def __init__(self, in_dim, hierarchy, kind: str = "good"):
        super().__init__(in_dim, hierarchy)
        self.kind = kind

    def loss(self, out, bags, weight, progress):
        if self.kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        loss = super().loss(out, bags, weight, progress)
        return loss * float("nan") if self.kind == "diverges" else loss
"""


@pytest.mark.slow
def test_a_failed_trial_is_recorded_with_its_reason_and_the_others_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "methods", Registry("mil_bench.methods", "method"))
    plugin = tmp_path / "breaking.py"
    plugin.write_text(BREAKING)
    result = tuned_run(
        tmp_path, ["breaking", "mean-pool"], plugins=[plugin], on="local", workers=2, tune=6
    )
    assert result.tuned is not None
    failed = {r.settings["kind"]: r for r in result.tuned.records if r.state == "failed"}
    assert failed.keys() == {"diverges", "dies"}
    assert "the loss is not finite after epoch 1" in failed["diverges"].reason
    assert failed["diverges"].epochs == 1
    assert failed["diverges"].seconds > 0
    assert "the process died, most likely out of memory" in failed["dies"].reason
    assert result.tables["tuning"]["Trials", "mean"].tolist() == [12, 12]
    assert result.tables["tuning"]["Failed", "mean"]["breaking"] == sum(
        r.state == "failed" for r in result.tuned.records
    )
    assert len(result.trained["breaking"]) == 2


NEVER = """
from mil_bench.baselines.simple.pooling import MeanPool

class Never(MeanPool):
    '''Cannot be trained.'''

    def loss(self, out, bags, weight, progress):
        raise RuntimeError("broken from the start")
"""


def test_a_method_without_a_complete_trial_is_left_out_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "methods", Registry("mil_bench.methods", "method"))
    plugin = tmp_path / "never.py"
    plugin.write_text(NEVER)
    result = tuned_run(tmp_path, ["never", "mean-pool"], plugins=[plugin], tune=2)
    assert any(
        "never was left out: no trial is complete in fold 0" in fact for fact in result.facts
    )
    assert any("broken from the start" in fact for fact in result.facts)
    assert len(result.trained["mean-pool"]) == 2
    assert result.tables["tuning"]["Failed", "mean"]["never"] == 4


@pytest.mark.slow
def test_the_report_shows_what_was_tried_without_torch(tmp_path: Path) -> None:
    result = tuned_run(tmp_path, ["mean-pool"], tune=8, pruning=False)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from mil_bench.running.result_store import ResultStore\n"
        "from mil_bench.runs.result import RunResult\nstore = ResultStore(Path('results/runs'))\n"
        f"result = RunResult.collect(store, store.load_plan({result.run_id!r}))\n"
        "print(result.write(Path('page')))\nsys.exit('torch' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )
    page = (tmp_path / "page" / "report.html").read_text()
    for name in (
        "figure-tuning_history",
        "figure-tuning_importance",
        "figure-tuning_parallel",
        "table-tuning_gain",
    ):
        assert f'id="{name}"' in page
    assert "no trial was spent" not in page


@pytest.mark.slow
def test_the_dashboard_file_has_every_study_with_its_trials_once(tmp_path: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    tuned_run(tmp_path, ["abmil"], tune=3)
    result = tuned_run(tmp_path, ["abmil"], tune=5)
    assert result.tuned is not None
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "results" / "optuna.log")))
    found = {
        name: optuna.load_study(study_name=name, storage=storage)
        for name in optuna.get_all_study_names(storage)
    }
    assert len(found) == 2
    for record in result.tuned.records:
        (study,) = [study for name, study in found.items() if record.study in name]
        trial = study.trials[record.number]
        assert trial.state.name.lower() == record.state
        assert trial.user_attrs["job"] == record.job_key
        assert list(trial.intermediate_values.values()) == next(iter(record.curves.values()))
        assert len(study.trials) == 5


ADDING = """
import os, signal, sys
from pathlib import Path
from mil_bench.evaluation.trials import Trial
from mil_bench.tuning.proposals import SharedFile

if sys.argv[1] == "killed":
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
record = Trial("s", "m", "m", 0, 0, 0, {}, "k", "complete", 1.0, {0: [1.0]}, 1, 1.0)
SharedFile(Path("results/optuna.log")).add(record, {}, {}, "digits")
"""


@pytest.mark.slow
def test_a_process_killed_while_it_writes_the_dashboard_file_blocks_no_other(
    tmp_path: Path,
) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    def adding(how: str) -> subprocess.CompletedProcess[str]:
        # Less than the half minute after which Optuna's own locks count as stale.
        command = [sys.executable, "-c", ADDING, how]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=25)

    assert adding("killed").returncode == -signal.SIGKILL
    assert (tmp_path / "results" / "optuna.log").stat().st_size > 0
    done = adding("undisturbed")
    assert (done.returncode, done.stderr) == (0, "")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "results" / "optuna.log")))
    (study,) = optuna.get_all_study_summaries(storage)
    assert study.n_trials == 1


def test_a_trial_trains_with_fields_that_its_recipe_has_at_their_default(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    plan = studies_of(prepare(RunRequest(SMALL_TWIN, ("abmil",), **SMALL), setup))[0]
    assert "clip_norm" not in plan.base.recipe
    job = trial_job(plan, {"clip_norm": 2.0, "dropout": 0.5, "learning_rate": 0.01})
    assert job.recipe == {**plan.base.recipe, "clip_norm": 2.0, "learning_rate": 0.01}
    assert job.params == {**plan.base.params, "dropout": 0.5}
    assert job.key != trial_job(plan, {"dropout": 0.5, "learning_rate": 0.01}).key


@pytest.mark.slow
def test_a_study_that_another_process_has_claimed_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", **QUIET)
    made = prepare(RunRequest(SMALL_TWIN, ("mean-pool",), **SMALL), setup)
    plan = studies_of(made)[0]
    trials = TrialStore(setup.folder.studies)
    folder = trials.folder(plan.base.dataset, plan.base.method, plan.key)
    lock = trials.claim(folder)
    assert lock is not None
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        lock.release()  # the other process has finished

    from mil_bench.running import pool as training_pool

    monkeypatch.setattr(training_pool.time, "sleep", wait)
    assert trials.claim(folder) is None
    result = execute(made, setup)
    assert len(waits) >= 1
    assert result.tables["tuning"]["Trials", "mean"].tolist() == [10]


def test_a_broken_trial_file_is_named_and_left_alone(tmp_path: Path) -> None:
    tuned_run(tmp_path, ["mean-pool"], tune=2)
    path = next((tmp_path / "results" / "studies").rglob("trial-001.json"))
    path.write_text("{")
    with pytest.raises(
        mil_bench.MilBenchError, match=r"stored trial .*trial-001.json cannot be used"
    ):
        tuned_run(tmp_path, ["mean-pool"], tune=3)
    assert path.read_text() == "{"


def test_contradictory_requests_are_refused() -> None:
    with pytest.raises(InputError, match="tune must be a whole number from 1 on, not 0"):
        RunRequest(SMALL_TWIN, tune=0)
    with pytest.raises(InputError, match="tune makes trials and tuned takes stored ones"):
        RunRequest(SMALL_TWIN, tune=3, tuned=True)
    with pytest.raises(
        UnknownNameError, match=r"There is no way to select trials 'perfold'. Did you mean per-fold"
    ):
        RunRequest(SMALL_TWIN, select="perfold")


def test_the_command_of_a_tuned_request_asks_for_the_same() -> None:
    request = RunRequest(SMALL_TWIN, ("abmil",), tune=4, select="shared", pruning=False)
    assert request.command.endswith(
        "--seeds 0 --preset paper --tune 4 --select shared --no-pruning"
    )


def test_the_best_trial_is_the_earliest_of_equals_and_always_complete() -> None:
    def record(number: int, state: str, value: float | None) -> Trial:
        return Trial("s", "m", "m", 0, 0, number, {}, "k", state, value, {}, 1, 1.0)

    records = [record(0, "complete", 2.0), record(1, "pruned", None), record(2, "complete", 1.0)]
    assert best_of([*records, record(3, "complete", 1.0)]).number == 2
    assert best_of(records[1:2]) is None


@pytest.mark.slow
def test_tuning_is_the_same_with_several_workers(tmp_path: Path) -> None:
    tuned_run(tmp_path / "one", ["abmil", "hmil"], tune=4)
    tuned_run(tmp_path / "two", ["abmil", "hmil"], tune=4, on="local", workers=2)
    assert records_of(tmp_path / "one") == records_of(tmp_path / "two")
    assert (tmp_path / "two" / "results" / "optuna.log").exists()


@pytest.mark.slow
def test_the_commands_that_tuning_prints_can_be_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import shlex

    from mil_bench.cli import main

    places = [
        "--results",
        str(tmp_path / "results"),
        "--data",
        str(tmp_path / "data"),
        "--workers",
        "1",
    ]
    request = RunRequest(SMALL_TWIN, ("mean-pool",), folds=2, epochs=2, tuned=True)
    assert main([*shlex.split(request.command)[1:], *places]) == 2  # nothing is stored yet
    remedy = capsys.readouterr().err.splitlines()[-1].split()
    assert remedy[:2] == ["mil-bench", "tune"]
    remedy[remedy.index("--trials") + 1] = "2"
    assert main([*remedy[1:], *places]) == 0
    again = next(line.strip() for line in capsys.readouterr().out.splitlines() if "--tuned" in line)
    assert main([*shlex.split(again)[1:], *places, "--no-tracking"]) == 0
    said = capsys.readouterr().out
    report = Path(
        next(line.split()[1] for line in said.splitlines() if line.startswith("Report: "))
    )
    assert report.parent.name in said.partition("To print it again:")[2]
    assert "Tuning: cost of the search" in said


def test_tuning_without_trials_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from mil_bench.cli import main

    common = ["--dataset", SMALL_TWIN, "--results", str(tmp_path), "--data", str(tmp_path)]
    assert main(["tune", *common, "--trials", "0"]) == 2
    assert "tune must be a whole number from 1 on, not 0" in capsys.readouterr().err
