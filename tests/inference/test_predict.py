"""Trained models on new slides: the stored test predictions again, scores, leaks and refusals."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from feature_files import some_features, write_h5, write_label_table, write_stamp
from trained_digits import TrainedDigits, trained_digits, write_slides

from mil_bench import registry
from mil_bench.cli import main
from mil_bench.errors import InputError, MilBenchError, UnknownNameError
from mil_bench.inference.models import applied, batch_of
from mil_bench.inference.predictions import predict_slides
from mil_bench.inference.slides import NewSlides, slides_of
from mil_bench.inference.trained_on import TrainedOn, encoder_of, same_encoder
from mil_bench.runs.predicting import ModelChoice, chosen_models, predict

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.evaluation.predictions import Predictions

METHODS = registry.methods.built_in()
NEW = [f"digits-{i:04d}" for i in range(0, 70, 10)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedDigits:
    return trained_digits(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def sources(
    trained: TrainedDigits, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, NewSlides]:
    """All slides of the run, from its bag store and from a file per slide."""
    slides = trained.store.slides["slide"].tolist()
    folder = write_slides(trained, tmp_path_factory.mktemp("files"), slides)
    width = TrainedOn(trained.store.width)
    return {"store": slides_of(trained.store.path, width), "files": slides_of(folder, width)}


@pytest.mark.parametrize("source", ["store", "files"])
@pytest.mark.parametrize("method", METHODS)
def test_stored_test_predictions_come_out_again(
    trained: TrainedDigits, sources: dict[str, NewSlides], method: str, source: str
) -> None:
    slides = sources[source]
    models, notes = chosen_models(trained.result, ModelChoice(method))
    predicted = predict_slides(models, slides, trained.result.plan.hierarchy)
    assert notes == []
    assert predicted.models == ((0, 0), (0, 1))
    for m, fold in enumerate(trained.result.trained[method]):
        stored: Predictions = fold.predictions
        rows = [slides.slides.index(slide) for slide in stored.slides]
        assert np.abs(predicted.fine[m, rows] - stored.fine).max() < 1e-6
        assert (predicted.coarse_head is None) == (stored.coarse_head is None)
        if predicted.coarse_head is not None and stored.coarse_head is not None:
            assert np.abs(predicted.coarse_head[m, rows] - stored.coarse_head).max() < 1e-6


def test_a_frame_holds_means_spreads_and_what_was_seen_in_training(trained: TrainedDigits) -> None:
    frame = trained.result.predict(
        trained.store.path, "hmil", per_model=True, data=trained.folder / "data"
    )
    of_models = frame[["p(one) seed 0 fold 0", "p(one) seed 0 fold 1"]]
    assert np.allclose(frame["p(one)"], of_models.mean(axis=1))
    assert np.allclose(frame["sd(one)"], of_models.std(axis=1, ddof=1))
    assert np.allclose(frame["coarse_p(stroke)"], frame["p(one)"] + frame["p(seven)"])
    assert np.allclose(frame.filter(regex=r"^coarse_head_p\(").sum(axis=1), 1)
    assert frame["writer"].iloc[0] == "writer-00"
    folds = trained.result.plan.splits.folds
    seen = [sum(s in fold.train + fold.val for fold in folds) for s in frame["slide"]]
    assert frame["trained_on"].tolist() == seen
    assert (frame["models"] == 2).all()


def test_an_array_is_one_slide(trained: TrainedDigits) -> None:
    result, bag = trained.result, trained.store.bag(0)
    features = np.array(bag.features)
    frame = result.predict(features, "abmil", fold=1)
    whole = result.predict(trained.store.path, "abmil", fold=1)
    assert len(frame) == 1
    assert frame["models"].tolist() == [1]
    assert np.isnan(frame["sd(one)"].iloc[0])
    assert abs(frame["p(one)"].iloc[0] - whole["p(one)"].iloc[0]) < 1e-6
    assert np.array_equal(features, bag.features)  # no model changed what it was handed
    with pytest.raises(InputError, match=r"it has 3 features per instance, .* trained on 64"):
        result.predict(np.ones((5, 3), np.float32), "abmil")
    with pytest.raises(InputError, match="NaN"):
        result.predict(np.full((5, 64), np.nan), "abmil")
    with pytest.raises(InputError, match=r"the shape \(64,\)"):
        result.predict(np.ones(64), "abmil")


def test_what_is_not_in_the_run_is_named_with_what_is(trained: TrainedDigits) -> None:
    bag = np.ones((5, 64))
    for choice, error, text in (
        ({"method": "abmill"}, UnknownNameError, "no method in this run 'abmill'. Did you mean"),
        ({"method": "abmil", "seed": 3}, UnknownNameError, "no training seed '3'.*Known: 0"),
        ({"method": "abmil", "fold": 9}, InputError, "no fold 9; the run has the folds 0 to 1"),
        ({"method": "lookup"}, InputError, "lookup trains nothing"),
        ({}, InputError, "the run has several methods: "),
    ):
        with pytest.raises(error, match=text):
            trained.result.predict(bag, **choice)


def test_models_of_another_version_are_refused(
    trained: TrainedDigits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.methods.load("abmil"), "version", 7)
    with pytest.raises(InputError, match=r"trained by version 1 of abmil, and 7 is installed"):
        trained.result.predict(np.ones((5, 64)), "abmil")


def test_the_command_writes_csv_and_parquet(
    trained: TrainedDigits, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = write_slides(trained, tmp_path / "new", NEW)
    words = ["predict", trained.result.run_id, "--method", "abmil", str(folder), *trained.words]
    frames = []
    for name, read in (("new.csv", pd.read_csv), ("new.parquet", pd.read_parquet)):
        assert main([*words, "--out", str(tmp_path / name)]) == 0
        frames.append(read(tmp_path / name))
        assert f"{name}  (7 slides)" in capsys.readouterr().out
    pd.testing.assert_frame_equal(*frames, check_dtype=False)
    assert frames[0]["slide"].tolist() == NEW
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "digits-0010" in shown
    assert "mean ± sample standard deviation over 2 models" in " ".join(shown.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.csv", "new.parquet"]


def test_labels_give_scores_without_the_slides_of_the_training(
    trained: TrainedDigits, tmp_path: Path
) -> None:
    result, bags = trained.result, trained.store
    fold = result.plan.splits.folds[0]
    trained_slide, validated, tested = fold.train[0], fold.val[0], fold.test
    folder = write_slides(trained, tmp_path / "new", [trained_slide, validated, *tested])
    other = tmp_path / "new" / "stranger.h5"
    (tmp_path / "new" / f"{tested[0]}.h5").rename(other)
    known = bags.slides.set_index("slide")
    names = {s: known["label"][s] for s in [trained_slide, validated, *tested[1:]]}
    labels = {slide: bags.hierarchy.fine[label] for slide, label in names.items()}
    group = {slide: known["group"][slide] for slide in labels}
    group["stranger"], labels["stranger"] = known["group"][trained_slide], "one"
    table = tmp_path / "labels.csv"
    lines = [f"{slide},{label},{group[slide]}" for slide, label in labels.items()]
    table.write_text("\n".join(["slide,label,patient", *lines]) + "\n")
    choice = ModelChoice("abmil", fold=0, data=trained.folder / "data")
    found = predict(result, folder, choice, labels=table)
    text = " ".join(found.notes)
    assert "2 slides took part in the training of up to 1 of 1 models, themselves" in text
    assert trained_slide in text
    assert validated in text
    assert "1 slide took part" in text
    assert "through another slide of their writer: stranger." in text
    assert f"{len(tested) - 1} slides of" in found.tables[0].caption
    assert [table.name for table in found.tables] == [
        "scores_fine",
        "scores_coarse",
        "scores_classwise_auc",
    ]
    everything = predict(result, folder, choice, labels=table, allow_leaks=True)
    assert f"{len(tested) + 2} slides of" in everything.tables[0].caption


def test_scores_are_those_of_the_run_for_its_test_slides(trained: TrainedDigits) -> None:
    result = trained.result
    choice = ModelChoice("hmil", fold=1, data=trained.folder / "data")
    found = predict(result, trained.store.path, choice)
    values = result.evidence.measured["hmil"][0, 1].values
    fine = found.tables[0].cells
    for measure, value in values.items():
        if measure.level == "fine" and measure.key in ("macro_auc", "accuracy"):
            cell = fine[f"{measure.metric.heading} (%)"]["1 model"]
            if not np.isnan(value):
                assert not isinstance(cell, str)
                assert abs(cell.mean - 100 * value) < 1e-3


def test_all_problems_of_files_are_named_and_nothing_is_written(
    trained: TrainedDigits, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = write_slides(trained, tmp_path / "new", NEW[:2])
    write_h5(folder / "narrow.h5", some_features(4, 3))
    broken = some_features(4, 64)
    broken[0, 0] = np.nan
    write_h5(folder / "nan.h5", broken)
    (folder / "torn.h5").write_bytes((folder / f"{NEW[0]}.h5").read_bytes()[:900])
    out = tmp_path / "out.csv"
    words = ["predict", trained.result.run_id, "--method", "abmil", *trained.words]
    assert main([*words, "--out", str(out), str(folder)]) == 2
    message = capsys.readouterr().err
    assert "3 problems" in message
    assert "narrow.h5 has 3 features per instance, and the models were trained on 64" in message
    assert "nan.h5: 1 of 4 instances hold NaN" in message
    assert "torn.h5" in message
    assert "Traceback" not in message
    for bad in ("out.xlsx", "new"):
        assert main([*words, "--out", str(tmp_path / bad), str(folder)]) == 2
        assert "Name a file such as predictions.csv" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "absent")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_former_file_stays_if_the_folder_refuses(
    trained: TrainedDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mil_bench import durable

    def refuse(path: Path) -> None:
        raise OSError(28, "No space left on device")

    folder, out = write_slides(trained, tmp_path / "new", NEW[:1]), tmp_path / "out.csv"
    out.write_text("former")
    monkeypatch.setattr(durable, "_flush", refuse)
    words = ["predict", trained.result.run_id, "--method", "abmil", str(folder), *trained.words]
    assert main([*words, "--out", str(out)]) == 2
    assert out.read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out.csv"]


def test_features_of_another_encoder_are_refused(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", some_features(4, 8), np.zeros((4, 2), int), "uni_v1", 256)
    write_stamp(tmp_path / "b.h5", some_features(4, 8), extractor="uni2", unit="um")
    slides_of(tmp_path / "a.h5", TrainedOn(8, "UNI-v1"))
    slides_of(tmp_path / "a.h5", TrainedOn(8))
    with pytest.raises(InputError, match=r"b.h5 holds features of uni2, and the models .* uni_v1"):
        slides_of(tmp_path, TrainedOn(8, "uni_v1"))
    assert same_encoder("", "uni")
    assert not same_encoder("uni", "virchow")


def test_a_generated_store_names_no_encoder(trained: TrainedDigits) -> None:
    assert encoder_of(trained.store) == ""


def test_a_method_that_fails_on_a_slide_is_one_message(trained: TrainedDigits) -> None:
    models, _ = chosen_models(trained.result, ModelChoice("abmil", fold=0))
    bag = batch_of(trained.store.bag(0))

    def fails(method: object, bags: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'split'")

    with pytest.raises(
        InputError,
        match=r"(?s)abmil \(seed 0, fold 0\) on slide 's'.*the method failed: AttributeError"
        r".*The slide has no coordinates",
    ):
        applied(models[0], bag, "s", fails)


def test_slides_that_a_method_cannot_take_are_refused(trained: TrainedDigits) -> None:
    models, _ = chosen_models(trained.result, ModelChoice("abmil", fold=0))
    slides = slides_of(np.ones((5, 64), np.float32), TrainedOn(64))
    picky = type("Picky", (type(models[0].method),), {"min_rows": 6})
    models[0].method.__class__ = picky
    with pytest.raises(InputError, match="1 slide has a number of instances that the method"):
        predict_slides(models, slides, trained.result.plan.hierarchy)


def test_a_table_without_any_of_the_slides_says_so(trained: TrainedDigits, tmp_path: Path) -> None:
    folder = write_slides(trained, tmp_path / "new", NEW[:2])
    table = write_label_table(tmp_path / "labels.csv", {"other": "one"})
    choice = ModelChoice("abmil", data=trained.folder / "data")
    found = predict(trained.result, folder, choice, labels=table)
    assert found.tables == []
    assert any("No slide has a label in the label table labels.csv" in n for n in found.notes)
    table = write_label_table(tmp_path / "labels.csv", {NEW[0]: "unheard"})
    with pytest.raises(MilBenchError, match="label 'unheard' is not one of none, one"):
        predict(trained.result, folder, choice, labels=table)


def test_missing_trainings_are_told(trained: TrainedDigits) -> None:
    half = dataclasses.replace(
        trained.result, trained={"abmil": trained.result.trained["abmil"][:1]}
    )
    models, notes = chosen_models(half, ModelChoice("abmil"))
    assert len(models) == 1
    assert notes == ["Only 1 of 2 trainings of abmil are stored."]
