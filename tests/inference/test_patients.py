"""Models of patients on new slides: predictions, cohorts, maps, exported files, bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from feature_files import write_h5
from patient_data import HIERARCHY, by_hand, made_bags, run_study, study

import mil_bench
from mil_bench import cli
from mil_bench.errors import InputError
from mil_bench.results import Results
from mil_bench.runs import cohorts
from mil_bench.runs.mapping import SlideRequest, map_slides
from mil_bench.runs.predicting import ModelChoice, predict
from mil_bench.sharing.exporting import export_results
from mil_bench.sharing.importing import import_results
from mil_bench.sharing.model_export import export_model

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

COLUMNS = [f"p({name})" for name in HIERARCHY.fine]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patients")
    bags = made_bags()
    study(folder, bags)
    study(folder, made_bags(9, 1, "n"), "cohort")
    study(folder, by_hand(made_bags(9, 1, "n")), "apart", unit="slide")
    for bag in bags:
        write_h5(folder / "features" / f"{bag.slide.id}.h5", bag.features, bag.coords.astype(int))
    rows = [(b.slide.id, HIERARCHY.fine[b.slide.label], b.slide.group) for b in bags]
    pd.DataFrame(rows, columns=["slide", "label", "patient"]).to_csv(
        folder / "labels.csv", index=False
    )
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, RunResult]:
    return {
        combine: run_study(folder / "study.toml", ["abmil", "hmil"], combine=combine)
        for combine in ("bag", "mean")
    }


@pytest.mark.parametrize("combine", ["bag", "mean"])
@pytest.mark.parametrize("source", ["features", "data/study.h5"])
def test_predictions_are_those_of_the_run(
    folder: Path, runs: dict[str, RunResult], combine: str, source: str
) -> None:
    result, fold = runs[combine], 1
    choice = ModelChoice("hmil", fold, data=folder / "data")
    labels = folder / "labels.csv" if source == "features" else None
    made = predict(result, folder / source, choice, labels=labels)
    stored = result.trained["hmil"][fold].predictions
    found = made.frame.set_index("patient").loc[stored.slides]
    np.testing.assert_allclose(found[COLUMNS].to_numpy(), stored.fine, atol=1e-6)
    assert (found["trained_on"] == 0).all()
    assert (made.frame["trained_on"] > 0).sum() == 16
    assert made.frame.set_index("patient").loc["P08", "slides"] == "s0-08; s1-08; s2-08"
    assert "on 8 patients of" in made.tables[0].caption
    assert "These patients are left out of the scores." in " ".join(made.notes)
    if combine == "mean":
        assert made.of_slides is not None
        mean = made.of_slides.groupby("patient")[COLUMNS].mean()
        np.testing.assert_allclose(made.frame.set_index("patient")[COLUMNS], mean, rtol=1e-14)
    else:
        assert made.of_slides is None


def test_new_slides_without_patients_are_patients_of_their_own(
    folder: Path, runs: dict[str, RunResult], tmp_path: Path
) -> None:
    for name in ("x1", "x2"):
        write_h5(tmp_path / f"{name}.h5", np.ones((3, 6), dtype=np.float32))
    made = predict(runs["bag"], tmp_path, ModelChoice("abmil", data=folder / "data"))
    assert made.frame["patient"].tolist() == ["slide x1", "slide x2"]
    assert "2 slides have no known patient and count as patients of their own." in made.notes
    array = runs["bag"].predict(np.ones((3, 6)), "abmil", data=folder / "data")
    assert np.allclose(array[COLUMNS], made.frame.loc[[0], COLUMNS])


def test_new_patients_with_two_labels_are_refused(
    folder: Path, runs: dict[str, RunResult], tmp_path: Path
) -> None:
    table = pd.read_csv(folder / "labels.csv")
    table.loc[table["slide"] == "s1-08", "label"] = "a"
    table.to_csv(tmp_path / "wrong.csv", index=False)
    choice = ModelChoice("abmil", data=folder / "data")
    with pytest.raises(InputError, match="'P08' have different labels: s0-08 c, s1-08 a, s2-08 c"):
        predict(runs["bag"], folder / "features", choice, labels=tmp_path / "wrong.csv")


@pytest.mark.parametrize("combine", ["bag", "mean"])
def test_another_cohort_is_scored_by_patient(
    folder: Path, runs: dict[str, RunResult], combine: str
) -> None:
    cohort = cohorts.tested_on(runs[combine], str(folder / "cohort.toml"), folder / "data")
    apart = by_hand(made_bags(9, 1, "n"))
    for fold in cohort.trained["abmil"]:
        assert fold.predictions.slides.tolist() == [bag.slide.id for bag in apart]
        assert fold.predictions.labels.tolist() == [bag.slide.label for bag in apart]
    if combine == "bag":
        alone = runs[combine].predict(apart[8].features, "abmil", fold=2, data=folder / "data")
        stored = cohort.trained["abmil"][2].predictions.fine[8]
        np.testing.assert_allclose(alone[COLUMNS].to_numpy()[0], stored, atol=1e-6)
    assert "9 patients, predicted by every model" in cohort.caption
    again = cohorts.tested_on(runs[combine], str(folder / "cohort.toml"), folder / "data")
    assert np.array_equal(
        again.trained["hmil"][0].predictions.fine, cohort.trained["hmil"][0].predictions.fine
    )


def test_a_cohort_of_slides_is_refused(folder: Path, runs: dict[str, RunResult]) -> None:
    with pytest.raises(InputError, match="belong to the slide, and those of the run to"):
        cohorts.tested_on(runs["bag"], str(folder / "apart.toml"), folder / "data")


def test_a_map_is_the_part_of_the_bag_of_its_patient(
    folder: Path, runs: dict[str, RunResult]
) -> None:
    choice = ModelChoice("all", data=folder / "data")
    (one,) = map_slides(runs["bag"], SlideRequest("s1-08"), choice)
    whole = map_slides(runs["bag"], SlideRequest("P08"), choice)
    assert [made.slide for made in whole] == ["s0-08", "s1-08", "s2-08"]
    assert {made.patient for made in whole} == {one.patient} == {"P08"}
    bags = {bag.slide.id: bag for bag in made_bags()}
    for k, method in enumerate(one.methods):
        assert np.array_equal(method.values, whole[1].methods[k].values)
        assert len(method.values) == len(bags["s1-08"].features)
        ranks = np.concatenate([made.methods[k].ranks for made in whole])
        assert ranks.min(0).tolist() == [0.0] * ranks.shape[1]
        assert ranks.max(0).tolist() == [1.0] * ranks.shape[1]
        expected = np.concatenate([made.methods[k].values for made in whole]).argsort(0)
        assert np.array_equal(ranks.argsort(0), expected)
    assert np.array_equal(one.patches.corners, bags["s1-08"].coords)
    assert "in the bag of its patient" in one.overview.note
    assert one.frame["patient"].unique().tolist() == ["P08"]
    assert one.witnesses is not None
    assert one.witnesses.tolist() == (bags["s1-08"].instance_labels >= 0).tolist()


def test_maps_of_averaged_slides_are_of_single_slides(
    folder: Path, runs: dict[str, RunResult]
) -> None:
    choice = ModelChoice("abmil", data=folder / "data")
    request = SlideRequest("P08", features=folder / "features")
    made = map_slides(runs["mean"], request, choice)
    assert [of.slide for of in made] == ["s0-08", "s1-08", "s2-08"]
    assert all(of.methods[0].ranks.max() == 1 for of in made)
    (alone,) = map_slides(runs["bag"], SlideRequest(str(folder / "features" / "s1-08.h5")), choice)
    assert any("mapped alone" in note for note in alone.notes)


@pytest.mark.parametrize("combine", ["bag", "mean"])
def test_bundles_bring_the_same_tables(
    folder: Path, runs: dict[str, RunResult], combine: str, tmp_path: Path
) -> None:
    result = runs[combine]
    assert result.store is not None
    export_results(result.store, [result.run_id], tmp_path / "lab.zip", "Lab A", weights=False)
    imported = import_results(Results(tmp_path / "results"), tmp_path / "lab.zip", folder / "data")
    (plan,) = imported.plans
    theirs = mil_bench.open_run(plan.run_id, tmp_path / "results")
    assert np.array_equal(theirs.tables["fine"].to_numpy(), result.tables["fine"].to_numpy())
    assert len(theirs.slide_predictions) == len(result.slide_predictions)


def test_an_exported_model_says_what_its_items_are(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    for combine, words in (("bag", "all slides of a patient"), ("mean", "average the prob")):
        path, card = export_model(runs[combine], "abmil", tmp_path / f"{combine}.safetensors")
        assert words in card.read_text()
        assert mil_bench.load_model(path).about.combine == combine


def test_commands_name_slides_and_patients(
    folder: Path,
    runs: dict[str, RunResult],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    words = ["--results", str(folder / "results"), "--data", str(folder / "data")]
    run = [runs["mean"].run_id, "--method", "abmil", *words]
    store = str(folder / "data" / "study.h5")
    assert cli.main(["predict", *run, store, "--out", str(tmp_path / "new.csv")]) == 0
    assert "(24 patients)" in capsys.readouterr().out
    slides = pd.read_csv(tmp_path / "new-slides.csv")
    assert slides.columns[:2].tolist() == ["slide", "patient"]
    assert len(slides) == 45
    assert cli.main(["predict", *run, store]) == 0
    assert "s0-08; s1-08; s2-08" in capsys.readouterr().out
    assert cli.main(["maps", *run, "P03", "--out", str(tmp_path / "maps")]) == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["s0-03", "s1-03"]
