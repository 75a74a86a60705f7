"""What is said of methods beside their values."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from made_runs import trained_folds

from mil_bench.runs.contents.facts import facts_of


def said(epochs: int, *best: int, row: str = "own", val: int = 20) -> list[str]:
    folds = [
        replace(fold, epochs=epochs, best_epoch=one)
        for fold, one in zip(trained_folds(1.0, folds=3), best, strict=True)
    ]
    splits = SimpleNamespace(
        folds=[SimpleNamespace(val=range(size)) for size in (val, val + 1, 40)]
    )
    plan = SimpleNamespace(splits=splits, seeds=(0,), skipped={}, remarks={}, unit="slide")
    return facts_of(plan, {row: folds})  # type: ignore[arg-type]


def test_a_method_that_still_improved_in_most_trainings_is_named() -> None:
    assert said(20, 19, 19, 3) == [
        "One of the last epochs was the best in most trainings of own (2 of 3): with more epochs "
        "they may be better, for instance --methods own:epochs=40"
    ]
    assert said(20, 19, 7, 3) == []
    assert said(20, 18, 18, 18) == []
    (line,) = said(100, 95, 98, 99, row="own:dropout=0.1")
    assert "(3 of 3)" in line
    assert line.endswith("--methods own:dropout=0.1,epochs=200")


def test_a_run_of_few_epochs_is_no_surprise() -> None:
    assert said(2, 1, 1, 1) == []


def test_few_validation_slides_are_said_where_they_select_an_epoch() -> None:
    assert said(20, 7, 7, 7, val=7) == [
        "Epochs and settings are selected on validation parts of only 7 to 40 slides, so "
        "chance has a large part in the choice"
    ]
    assert said(1, 0, 0, 0, val=7) == []
