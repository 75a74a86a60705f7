"""Whether a bundle's runs were trained on the same data and splits as those of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.bags.opening import open_bags
from mil_bench.errors import MilBenchError
from mil_bench.sharing.contents import slide_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mil_bench.planning.plan import RunPlan
    from mil_bench.running.result_store import ResultStore

SlideFacts = dict[str, tuple[str, str]]
"""Slide to its class and group."""


def own_plans(store: ResultStore) -> list[RunPlan]:
    """The readable plans of a store without imported rows, newest first."""
    plans = []
    for run_id in store.runs():
        try:
            plan = store.load_plan(run_id)
        except MilBenchError:  # runs list names a broken plan; it says nothing about a bundle
            continue
        if not plan.sources:
            plans.append(plan)
    return plans


def disagreements(
    run_id: str, plan: RunPlan, own: Sequence[RunPlan], packed: Mapping[str, str]
) -> list[str]:
    """Which digests of a bundle's run are not those that are here, each with both values.

    Args:
        run_id: the bundle's name of the run.
        plan: its plan.
        own: the runs of the folder.
        packed: dataset to the digest of its packed features, as far as they are here.
    """
    same_dataset = [other for other in own if other.dataset == plan.dataset]
    data = {plan.dataset: plan.jobs[0].data_digest}
    here = _digests(other.jobs[0].data_digest for other in same_dataset if other.jobs)
    if plan.dataset in packed:
        here = [packed[plan.dataset]]
    if here and data[plan.dataset] not in here:
        return [
            f"{run_id}: data digest {data[plan.dataset]} in the bundle, {' and '.join(here)} here"
        ]
    same_data = [other for other in same_dataset if has_same_data(other, plan)]
    splits = _digests(other.splits.digest for other in same_data)
    if splits and plan.splits.digest not in splits:
        return [
            f"{run_id}: split digest {plan.splits.digest} in the bundle, {' and '.join(splits)} "
            "here"
        ]
    if any(other.hierarchy != plan.hierarchy for other in same_data):
        return [f"{run_id}: its classes are not those of {plan.dataset} here"]
    return []


def has_same_data(one: RunPlan, other: RunPlan) -> bool:
    """Whether two runs are on the same features."""
    digests = {job.data_digest for plan in (one, other) for job in plan.jobs}
    return one.dataset == other.dataset and len(digests) == 1


def packed_digests(plans: Iterable[RunPlan], data: Path) -> dict[str, str]:
    """Dataset to the digest of its bag store in a folder, if there is one.

    A generated dataset has one store per choice of settings; none of them is taken.
    """
    digests = {}
    for dataset in {plan.dataset for plan in plans}:
        path = data / f"{dataset}.h5"
        if path.is_file():
            digests[dataset] = open_bags(path).digest
    return digests


def known_slides(store: ResultStore, plan: RunPlan, own: Sequence[RunPlan]) -> SlideFacts:
    """Class and group of the slides that a folder's own runs have tested on a plan's data."""
    facts: SlideFacts = {}
    for other in own:
        if has_same_data(other, plan) and other.splits.digest == plan.splits.digest:
            for job in other.jobs[:1]:
                for fold in store.done(job):
                    predictions = store.load_fold(job, fold).predictions
                    facts |= slide_facts(predictions, other.hierarchy)
    return facts


def _digests(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
