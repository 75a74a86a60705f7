"""What is said of methods beside their values."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from made_runs import trained_folds

from mil_bench.runs.contents.facts import facts_of

PLAN = SimpleNamespace(splits=SimpleNamespace(folds=(0, 1, 2)), seeds=(0,), skipped={}, remarks={})


def said(epochs: int, *best: int) -> list[str]:
    folds = [
        replace(fold, epochs=epochs, best_epoch=one)
        for fold, one in zip(trained_folds(1.0, folds=3), best, strict=True)
    ]
    return facts_of(PLAN, {"own": folds})  # type: ignore[arg-type]


def test_a_method_that_still_improved_in_most_trainings_is_named() -> None:
    assert said(20, 19, 19, 3) == [
        "The last epoch was the best in most trainings of own (2 of 3): with more epochs they may "
        "be better"
    ]
    assert said(20, 19, 7, 3) == []
    assert said(20, 18, 18, 18) == []


def test_a_run_of_few_epochs_is_no_surprise() -> None:
    assert said(2, 1, 1, 1) == []
