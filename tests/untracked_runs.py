"""A small run that was trained without tracking, for tests that track it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from conftest import SMALL_TWIN

import mil_bench
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.tracking.tracker import MlflowTracker

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.planning.plan import RunPlan

TRAININGS = 4  # two folds of mean-pool and of the yardstick


def untracked_run(folder: Path) -> Path:
    """The folder of results."""
    places = {"results": folder / "results", "data": folder / "data"}
    quick = {"folds": 2, "epochs": 1, "progress": False, "on": "inline", "tracking": False}
    mil_bench.run(["mean-pool"], SMALL_TWIN, **quick, **places)
    import mlflow.store.tracking.rest_store  # noqa: F401 - the first import takes seconds

    return places["results"]


def only_plan(results: Path) -> RunPlan:
    store = ResultStore(results / "runs")
    return store.load_plan(next(iter(store.runs())))


def end_tracked(results: Path) -> float:
    """Track a run that is over, as a call of ``run`` does; how many seconds its end took."""
    listener = MlflowTracker(Results(results))
    plan = only_plan(results)
    listener.on_start(plan, plan.trainings, TRAININGS)
    begin = time.monotonic()
    listener.on_end()
    return time.monotonic() - begin
