"""What is known of a dataset's slides before or after packing: label, group, official role, centre."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mil_bench.data.catalogue import open_store, store_path
from mil_bench.data.labels import read_label_sheet
from mil_bench.data.spec import DatasetSpec
from mil_bench.data.store import BagStore


@dataclass(frozen=True)
class SlideTable:
    """Slides and where they are known from.

    Args:
        frame: one row a slide with columns slide, label (fine index), group, split, centre.
        group_name: what a group is, "" where groups are unknown.
        origin: where this is known from, in words.
    """

    frame: pd.DataFrame
    group_name: str
    origin: str


def packed_slides(store: BagStore) -> SlideTable:
    """The slides of a packed store."""
    return SlideTable(store.slides, store.group_name, f"packed store {store.path.name}")


def known_slides(spec: DatasetSpec, labels: Path | None, data: Path) -> SlideTable | None:
    """The slides of a label sheet; without one those of the packed store; None where there is neither.

    A generated dataset is made if it is not there.

    Raises:
        InputError: the sheet or the store is broken.
    """
    if labels is not None:
        sheet = read_label_sheet(labels, spec)
        return SlideTable(sheet.frame, sheet.group_name, f"label sheet {labels.name}")
    packed = spec.generator is not None or store_path(spec, data).exists()
    return packed_slides(open_store(spec, data)) if packed else None
