"""Runs whose labels belong to patients: as one bag, and as a mean of slides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from patient_data import HIERARCHY, by_hand, made_bags, run_study, study
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

import mil_bench
from mil_bench import cli
from mil_bench.errors import InputError
from mil_bench.evaluation.metrics import Measure, measure
from mil_bench.evaluation.predictions import Predictions
from mil_bench.planning.plan import joined
from mil_bench.runs.fold_table import prediction_frames
from mil_bench.split_files.formats.own import SplitFile
from mil_bench.splits.plan import Fold

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

METHODS = ("abmil", "hmil")
QUIET = {"tracking": False, "progress": False, "on": "inline", "device": "cpu"}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("patients"), made_bags())


@pytest.fixture(scope="module")
def as_bags(card: Path) -> RunResult:
    return run_study(card, METHODS)


@pytest.fixture(scope="module")
def averaged(card: Path) -> RunResult:
    return run_study(card, METHODS, combine="mean")


@pytest.fixture(scope="module")
def on_hand(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The same run on a store in which the features of patients were concatenated by hand."""
    bags = by_hand(made_bags())
    return run_study(study(tmp_path_factory.mktemp("hand"), bags, unit="slide"), METHODS)


@pytest.mark.parametrize("method", [*METHODS, "lookup"])
def test_bags_train_as_features_that_were_concatenated(
    as_bags: RunResult, on_hand: RunResult, method: str
) -> None:
    for one, other in zip(as_bags.trained[method], on_hand.trained[method], strict=True):
        assert one.curves == other.curves
        for column, values in vars(other.predictions).items():
            assert np.array_equal(getattr(one.predictions, column), values), column
    if method != "lookup":
        states = (run.model(method, fold=1).state_dict() for run in (as_bags, on_hand))
        assert all(
            np.array_equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True)
        )


def test_tables_are_those_of_features_that_were_concatenated(
    as_bags: RunResult, on_hand: RunResult
) -> None:
    for name in ("fine", "coarse", "classwise_auc", "pooled"):
        assert as_bags.tables[name].equals(on_hand.tables[name])
    assert [v.adjusted for v in as_bags.verdicts] == [v.adjusted for v in on_hand.verdicts]


def test_the_mean_is_that_of_the_slides(averaged: RunResult) -> None:
    slides = averaged.slide_predictions
    columns = [f"p({name})" for name in HIERARCHY.fine]
    by = ["method", "seed", "fold", "patient"]
    expected = slides.groupby(by, sort=False)[columns].mean()
    found = averaged.predictions.set_index(by)
    assert len(found) == 3 * 24
    assert found.index.is_unique
    np.testing.assert_allclose(found[columns], expected.loc[found.index], rtol=1e-14)
    own = slides[(slides["method"] == "hmil") & (slides["patient"] == "P08")]
    assert own["slide"].tolist() == ["s0-08", "s1-08", "s2-08"]
    assert found.loc["hmil"].xs("P08", level="patient")["slides"].tolist() == [
        "s0-08; s1-08; s2-08"
    ]


def test_metrics_per_patient_are_scikit_learns(averaged: RunResult) -> None:
    for fold in averaged.trained["abmil"]:
        assert fold.by_slide is not None
        slides = fold.by_slide.frame(HIERARCHY, "patient")
        columns = [f"p({name})" for name in HIERARCHY.fine]
        table = slides.groupby("patient").agg({"label": "first", **dict.fromkeys(columns, "mean")})
        truth, scores = table["label"], table[columns].to_numpy()
        predicted = np.array(HIERARCHY.fine)[scores.argmax(1)]
        values = measure(fold.predictions, HIERARCHY).values
        expected = {
            "accuracy": (truth == predicted).mean(),
            "balanced_accuracy": balanced_accuracy_score(truth, predicted),
            "macro_f1": f1_score(truth, predicted, average="macro"),
            "macro_auc": roc_auc_score(truth, scores, multi_class="ovr"),
        }
        for key, value in expected.items():
            assert values[Measure("fine", key)] == pytest.approx(value, abs=1e-12)


def test_a_second_run_reads_what_is_stored(card: Path, averaged: RunResult) -> None:
    again = mil_bench.open_run(averaged.run_id, card.parent / "results")
    assert again.tables["fine"].equals(averaged.tables["fine"])
    assert again.slide_predictions.equals(averaged.slide_predictions)
    assert averaged.store is not None
    assert averaged.store.values(averaged.plan.jobs[0], 0) is not None


def test_both_ways_have_the_same_folds_and_other_keys(
    as_bags: RunResult, averaged: RunResult, on_hand: RunResult
) -> None:
    assert as_bags.plan.splits == averaged.plan.splits
    keys = [{job.key for job in run.plan.jobs} for run in (as_bags, averaged, on_hand)]
    assert not (keys[0] & keys[1] | keys[1] & keys[2] | keys[0] & keys[2])
    assert all("combine" not in job.to_json() for job in on_hand.plan.jobs)
    assert "patients" not in on_hand.plan.to_json()
    assert (
        type(as_bags.plan).from_json(json.loads(json.dumps(as_bags.plan.to_json()))) == as_bags.plan
    )


