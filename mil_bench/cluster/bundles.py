"""Bundles: tasks that one worker trains, of some minutes together, for one kind of device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.cluster.frozen import Bundle
from mil_bench.devices import CPU, GPU
from mil_bench.running.runner import tasks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.running.result_store import ResultStore

_SECONDS_PER_SLIDE = {CPU: 0.004, GPU: 0.001}
"""Assumed per training slide and epoch if no fold of the method is stored."""
_SECONDS_UNTRAINED = 0.2


def frozen_tasks(plan: RunPlan, device: str) -> list[tuple[int, tuple[int, ...]]]:
    """All tasks of a plan: the position of a job, and the folds that are trained together."""
    position = {id(job): number for number, job in enumerate(plan.jobs)}
    trained = [item for item in plan.trainings if item[0].is_trained]
    others = [item for item in plan.trainings if not item[0].is_trained]
    tasks = [*tasks_of(trained, trained, device), *tasks_of(others, others, CPU)]
    return [(position[id(job)], folds) for job, folds in tasks]


def bundles_of(
    plan: RunPlan,
    tasks: Sequence[tuple[int, tuple[int, ...]]],
    store: ResultStore,
    device: str,
    minutes: float,
) -> list[Bundle]:
    """Tasks in bundles that take about so many minutes; what needs no GPU is apart.

    Args:
        plan: the plan.
        tasks: its tasks.
        store: stored folds of the plan say how long a training takes.
        device: "cpu" or "cuda".
        minutes: time that a bundle should take.
    """
    seconds = [seconds_of(plan, job, store, device) for job in plan.jobs]
    durations = [seconds[position] * len(folds) for position, folds in tasks]
    kinds = [device if plan.jobs[position].is_trained else CPU for position, _ in tasks]
    return [
        bundle
        for kind in dict.fromkeys((CPU, device))
        for bundle in in_bundles(kind, durations, minutes, [k == kind for k in kinds])
    ]


def in_bundles(
    device: str, durations: Sequence[float], minutes: float, chosen: Sequence[bool] | None = None
) -> list[Bundle]:
    """Tasks in bundles that take about so many minutes.

    Args:
        device: "cpu" or "cuda".
        durations: seconds that each task takes.
        minutes: time that a bundle should take.
        chosen: whether a task is one of those; None for all.
    """
    bundles: list[Bundle] = []
    waiting: list[int] = []
    total = 0.0
    for number, duration in enumerate(durations):
        if chosen is not None and not chosen[number]:
            continue
        if waiting and total + duration > 60 * minutes:
            bundles.append(Bundle(device, tuple(waiting)))
            waiting, total = [], 0.0
        waiting.append(number)
        total += duration
    if waiting:
        bundles.append(Bundle(device, tuple(waiting)))
    return bundles


def seconds_of(plan: RunPlan, job: Job, store: ResultStore, device: str) -> float:
    """How long a fold of a job takes, as its stored folds say or as is assumed."""
    if not job.is_trained:
        return _SECONDS_UNTRAINED
    if stored := sorted(store.done(job)):
        return store.load_fold(job, stored[0]).seconds
    slides = len(plan.splits.folds[0].train)
    return job.recipe["epochs"] * slides * _SECONDS_PER_SLIDE[device]
