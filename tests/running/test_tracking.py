from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SMALL_TWIN

import mil_bench


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run(tmp_path)
    return tmp_path


def run(folder: Path) -> mil_bench.RunResult:
    places = {"results": folder / "results", "data": folder / "data", "progress": False, "workers": 1}
    return mil_bench.run(["abmil", "hmil"], SMALL_TWIN, folds=2, epochs=3, **places)


def client_of(folder: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'results' / 'mlflow.db'}")


def runs_of(folder: Path) -> list:
    client = client_of(folder)
    return client.search_runs([client.get_experiment_by_name("mil-bench/bracs-sim-twin").experiment_id])


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_parent_a_run_and_a_child_a_fold_with_curves_and_predictions(tracked: Path) -> None:
    client = client_of(tracked)
    runs = runs_of(tracked)
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in runs if r not in parents]
    assert len(parents) == 1
    assert len(children) == 2 * 3  # folds x (methods and the yardstick)
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parents[0].info.run_id}
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert all("generated twin, not BRACS" in r.data.tags["mil_bench.dataset"] for r in runs)
    assert all("twin" in r.info.run_name for r in runs)
    child = next(r for r in children if r.data.tags["mil_bench.method"] == "hmil")
    assert child.data.params["learning_rate"] == "0.0001"
    assert child.data.params["temperature"] == "0.1"
    assert 0 <= child.data.metrics["test_fine_accuracy"] <= 1
    assert len(client.get_metric_history(child.info.run_id, "val_loss")) == 3
    assert {a.path for a in client.list_artifacts(child.info.run_id)} == {"predictions.csv", "job.json"}
    assert {a.path for a in client.list_artifacts(parents[0].info.run_id)} == {"report"}


@pytest.mark.filterwarnings("ignore")
def test_repeating_a_run_doubles_nothing(tracked: Path) -> None:
    before = {r.info.run_id for r in runs_of(tracked)}
    run(tracked)
    assert {r.info.run_id for r in runs_of(tracked)} == before


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_was_trained_untracked_is_logged_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    places = {"results": tmp_path / "results", "data": tmp_path / "data", "progress": False, "workers": 1}
    mil_bench.run(["abmil", "hmil"], SMALL_TWIN, folds=2, epochs=3, tracking=False, **places)
    run(tmp_path)
    assert len(runs_of(tmp_path)) == 1 + 2 * 3


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_does_not_answer_is_named_once_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = run(tmp_path)
    assert result.facts == []
    assert capsys.readouterr().err.count("MLflow is left out from here on") == 1


def test_telemetry_is_off() -> None:
    import os

    import mil_bench.running.tracking.run_log  # noqa: F401

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
