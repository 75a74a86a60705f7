"""A made dataset whose labels belong to patients, with several slides per patient."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

import mil_bench
from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import create_store
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.runs.result import RunResult

HIERARCHY = LabelHierarchy.from_groups({"one": ["a", "b"], "two": ["c"]})
CARD = """
name = "{name}"
unit = "patient"
hierarchy.one = ["a", "b"]
hierarchy.two = ["c"]
group = "patient"
protocols = ["patient-kfold", "official", "leave-one-centre-out"]
folds = 3
"""


def made_bags(patients: int = 24, seed: int = 0, mark: str = "") -> list[Bag]:
    """One to three slides per patient, in an order that is not that of their names."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((3, 6))
    bags = []
    for p in range(patients):
        label, centre = p % 3, "AB"[p % 2]
        for s in range(1 + (p // 3) % 3):
            rows = int(rng.integers(3, 9))
            features = rng.standard_normal((rows, 6)).astype(np.float32)
            features[0] += 2 * directions[label]
            slide = Slide(f"s{mark}{s}-{p:02d}", label, f"P{mark}{p:02d}", "", centre)
            coords = np.stack([100.0 * np.arange(rows), np.full(rows, 100.0 * s)], 1)
            shown = np.full(rows, -1, dtype=np.int16)
            shown[0] = label
            bags.append(Bag(slide, features, coords, 100.0, shown))
    return [bags[i] for i in rng.permutation(len(bags))]


def write_bags(path: Path, bags: Sequence[Bag], name: str = "study") -> Path:
    """A store of these bags."""
    header = StoreHeader(
        name,
        HIERARCHY,
        sum(len(bag.features) for bag in bags),
        6,
        "float32",
        "made for tests",
        "patient",
        "level-0 pixels",
        has_instance_labels=True,
    )
    with create_store(path, header) as writer:
        for bag in bags:
            writer.add(bag)
    return path


def by_hand(bags: Sequence[Bag]) -> list[Bag]:
    """The slides of each patient as one bag, concatenated in memory."""
    members: dict[str, list[Bag]] = {}
    for bag in sorted(bags, key=lambda bag: bag.slide.id):
        members.setdefault(bag.slide.group, []).append(bag)
    return [
        Bag(
            replace(own[0].slide, id=patient),
            *(
                np.concatenate([getattr(bag, name) for bag in own])
                for name in ("features", "coords")
            ),
            own[0].patch_size,
            np.concatenate([bag.instance_labels for bag in own]),
        )
        for patient, own in sorted(members.items())
    ]


def study(folder: Path, bags: Sequence[Bag], name: str = "study", unit: str = "patient") -> Path:
    """The card of a dataset with a packed store; returns the path of the card."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    write_bags(folder / "data" / f"{name}.h5", bags, name)
    card = folder / f"{name}.toml"
    card.write_text(CARD.format(name=name).replace('unit = "patient"', f'unit = "{unit}"'))
    return card


def run_study(card: Path, methods: Sequence[str], **options: object) -> RunResult:
    """A run of a few epochs in this process."""
    quiet = {"tracking": False, "progress": False, "on": "inline", "device": "cpu"}
    folder = card.parent
    places = {"results": folder / "results", "data": folder / "data"}
    settings = {"epochs": 3} | options
    result = mil_bench.run(list(methods), str(card), **places, **quiet, **settings)
    assert not result.failures
    return result
