"""What is known of the features and slides on which the models of a run were trained."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench import registry
from mil_bench.bags.opening import open_bags
from mil_bench.datasets.card import SLIDE, DatasetSpec, GroupProfile
from mil_bench.datasets.catalogue import (
    dataset_name,
    find_dataset,
    labelled_stores,
    on_the_command_line,
)
from mil_bench.errors import InputError
from mil_bench.wording import plural

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore
    from mil_bench.planning.plan import RunPlan

_UNNAMED = "encoder not named"


@dataclass(frozen=True)
class TrainedOn:
    """Features on which models were trained.

    Args:
        width: feature width D.
        encoder: name of the encoder, "" if it is unknown.
        coords_unit: unit of the coordinates, "" if there were none, None if that is unknown.
    """

    width: int
    encoder: str = ""
    coords_unit: str | None = None

    def other_width(self, what: str, width: int) -> str:
        """The problem of features with another width."""
        return (
            f"{what} has {plural(width, 'feature')} per instance, and the models were trained on "
            f"{self.width}{f' ({self.encoder})' if self.encoder else ''}"
        )

    def other_encoder(self, what: str, encoder: str) -> str:
        """The problem of features of another encoder."""
        return (
            f"{what} holds features of {encoder}, and the models were trained on features of "
            f"{self.encoder}"
        )


def same_encoder(first: str, second: str) -> bool:
    """Whether two names may mean the same encoder; an unknown one may be any."""
    names = {re.sub("[^a-z0-9]", "", name.lower()) for name in (first, second)} - {""}
    return len(names) < 2


def encoder_of(store: BagStore) -> str:
    """The encoder whose features a store has, "" if it is not named or the store is generated."""
    name = dataset_name(store.dataset)
    if name in registry.datasets.names() and registry.datasets.load(name).generator is not None:
        return ""
    encoder = store.encoder or store.origin.rpartition(", ")[2]  # older stores have no encoder
    return "" if encoder == _UNNAMED else encoder


def training_store(plan: RunPlan, data: Path) -> BagStore | None:
    """The bag store on which a run was trained, None if it is not in the folder.

    Args:
        plan: of the run.
        data: folder of the bag stores.
    """
    digests = {job.data_digest for job in plan.jobs}
    name = dataset_name(plan.dataset)
    with contextlib.suppress(InputError, OSError):  # as below
        for store in labelled_stores(name, data):
            if store.digest in digests:
                return store
    for path in sorted(data.glob(f"{name}-*.h5")):  # generated
        try:
            store = open_bags(path)
        except (InputError, OSError):
            continue  # it is only asked for what it can add
        if store.digest in digests:
            return store
    return None


def label_spec(plan: RunPlan) -> DatasetSpec:
    """The card by which a label table of new slides is read: columns of the run's dataset.

    A run keeps no card. If it is neither installed nor in the current folder, the usual column
    names apply. The classes are always those of the run. Patients need not be known: the unit is
    the slide.
    """
    name = on_the_command_line(plan.dataset)
    if name in registry.datasets.names() or Path(name).is_file():
        spec = find_dataset(name)
        return replace(spec, hierarchy=plan.hierarchy, class_counts=(), unit=SLIDE)
    group = GroupProfile(plan.splits.group_name or "patient")
    return DatasetSpec(
        plan.dataset, "", plan.hierarchy, (), group, None, (), source="", licence="", citation=""
    )
