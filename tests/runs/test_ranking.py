from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_runs import run_result, trained_folds

from mil_bench.commands.report import show_ranking
from mil_bench.errors import InputError
from mil_bench.planning.asked import Asked
from mil_bench.runs.ranking import Ranking

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold


def on_slides_of(
    study: str, methods: dict[str, tuple[TrainedFold, ...]]
) -> dict[str, tuple[TrainedFold, ...]]:
    """The trainings as if their slides and patients were those of another study."""

    def moved(fold: TrainedFold) -> TrainedFold:
        found = fold.predictions
        names = found.slides, found.groups
        slides, groups = (np.array([f"{study}-{name}" for name in each]) for each in names)
        return replace(fold, predictions=replace(found, slides=slides, groups=groups))

    return {name: tuple(map(moved, folds)) for name, folds in methods.items()}


def test_methods_are_ranked_over_datasets_with_a_diagram(tmp_path: Path) -> None:
    methods = {"bad": trained_folds(0.0), "good": trained_folds(4.0), "fair": trained_folds(1.0)}
    methods["lookup"] = trained_folds(9.0)
    names = ("one", "two", "three")
    ranking = Ranking([run_result(on_slides_of(name, methods), name) for name in names])
    assert list(ranking.table.cells) == ["good", "fair", "bad"]
    row = ranking.table.cells["good"]
    assert list(row) == ["one", "two", "three", "Average rank"]
    assert row["Average rank"].mean == 1
    assert row["Average rank"].rank == 1
    assert ranking.sentence.count("datasets") >= 1
    page = ranking.write(tmp_path)
    assert ranking.sentence in page.read_text()
    assert (page.parent / "critical_difference.svg").read_text().startswith("<?xml")


def test_a_dataset_whose_folds_lack_a_class_is_ranked_like_its_verdicts() -> None:
    def lacking(*folds: int) -> dict[str, tuple[TrainedFold, ...]]:
        labels = {f"fold{k}": np.arange(39) % 3 for k in folds}
        return {name: trained_folds(k, **labels) for k, name in enumerate("abc")}

    runs = [
        run_result(on_slides_of("one", lacking()), "one"),
        run_result(on_slides_of("two", lacking(1)), "two"),
        run_result(on_slides_of("three", lacking(0, 1)), "three"),
    ]
    ranking = Ranking(runs)
    assert list(ranking.table.cells) == ["c", "b", "a"]
    assert ranking.table.cells["c"]["Average rank"].mean == 1
    evidence = runs[1].evidence
    by_class = evidence.contributions("c", runs[1].measure).mean()
    assert np.isnan(evidence.by_fold("c", runs[1].measure)).any()
    cell = ranking.table.cells["c"]["two"]
    assert (cell.mean, cell.text()) == (100 * by_class, f"{100 * by_class:.1f}†")
    accuracy = runs[2].tables["fine"].loc["c", ("Accuracy", "mean")]
    assert ranking.table.cells["c"]["three"].mean == pytest.approx(accuracy)
    assert "† On two some folds lack a class: each class counts by its mean" in ranking.table.note
    assert "On three methods are ranked by accuracy, because more than half" in ranking.table.note


def test_the_ranking_follows_the_metric_also_if_lower_is_better() -> None:
    methods = {name: trained_folds(k) for k, name in enumerate("abc")}
    runs = [
        run_result(on_slides_of(name, methods), name, asked=Asked(metric="nll"))
        for name in ("one", "two")
    ]
    table = Ranking(runs).table
    assert table.title == "Ranks over 2 datasets (negative log-likelihood)"
    assert list(table.cells) == ["c", "b", "a"]
    assert table.cells["c"]["one"].rank == 1
    assert table.cells["c"]["one"].mean < table.cells["a"]["one"].mean


def test_only_methods_that_are_complete_everywhere_are_ranked() -> None:
    first = run_result(
        {"a": trained_folds(0.0), "b": trained_folds(1.0), "c": trained_folds(2.0)}, "one"
    )
    others = {"a": trained_folds(0.0), "b": trained_folds(1.0, folds=2), "c": trained_folds(2.0)}
    second = run_result(on_slides_of("two", others), "two")
    ranking = Ranking([first, second])
    assert ranking.methods == ["a", "c"]
    assert (
        ranking.sentence
        == "Methods cannot be ranked over datasets: 2 methods, at least 3 are needed."
    )
    assert ranking.table.cells["a"]["Average rank"].text() == "–"


def test_two_runs_on_one_dataset_are_refused() -> None:
    run = run_result({"a": trained_folds(0.0)}, "one")
    with pytest.raises(InputError, match=r"one has 2 runs\nName one run per dataset\."):
        Ranking([run, run])


def test_one_set_of_slides_with_two_encoders_is_one_dataset() -> None:
    methods = {"a": trained_folds(0.0)}
    runs = [run_result(methods, "study-uni"), run_result(methods, "study-conch")]
    with pytest.raises(InputError, match="study-uni and study-conch have the same slides"):
        Ranking(runs)
    other_patients = run_result(on_slides_of("x", methods), "study-conch")
    assert len(Ranking([runs[0], other_patients]).results) == 2


def test_runs_on_one_dataset_are_shown_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_result({"a": trained_folds(0.0)}, "one")
    show_ranking([run, run], tmp_path)
    shown = capsys.readouterr().out
    assert "! Not done: ranking methods over datasets: 1 problem\n  - one has 2 runs\n" in shown
    assert "Name one run per dataset." in shown
    assert list(tmp_path.iterdir()) == []
