"""The prepared views name what is really logged."""

from __future__ import annotations

import json

import made_runs
import numpy as np

from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.tracking import entries
from mil_bench.tracking.views import EXPERIMENT_TAGS, address


def test_columns_of_the_views_are_metrics_and_parameters_that_are_logged() -> None:
    plan = made_runs.run_result({"a": made_runs.trained_folds(1.0)}).plan
    job = plan.jobs[0]
    curves = {"val_loss": [1.0, 0.5]}
    result = TrainedFold(
        0,
        0,
        job.key,
        made_runs.predictions(0, 1.0),
        best_epoch=1,
        curves=curves,
        slides={"test": 40},
        seconds=1.0,
        environment={"device": "cpu"},
        in_dim=8,
        weights={},
    )
    values = entries.values_on_test(plan, result)
    fold = entries.fold_entry(plan, job, result, values, 10.0)
    method = entries.method_entry(plan, "a", 0.0)
    known = {
        "fold": ({p.name for p in fold.points}, set(fold.params)),
        "method": (
            {p.name for p in entries.summary_points([values] * 2, 0.0)},
            set(method.params),
        ),
    }
    views = {
        name: json.loads(value)
        for name, value in EXPERIMENT_TAGS.items()
        if "sharedViewState" in name
    }
    assert len(views) == 2
    for view in views.values():
        metrics, params = known[view["searchFilter"].split("'")[1]]
        for column in [*view["selectedColumns"], view["orderByKey"]]:
            kind, name = column.split(".", 1)
            assert name.strip("`") in {"metrics": metrics, "params": params}[kind], column


def test_points_of_a_curve_lie_between_start_and_end_of_the_training() -> None:
    plan = made_runs.run_result({"a": made_runs.trained_folds(1.0)}).plan
    curves = {"val_loss": list(np.linspace(2, 1, 5))}
    result = TrainedFold(
        0,
        0,
        "k",
        made_runs.predictions(0, 1.0),
        best_epoch=4,
        curves=curves,
        slides={"test": 40},
        seconds=10.0,
        environment={"device": "cpu"},
        in_dim=8,
        weights={},
    )
    entry = entries.fold_entry(plan, plan.jobs[0], result, {}, 110.0)
    times = [point.time for point in entry.points if point.name == "curves/val_loss"]
    assert (entry.started, entry.ended) == (100.0, 110.0)
    assert times == [102.0, 104.0, 106.0, 108.0, 110.0]


def test_the_address_opens_the_view_in_the_right_part_of_the_page() -> None:
    assert address("http://host:5000/", "7") == (
        "http://host:5000/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=methods"
    )
