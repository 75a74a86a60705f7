"""Whether a bundle's runs were trained on the same data and splits as those of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench import registry
from mil_bench.datasets.catalogue import (
    dataset_name,
    find_dataset,
    is_packed,
    open_store,
    stores_of,
)
from mil_bench.errors import MilBenchError, MissingFeaturesError, UnknownNameError
from mil_bench.inference.trained_on import same_encoder
from mil_bench.sharing.contents import slide_facts

if TYPE_CHECKING:
    from collections.abc import Sequence
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
    run_id: str, plan: RunPlan, own: Sequence[RunPlan], packed: str | None
) -> list[str]:
    """Which digests of a bundle's run are not those that are here, each with both values.

    Features of another encoder are other data: their results are accepted, in tables of their own.

    Args:
        run_id: the bundle's name of the run.
        plan: its plan.
        own: the runs of the folder.
        packed: digest of the packed features of its dataset, None if there are none here.
    """
    like_it = [
        other
        for other in own
        if other.dataset == plan.dataset and same_encoder(other.encoder, plan.encoder)
    ]
    data = plan.jobs[0].data_digest
    here = list(dict.fromkeys(other.jobs[0].data_digest for other in like_it if other.jobs))
    if packed is not None:
        here = [packed]
    if here and data not in here:
        return [f"{run_id}: data digest {data} in the bundle, {' and '.join(here)} here"]
    same_data = [other for other in like_it if has_same_data(other, plan)]
    split, splits = plan.splits.digest, dict.fromkeys(o.splits.digest for o in same_data)
    if splits and split not in splits:
        return [f"{run_id}: split digest {split} in the bundle, {' and '.join(splits)} here"]
    if any(other.hierarchy != plan.hierarchy for other in same_data):
        return [f"{run_id}: its classes are not those of {plan.dataset} here"]
    return []


def has_same_data(one: RunPlan, other: RunPlan) -> bool:
    """Whether two runs are on the same features."""
    digests = {job.data_digest for plan in (one, other) for job in plan.jobs}
    return one.dataset == other.dataset and len(digests) == 1


def has_same_items(one: RunPlan, other: RunPlan) -> bool:
    """Whether two runs test the same slides, or patients, on the same features and folds."""
    is_same = one.splits.digest == other.splits.digest and one.patients == other.patients
    return is_same and has_same_data(one, other)


def packed_digest(plan: RunPlan, data: Path) -> str | None:
    """Digest of the bag store of a plan's dataset and encoder in a folder, None if there is none.

    A generated dataset has one store per choice of settings; none of them is taken. Nor is that of
    a dataset whose card is a file, which a bundle does not name.

    Raises:
        InputError: the store is broken.
    """
    name = dataset_name(plan.dataset)
    if name not in registry.datasets.names():
        return None
    spec = find_dataset(name)
    if spec.generator is not None or not is_packed(spec, data):
        return None
    try:
        if not plan.encoder and len(stores_of(spec, data)) > 1:
            return None
        store = open_store(spec, data, encoder=plan.encoder or None)
    except (MissingFeaturesError, UnknownNameError):
        return None
    return store.digest


def known_slides(store: ResultStore, plan: RunPlan, own: Sequence[RunPlan]) -> SlideFacts:
    """Class and group of slides or patients that a folder's runs have tested on a plan's data."""
    facts: SlideFacts = {}
    for other in own:
        if has_same_items(other, plan):
            for job in other.jobs[:1]:
                for fold in store.done(job):
                    predictions = store.load_fold(job, fold).predictions
                    facts |= slide_facts(predictions, other.hierarchy)
    return facts