def test_tables_speak_of_patients(as_bags: RunResult, averaged: RunResult) -> None:
    assert "24 patients with 45 slides; the slides of a patient are one bag" in as_bags.plan.caption
    assert "a patient's slides are averaged" in averaged.plan.caption
    for run in (as_bags, averaged):
        tables = {table.name: table for table in run.report_tables}
        assert tables["folds"].note == "Number of patients."
        counts = [row["Test"].mean for row in tables["folds"].cells.values()]
        assert sum(counts) == 24
        assert not [t.name for t in run.report_tables if "slide" in f"{t.title} {t.note}"]
        assert "Patients" in tables["centres"].columns
        assert "Test slides" not in tables["centres"].columns
        assert not [p.caption for p in run.figures.pictures.values() if "slide" in p.caption]
        assert run.evidence.sizes == tuple(
            (int(row["Training"].mean), int(row["Test"].mean))
            for row in tables["folds"].cells.values()
        )


def test_predictions_of_a_fold_as_files(as_bags: RunResult, averaged: RunResult) -> None:
    files = prediction_frames(as_bags.plan, as_bags.trained["abmil"][0])
    assert {name: list(frame.columns[:3]) for name, frame in files.items()} == {
        "predictions": ["patient", "slides", "label"]
    }
    files = prediction_frames(averaged.plan, averaged.trained["abmil"][0])
    assert {name: list(frame.columns[:3]) for name, frame in files.items()} == {
        "predictions": ["patient", "slides", "label"],
        "slide_predictions": ["slide", "patient", "label"],
    }


def test_per_slide_predictions_name_known_patients(on_hand: RunResult) -> None:
    frame = on_hand.predictions
    assert frame.columns[3:6].tolist() == ["slide", "patient", "label"]
    alone = Predictions(np.array(["x"]), np.array([0]), np.eye(3)[:1], np.array(["slide x"]))
    assert alone.frame(HIERARCHY, "patient")["patient"].tolist() == [""]
    assert "patient" not in alone.frame(HIERARCHY).columns


def test_attention_auc_of_a_patient_is_the_mean_over_its_slides_that_have_one() -> None:
    nan = float("nan")
    made = Predictions(
        np.array(["x", "y", "z"]),
        np.array([1, 1, 0]),
        np.eye(3),
        np.array(["p", "p", "q"]),
        attention_auc=np.array([0.5, nan, nan]),
    ).of_patients()
    assert made.slides.tolist() == ["p", "q"]
    assert made.labels.tolist() == [1, 0]
    assert made.attention_auc is not None
    assert np.array_equal(made.attention_auc, [0.5, nan], equal_nan=True)


def test_slides_with_another_label_are_refused_by_name(tmp_path: Path) -> None:
    bags = made_bags()
    wrong = next(bag for bag in bags if bag.slide.id == "s1-08")
    object.__setattr__(wrong.slide, "label", 0)
    with pytest.raises(InputError, match=r"'P08' have different labels: s0-08 c, s1-08 a, s2-08 c"):
        run_study(study(tmp_path, bags), ["abmil"])


def test_combine_is_for_patients_only(tmp_path: Path) -> None:
    card = study(tmp_path, by_hand(made_bags()), unit="slide")
    with pytest.raises(InputError, match="labels of study belong to its slides"):
        run_study(card, ["abmil"], combine="mean")


@pytest.mark.parametrize("combine", ["bag", "mean"])
def test_folds_that_tear_a_patient_are_refused(
    card: Path, tmp_path: Path, combine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = run_study(card, ["mean-pool"], combine=combine, folds=2).plan
    fold = plan.splits.folds[0]
    moved = "s1-08"
    parts = {role: set(getattr(fold, role)) - {moved} for role in ("train", "val", "test")}
    parts["train" if moved in fold.test else "test"].add(moved)
    torn = Fold(*(tuple(parts[role]) for role in ("train", "val", "test")))
    SplitFile("study", "imported", "by hand", (torn,)).write(tmp_path / "torn.json")
    words = ["--dataset", str(card), "--combine", combine, "--splits", str(tmp_path / "torn.json")]
    words += ["--data", str(card.parent / "data"), "--dry-run", "--methods", "abmil"]
    assert cli.main(["run", *words]) == 2
    assert "of patient 'P08' and lack" in capsys.readouterr().err


def test_runs_with_other_combinations_are_not_joined(
    as_bags: RunResult, averaged: RunResult
) -> None:
    with pytest.raises(InputError, match=r"otherwise than .* \(mean and bag\)"):
        joined([as_bags.plan, averaged.plan])
