"""What is logged, as plain values."""

from __future__ import annotations

import dataclasses
import math

import made_runs
import pytest

from mil_bench.evaluation.trials import Trial
from mil_bench.report.tables import ResultTable
from mil_bench.tracking import entries

TRIAL = Trial(
    "study-1",
    "abmil",
    "abmil",
    0,
    1,
    4,
    {"dropout": 0.5},
    "k" * 16,
    "pruned",
    1.5,
    {1: [2.0, 1.5]},
    2,
    3.0,
    "worse",
)


def test_a_setting_called_like_a_part_of_the_identity_keeps_its_value() -> None:
    plan = made_runs.run_result({"a": made_runs.trained_folds(1.0)}).plan
    trial = dataclasses.replace(TRIAL, settings={"seed": 99, "dropout": 0.1})
    params = entries.trial_entry(plan, trial, 0.0).params
    assert (params["seed"], params["setting seed"], params["dropout"]) == (0, 99, 0.1)


def test_a_mean_over_trainings_is_logged_only_if_all_of_them_have_the_value() -> None:
    values = [
        {"test_fine/accuracy": 0.5, "test_fine_auc/a": 0.5},
        {"test_fine/accuracy": 0.7, "test_fine_auc/a": math.nan},
    ]
    points = {point.name: point.value for point in entries.summary_points(values, 0.0)}
    assert points == {
        "test_fine/accuracy": pytest.approx(0.6),
        "std_test_fine/accuracy": pytest.approx(0.1 * math.sqrt(2)),
    }


def test_a_description_shows_whole_tables_and_ends_with_how_the_run_was_made() -> None:
    result = made_runs.run_result(
        {f"method-{i}": made_runs.trained_folds(i / 9) for i in range(60)}
    )
    plan = result.plan
    cells = {f"method-{i}": {"Value": "x" * 80} for i in range(60)}
    tables = [ResultTable(name, name, plan.caption, cells) for name in ("One", "Two")]
    text = entries.description(plan, ["first"], tables)
    assert len(text) <= 8000
    assert text.startswith("**toy, made up**, protocol patient-kfold\n\n- first\n\n## One")
    assert "## Two" not in text
    assert text.count(plan.caption) == 1
    assert text.endswith("To repeat it: `mil-bench run --dataset toy`")


def test_a_description_without_a_report_says_how_the_run_was_made() -> None:
    plan = made_runs.run_result({"a": made_runs.trained_folds(1.0)}).plan
    assert entries.description(plan) == (
        f"**toy, made up**, protocol patient-kfold\n\n{plan.caption}\n\n"
        "To repeat it: `mil-bench run --dataset toy`"
    )
