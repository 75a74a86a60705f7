"""A run's models on other cohorts: the drop, verdicts on the cohort's patients, nothing trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench.cli import main
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.errors import InputError
from mil_bench.runs import cohorts

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

SHIFTED = f"{SMALL_TWIN},shift=6"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    folder = tmp_path_factory.mktemp("ran")
    places = {"results": folder / "results", "data": folder / "data"}
    quiet = {"tracking": False, "progress": False, "on": "inline"}
    result = mil_bench.run(["mean-pool", "linear-probe"], SMALL_TWIN, folds=3, **places, **quiet)
    return result, folder


@pytest.fixture(scope="module")
def cohort(ran: tuple[RunResult, Path]) -> cohorts.Cohort:
    return cohorts.tested_on(ran[0], SHIFTED, ran[1] / "data")


def test_every_model_predicts_all_slides_of_the_cohort(
    ran: tuple[RunResult, Path], cohort: cohorts.Cohort
) -> None:
    result, folder = ran
    assert set(cohort.trained) == {"mean-pool", "linear-probe"}
    shifted = open_store(find_dataset(SHIFTED), folder / "data")
    for folds in cohort.trained.values():
        assert [fold.fold for fold in folds] == [0, 1, 2]
        for fold in folds:
            assert fold.predictions.slides.tolist() == shifted.slides["slide"].tolist()
            assert np.array_equal(fold.predictions.labels, shifted.labels)
    features = shifted.bag(5).features
    alone = result.predict(np.array(features), "mean-pool", fold=1)
    stored = cohort.trained["mean-pool"][1].predictions.fine[5]
    assert np.allclose(alone.filter(regex=r"^p\(").to_numpy()[0], stored, atol=1e-6)


def test_the_drop_is_internal_minus_external(
    ran: tuple[RunResult, Path], cohort: cohorts.Cohort
) -> None:
    table = next(table for table in cohort.report_tables if table.name == "drop")
    row = table.cells["linear-probe"]
    columns = table.columns
    assert any("internal" in c for c in columns)
    names = [c.removesuffix(", internal") for c in columns if c.endswith(", internal")]
    for name in names:
        before, after, lost = (row[f"{name}, {what}"] for what in ("internal", "external", "drop"))
        assert not isinstance(before, str)
        assert not isinstance(after, str)
        assert not isinstance(lost, str)
        assert lost.mean == pytest.approx(before.mean - after.mean, abs=1e-9)
    lost = row[f"{names[0]}, drop"]
    assert not isinstance(lost, str)
    assert lost.mean > 2  # all features were moved


def test_verdicts_are_on_patients_of_the_cohort_by_the_rule_for_one_split(
    cohort: cohorts.Cohort,
) -> None:
    evidence = cohort.evidence
    assert len(evidence.sizes) == 1
    assert evidence.seeds == 3
    assert set(evidence.complete) == {"mean-pool", "linear-probe"}
    groups = set(cohort.trained["mean-pool"][0].predictions.groups)
    assert all(group.startswith("patient-shifted-") for group in groups)
    assert evidence.bootstrap.units == len(groups)
    assert len(cohort.verdicts) == 1
    assert "which all test the same patients" in cohort.caption


def test_a_second_call_predicts_nothing(
    ran: tuple[RunResult, Path], cohort: cohorts.Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise AssertionError("predicted again")

    monkeypatch.setattr(cohorts, "predict_slides", refuse)
    again = cohorts.tested_on(ran[0], SHIFTED, ran[1] / "data")
    for method, folds in again.trained.items():
        for fold, before in zip(folds, cohort.trained[method], strict=True):
            assert np.array_equal(fold.predictions.fine, before.predictions.fine)


def test_slides_of_the_training_are_no_cohort(ran: tuple[RunResult, Path]) -> None:
    with pytest.raises(InputError, match="none of its 120 slides can be scored"):
        cohorts.tested_on(ran[0], SMALL_TWIN, ran[1] / "data")


def test_features_of_another_width_are_refused(ran: tuple[RunResult, Path]) -> None:
    with pytest.raises(InputError, match=r"it has 8 features per instance, .* trained on 16"):
        cohorts.tested_on(ran[0], "bracs-sim:slides=120,rows=12,width=8", ran[1] / "data")


def test_the_command_shows_both(ran: tuple[RunResult, Path], capsys: pytest.CaptureFixture) -> None:
    result, folder = ran
    words = ["run", "--dataset", SMALL_TWIN, "--methods", "mean-pool", "linear-probe"]
    words += ["--folds", "3", "--no-tracking", "--on", "inline", "--test-on", SHIFTED]
    words += ["--results", str(folder / "results"), "--data", str(folder / "data")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"On {SHIFTED}:" in shown
    assert "From the run's own slides to" in shown
    tables = list((folder / "results" / "reports" / result.run_id).glob("on-*/drop.csv"))
    assert len(tables) == 1


def test_a_shift_of_0_gives_the_bags_of_before() -> None:
    plain, zero = find_dataset(SMALL_TWIN), find_dataset(f"{SMALL_TWIN},shift=0")
    assert repr(plain.generator) == repr(zero.generator)
    assert "shift" not in repr(plain.generator)
    assert "another hospital, shifted by 6" in find_dataset(SHIFTED).generator.describe()
