"""What MLflow's local file has after a run, a repeated run, and a run that was tracked later."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import cli
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.result import RunResult
from mil_bench.tracking import entries
from mil_bench.tracking.run_log import RunLog
from mil_bench.tracking.tracker import MlflowTracker, resync

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of MLflow


def run(results: Path, **changed: object) -> RunResult:
    folders = {
        "results": results,
        "data": results.parent / "data",
        "progress": False,
        "on": "inline",
    }
    return mil_bench.run(
        ["abmil", "hmil"], SMALL_TWIN, **({"folds": 2, "epochs": 3} | folders | changed)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a tracked run: two methods and the yardstick on two folds."""
    results = tmp_path_factory.mktemp("tracked") / "results"
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        run(results)
    return results


@pytest.fixture
def tracked(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "data").symlink_to(whole.parent / "data")
    return Path(shutil.copytree(whole, tmp_path / "results"))


def client_of(results: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{results / 'mlflow.db'}")


def runs_of(results: Path, kind: str = "") -> list[Any]:
    client = client_of(results)
    experiment = client.get_experiment_by_name("mil-bench/bracs-sim-twin").experiment_id
    runs = client.search_runs([experiment])
    return [run for run in runs if kind in ("", run.data.tags["mil_bench.kind"])]


def artifacts(results: Path, logged: Any) -> set[str]:
    return {file.path for file in client_of(results).list_artifacts(logged.info.run_id)}


def plan_of(results: Path):
    store = ResultStore(results / "runs")
    return store.load_plan(next(iter(store.runs())))


def test_a_benchmark_has_its_methods_and_they_their_folds(whole: Path) -> None:
    (parent,) = runs_of(whole, "benchmark")
    methods = {logged.data.tags["mil_bench.method"]: logged for logged in runs_of(whole, "method")}
    assert set(methods) == {"abmil", "hmil", "lookup"}
    assert {m.data.tags["mlflow.parentRunId"] for m in methods.values()} == {parent.info.run_id}
    folds = runs_of(whole, "fold")
    assert len(folds) == 3 * 2
    for fold in folds:
        assert (
            fold.data.tags["mlflow.parentRunId"]
            == methods[fold.data.tags["mil_bench.method"]].info.run_id
        )
    assert {logged.info.status for logged in runs_of(whole)} == {"FINISHED"}
    run_id = plan_of(whole).run_id
    assert {logged.data.tags["mil_bench.run"] for logged in runs_of(whole)} == {run_id}
    assert (
        parent.info.run_name
        == f"{run_id[-8:]} abmil, hmil, lookup on bracs-sim-twin, patient-kfold"
    )


def test_a_simulated_dataset_is_named_as_such_in_every_run(whole: Path) -> None:
    assert all(
        "simulated dataset, not BRACS" in logged.data.tags["mil_bench.dataset"]
        for logged in runs_of(whole)
    )
    assert all("twin" in logged.info.run_name for logged in runs_of(whole))


def test_a_fold_has_settings_curves_values_provenance_and_its_model(whole: Path) -> None:
    result = RunResult.collect(ResultStore(whole / "runs"), plan_of(whole))
    fold = next(
        logged
        for logged in runs_of(whole, "fold")
        if logged.info.run_name.startswith("hmil seed 0 fold 1")
    )
    params, metrics, tags = fold.data.params, fold.data.metrics, fold.data.tags
    assert (params["learning_rate"], params["temperature"], params["epochs"]) == (
        "0.0001",
        "0.1",
        "3",
    )
    measured = result.evidence.measured["hmil"][0, 1].values
    for measure, value in measured.items():
        section = f"test_{measure.level}" + (f"_{measure.key}" if measure.of else "")
        assert metrics.get(f"{section}/{measure.of or measure.key}") == (
            None if math.isnan(value) else value
        )
    assert {
        "test_fine_auc/ADH",
        "test_coarse/macro_auc",
        "test_coarse_auc/malignant",
    } <= metrics.keys()
    history = client_of(whole).get_metric_history(fold.info.run_id, "curves/val_loss")
    stored = result.trained["hmil"][1]
    assert [point.value for point in history] == stored.curves["val_loss"]
    assert metrics["cost/seconds"] == stored.seconds
    assert tags["mil_bench.split_digest"] == result.plan.splits.digest
    assert tags["mil_bench.data_digest"] == result.plan.jobs[0].data_digest
    assert tags["version.torch"] == stored.environment["torch"]
    assert tags.get("mil_bench.commit", "") == stored.environment["commit"]
    assert tags["device"]
    assert artifacts(whole, fold) == {"fold-01.weights.npz", "predictions.csv", "job.json"}
    assert round((fold.info.end_time - fold.info.start_time) / 1000, 3) == stored.seconds


def test_a_yardstick_has_no_weights_and_no_curves(whole: Path) -> None:
    fold = next(
        logged
        for logged in runs_of(whole, "fold")
        if logged.data.tags["mil_bench.method"] == "lookup"
    )
    assert artifacts(whole, fold) == {"predictions.csv", "job.json"}
    assert not [name for name in fold.data.metrics if name.startswith(("curves", "cost"))]


def test_a_method_has_the_mean_and_spread_of_its_folds(whole: Path) -> None:
    frame = RunResult.collect(ResultStore(whole / "runs"), plan_of(whole)).tables["fine"]
    for method in runs_of(whole, "method"):
        label, metrics = method.data.tags["mil_bench.method"], method.data.metrics
        assert 100 * metrics["test_fine/macro_f1"] == pytest.approx(
            frame.loc[label, ("Macro F1", "mean")]
        )
        assert 100 * metrics["std_test_fine/macro_f1"] == pytest.approx(
            frame.loc[label, ("Macro F1", "std")]
        )
    (parent,) = runs_of(whole, "benchmark")
    assert 100 * parent.data.metrics["fine_accuracy/hmil"] == pytest.approx(
        frame.loc["hmil", ("Accuracy", "mean")]
    )


def test_a_benchmark_has_its_tables_figures_and_report(whole: Path) -> None:
    (parent,) = runs_of(whole, "benchmark")
    listed = client_of(whole).list_artifacts(parent.info.run_id, "report")
    names = {Path(found.path).name for found in listed}
    assert {
        "report.html",
        "report.md",
        "tables.tex",
        "fine.csv",
        "classwise_auc.csv",
        "figures",
    } <= names
    pictures = client_of(whole).list_artifacts(parent.info.run_id, "report/figures")
    assert "report/figures/classwise_auc.svg" in {found.path for found in pictures}
    assert "| hmil " in parent.data.tags["mlflow.note.content"]
    assert parent.inputs.dataset_inputs[0].dataset.name == "bracs-sim-twin"


def test_repeating_a_run_or_a_resync_doubles_nothing(tracked: Path) -> None:
    def state() -> dict[str, tuple]:
        client, found = client_of(tracked), {}
        for logged in runs_of(tracked):
            points = [
                client.get_metric_history(logged.info.run_id, name) for name in logged.data.metrics
            ]
            found[logged.info.run_id] = (
                logged.info.status,
                logged.info.end_time,
                sum(map(len, points)),
            )
        return found

    before = state()
    run(tracked)
    assert state() == before
    assert resync(Results(tracked), plan_of(tracked).run_id) == (0, 6)
    assert state() == before


def test_more_methods_are_another_benchmark_and_leave_the_first_alone(tracked: Path) -> None:
    before = {logged.info.run_id for logged in runs_of(tracked)}
    folders = {
        "results": tracked,
        "data": tracked.parent / "data",
        "progress": False,
        "on": "inline",
    }
    mil_bench.run(["abmil", "hmil", "mean-pool"], SMALL_TWIN, folds=2, epochs=3, **folders)
    after = {logged.info.run_id for logged in runs_of(tracked)}
    assert before < after
    assert len(after - before) == 1 + 4 + 4 * 2


def test_a_run_that_was_trained_untracked_is_logged_later(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(whole / "runs", tmp_path / "runs")
    run_id = plan_of(tmp_path).run_id
    assert cli.main(["runs", "track", run_id, "--results", str(tmp_path)]) == 0
    assert (
        f"{run_id}: 6 of 6 stored trainings were missing in MLflow, now logged"
        in capsys.readouterr().out
    )
    old, new = (
        sorted((e.info.run_name, len(e.data.metrics)) for e in runs_of(place))
        for place in (whole, tmp_path)
    )
    assert old == new
    assert {logged.info.status for logged in runs_of(tmp_path)} == {"FINISHED"}


def test_what_is_half_written_doubled_or_orphaned_is_made_anew(tracked: Path) -> None:
    client = client_of(tracked)
    half, twice, orphan = runs_of(tracked, "fold")[:3]
    client.update_run(half.info.run_id, status="RUNNING")
    copy = client.create_run(twice.info.experiment_id, tags=twice.data.tags)
    client.set_terminated(copy.info.run_id)
    client.set_tag(orphan.info.run_id, "mlflow.parentRunId", "0" * 32)
    resync(Results(tracked), plan_of(tracked).run_id)
    folds = runs_of(tracked, "fold")
    assert (
        len(
            {
                logged.data.tags["mil_bench.fold"] + logged.data.tags["mil_bench.method"]
                for logged in folds
            }
        )
        == 6
    )
    assert len(folds) == 6
    assert {logged.info.status for logged in folds} == {"FINISHED"}
    assert not {half.info.run_id, orphan.info.run_id} & {logged.info.run_id for logged in folds}


def test_trials_are_logged_once_with_what_they_tried_and_why_they_ended(tracked: Path) -> None:
    result = run(tracked, tune=5)
    assert result.tuned is not None
    for _ in range(2):
        found = {
            logged.data.tags["mil_bench.trial"]: logged for logged in runs_of(tracked, "trial")
        }
        assert len(found) == len(runs_of(tracked, "trial")) == 2 * 2 * 5  # methods x folds x trials
        resync(Results(tracked), result.run_id)
    methods = {m.info.run_id: m.data.tags for m in runs_of(tracked, "method")}
    for trial in result.tuned.records:
        logged = found[entries.trial_name(trial)]
        assert methods[logged.data.tags["mlflow.parentRunId"]]["mil_bench.method"] == trial.label
        assert methods[logged.data.tags["mlflow.parentRunId"]]["mil_bench.run"] == result.run_id
        assert logged.info.status == {"complete": "FINISHED", "pruned": "KILLED"}[trial.state]
        assert logged.data.metrics.get("trial/value") == trial.value
        assert all(logged.data.params[name] == str(value) for name, value in trial.settings.items())
        history = client_of(tracked).get_metric_history(logged.info.run_id, "curves/val_loss")
        assert [point.value for point in history] == next(iter(trial.curves.values()))
    (method,) = (
        m
        for m in methods.values()
        if (m["mil_bench.run"], m["mil_bench.method"]) == (result.run_id, "abmil")
    )
    folds = [f for f in runs_of(tracked, "fold") if f.data.tags["mil_bench.run"] == result.run_id]
    assert len(folds) == 6
    assert {f.info.status for f in folds} == {"FINISHED"}
    assert method["mil_bench.trainings"] == "2"


def test_a_training_that_fails_is_noted_at_its_method(tracked: Path) -> None:
    plan = plan_of(tracked)
    ResultStore(tracked / "runs").folder(plan.jobs[1]).joinpath("fold-01.json").unlink()
    fold = next(
        e
        for e in runs_of(tracked, "fold")
        if e.data.tags["mil_bench.fold"] == f"{plan.jobs[1].key}/1"
    )
    client_of(tracked).delete_run(fold.info.run_id)
    tracker = MlflowTracker(Results(tracked))
    tracker.on_start(plan, plan.trainings, 5)
    tracker.on_failure(plan.jobs[1], (1,), "out of memory")
    tracker.on_report(tracked / "reports" / plan.run_id, [], [])
    tracker.on_end()
    method = next(
        e
        for e in runs_of(tracked, "method")
        if e.data.tags["mil_bench.method"] == plan.jobs[1].label
    )
    assert method.data.tags["mil_bench.failed"] == "seed 0 fold 1: out of memory"
    assert method.info.status == "FAILED"
    assert runs_of(tracked, "benchmark")[0].info.status == "FAILED"


def test_a_server_that_does_not_answer_is_named_once_and_costs_nothing(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    result = run(tracked)
    assert all("validation parts" in fact for fact in result.facts)
    message = capsys.readouterr().err
    assert message.count("MLflow failed: ") == 1
    assert f"mil-bench runs track {result.run_id}" in message
    assert cli.main(["runs", "track", result.run_id, "--results", str(tracked)]) == 2
    assert "mil-bench: MLflow failed: " in capsys.readouterr().err


def test_values_on_test_slides_are_logged_when_all_trainings_are_done(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(whole / "runs", tmp_path / "runs")
    plan = plan_of(tmp_path)
    record = ResultStore(tmp_path / "runs").folder(plan.jobs[1]) / "fold-01.json"
    stored = record.read_bytes()
    record.unlink()
    tracker = MlflowTracker(Results(tmp_path))
    tracker.on_start(plan, plan.trainings, 5)
    tracker.on_epoch(None)
    tracker.on_end()  # as if it was interrupted
    folds = runs_of(tmp_path, "fold")
    assert len(folds) == 5
    assert {fold.data.tags["mil_bench.test"] for fold in folds} == {"after the run"}
    assert all("predictions.csv" not in artifacts(tmp_path, fold) for fold in folds)
    names = {name for logged in runs_of(tmp_path) for name in logged.data.metrics}
    assert not [n for n in names if n.startswith(("test_", "std_test_", "fine_", "coarse_"))]
    assert "curves/val_loss" in names
    record.write_bytes(stored)
    resync(Results(tmp_path), plan.run_id)
    old, new = (
        sorted((e.info.run_name, sorted(e.data.metrics.items())) for e in runs_of(place))
        for place in (whole, tmp_path)
    )
    assert old == new
    assert {fold.data.tags["mil_bench.test"] for fold in runs_of(tmp_path, "fold")} == {"logged"}
    assert all("predictions.csv" in artifacts(tmp_path, e) for e in runs_of(tmp_path, "fold"))


def test_an_unknown_run_cannot_be_resynced(tracked: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["runs", "track", "bracs", "--results", str(tracked)]) == 2
    assert "There is no run 'bracs'" in capsys.readouterr().err


def test_telemetry_is_off() -> None:
    import os

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert RunLog.__module__ == "mil_bench.tracking.run_log"


def test_an_interrupted_run_is_logged_as_killed_and_finished_by_the_next_call(
    tracked: Path,
) -> None:
    client = client_of(tracked)
    (benchmark,) = runs_of(tracked, "benchmark")
    client.update_run(benchmark.info.run_id, status="RUNNING")
    tracker = MlflowTracker(Results(tracked))
    plan = plan_of(tracked)
    tracker.on_start(plan, plan.trainings, 6)
    tracker.on_end()
    assert runs_of(tracked, "benchmark")[0].info.status == "KILLED"
    resync(Results(tracked), plan_of(tracked).run_id)
    assert runs_of(tracked, "benchmark")[0].info.status == "FINISHED"
