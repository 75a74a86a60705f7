"""Stored results as the basis of a plan: how much differences vary, and how long trainings take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.errors import StorageError
from mil_bench.evaluation.power.ahead import Basis
from mil_bench.report.verdict_tables import main_measure
from mil_bench.runs.result import RunResult

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.planning.plan import RunPlan
    from mil_bench.running.result_store import ResultStore

_DRAWS = 1000  # of the bootstrap: a variance needs fewer than an interval


def basis_in(
    store: ResultStore,
    dataset: str,
    protocol: str,
    methods: Collection[str],
    measure: Measure | None = None,
) -> Basis | None:
    """The stored run that says most about a comparison of these methods, None if none does.

    A run with most of the methods comes first, then one with many repeats and seeds, then one with
    many folds, then the newest.

    Args:
        store: where runs are.
        dataset: slug of the dataset.
        protocol: that of the plan; runs with another one are left out.
        methods: as tables call them; if empty, any.
        measure: what methods are compared on, None for a run's own.
    """
    plans = [plan for plan in _plans(store, dataset) if plan.splits.protocol == protocol]
    chosen = {plan.run_id: _complete(store, plan) for plan in plans}

    def worth(plan: RunPlan) -> tuple[int, int, int]:
        named = chosen[plan.run_id] & set(methods) if methods else chosen[plan.run_id]
        repeats = plan.splits.repeats
        return len(named), repeats * len(plan.seeds), len(plan.splits.folds) // repeats

    for plan in sorted(plans, key=worth, reverse=True):
        named = chosen[plan.run_id] & set(methods)
        basis = _basis(store, plan, named if len(named) > 1 else chosen[plan.run_id], measure)
        if basis is not None:
            return basis
    return None


def seconds_in(store: ResultStore, dataset: str) -> dict[str, tuple[float, int]]:
    """Methods to the seconds of a stored training, of the newest run, and its highest epoch."""
    seconds: dict[str, tuple[float, int]] = {}
    for plan in _plans(store, dataset):
        for job in plan.jobs:
            folds = store.done(job) if job.is_trained and job.label not in seconds else set()
            if folds:
                took = [store.load_fold(job, fold).seconds for fold in folds]
                seconds[job.label] = sum(took) / len(took), job.recipe["epochs"]
    return seconds


def _plans(store: ResultStore, dataset: str) -> Iterator[RunPlan]:
    """The runs of a dataset, newest first; a broken file does not hide the others."""
    for run in store.runs():
        try:
            plan = store.load_plan(run)
        except StorageError:
            continue
        if plan.dataset == dataset:
            yield plan


def _complete(store: ResultStore, plan: RunPlan) -> set[str]:
    """Methods of which all trainings are stored."""
    stored = {job.key: store.done(job) for job in plan.jobs}
    missing = {job.label for job, fold in plan.trainings if fold not in stored[job.key]}
    return {job.label for job in plan.jobs if job.is_trained} - missing


def _basis(
    store: ResultStore, plan: RunPlan, methods: Collection[str], measure: Measure | None
) -> Basis | None:
    """The basis in a run.

    None if the run cannot be read, its patients are too few to be drawn, or it has not the metric.
    """
    if len(methods) < 2:
        return None
    try:
        evidence = RunResult.collect(store, plan).evidence
    except StorageError:
        return None
    trained = {m: folds for m, folds in evidence.trained.items() if m in methods}
    evidence = replace(
        evidence, trained=trained, replicates=_DRAWS, pairs=None, main=measure or evidence.main
    )
    found, _ = main_measure(evidence)
    if measure is not None and found != measure:
        return None
    measure = found
    drawn, (first, second, *_) = evidence.bootstrap, trained
    if drawn.fault(drawn.fold_mean.difference(first, second, measure), measure):
        return None
    return Basis.of_run(plan.run_id, evidence, measure)
