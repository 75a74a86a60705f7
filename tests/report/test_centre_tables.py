"""Main metric and accuracy per centre."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_runs import HIERARCHY, evidence, trained_folds

from mil_bench.evaluation.metrics import Measure, measure
from mil_bench.report.centre_tables import centre_tables

if TYPE_CHECKING:
    from mil_bench.evaluation.verdicts import Evidence
    from mil_bench.report.tables import ResultTable

MAIN = Measure("fine", "macro_auc")


def found(centre_of: dict[str, str] | None = None, **methods: tuple) -> Evidence:
    made = evidence(methods)
    slides = [s for t in next(iter(methods.values())) for s in t.predictions.slides.tolist()]
    centres = {s: "north" if int(s.split("-")[1]) < 24 else "south" for s in slides}
    return dataclasses.replace(made, centres=centres if centre_of is None else centre_of)


def tables(made: Evidence, main: Measure = MAIN) -> dict[str, ResultTable]:
    return {table.name: table for table in centre_tables(made, main, "Dataset: toy.")}


def test_values_are_those_of_the_centres_slides_over_folds() -> None:
    good = trained_folds(1.0)
    shown = tables(found(good=good, bad=trained_folds(0.2)))
    assert list(shown) == ["centres", "centre_main", "centre_accuracy"]
    for name, metric in (("centre_main", MAIN), ("centre_accuracy", Measure("fine", "accuracy"))):
        parts = [t.predictions.part(np.arange(40) < 24) for t in good]
        values = [100 * measure(p, HIERARCHY).values[metric] for p in parts]
        cell = shown[name].cells["good"]["north"]
        assert cell.mean == pytest.approx(np.mean(values))
        assert cell.std == pytest.approx(np.std(values, ddof=1))
        assert cell.rank == 1


def test_slides_and_patients_are_counted_once() -> None:
    shown = tables(found(good=trained_folds(1.0), bad=trained_folds(0.2)))["centres"]
    rows = {centre: {n: c.mean for n, c in row.items()} for centre, row in shown.cells.items()}
    assert rows["north"] == {
        "Test slides": 72,
        "Patients": 36,
        **{f"Test {name}": 18 for name in HIERARCHY.fine},
    }
    assert rows["south"]["Patients"] == 24


def test_where_groups_are_centres_no_patients_are_counted() -> None:
    made = dataclasses.replace(found(good=trained_folds(1.0)), group_name="centre")
    assert "Centres" not in tables(made)["centres"].columns


def test_an_undefined_value_is_a_dash_with_its_reason() -> None:
    labels = np.where(np.arange(40) < 24, np.arange(40) % 3, np.arange(40) % 4)
    changed = {f"fold{k}": labels for k in range(3)}
    shown = tables(found(good=trained_folds(1.0, **changed)))["centre_main"]
    assert shown.cells["good"]["north"].text() == "–"
    assert "– north: no test slide is r1." in shown.note
    assert shown.cells["good"]["south"].mean > 0


def test_a_value_that_some_folds_lack_has_a_dagger() -> None:
    labels = np.where(np.arange(40) < 24, np.arange(40) % 3, np.arange(40) % 4)
    shown = tables(found(good=trained_folds(1.0, fold1=labels)))["centre_main"]
    assert shown.cells["good"]["north"].undefined_folds == (1,)
    assert "†" in shown.note


def test_a_centre_tested_in_one_fold_has_no_deviation_and_lacks_no_fold() -> None:
    made = found(good=trained_folds(1.0))
    centres = {slide: slide.split("-")[0] for slide in made.centres}  # one centre per fold
    cell = tables(dataclasses.replace(made, centres=centres))["centre_main"].cells["good"]["s0"]
    assert np.isnan(cell.std)
    assert cell.undefined_folds == ()


def test_unknown_centres_are_a_column_and_one_centre_gives_no_table() -> None:
    made = found(good=trained_folds(1.0))
    some = {s: centre if centre == "north" else "" for s, centre in made.centres.items()}
    assert tables(dataclasses.replace(made, centres=some)) == {}
    some["s0-0"] = "east"
    shown = tables(dataclasses.replace(made, centres=some))
    assert list(shown["centres"].cells) == ["east", "north", "unknown"]
    assert tables(dataclasses.replace(made, centres={})) == {}


def test_the_main_metric_may_be_the_accuracy_or_one_without_percent() -> None:
    made = dataclasses.replace(found(good=trained_folds(1.0)), ordered=True)
    assert list(tables(made, Measure("fine", "accuracy"))) == ["centres", "centre_accuracy"]
    kappa = tables(made, Measure("fine", "quadratic_kappa"))["centre_main"]
    assert kappa.title == "Quadratic kappa per centre"
    assert kappa.cells["good"]["north"].digits == 3
