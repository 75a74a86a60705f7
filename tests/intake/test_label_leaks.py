"""Columns that are the label are found; features that only know something of it are not."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.intake.inspection.leaks import LabelLeaks, LeakingColumn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mil_bench.bags.store import BagStore


def leaks_of(bags: list[np.ndarray], labels: np.ndarray, classes: int | None = None) -> LabelLeaks:
    leaks = LabelLeaks(classes or int(labels.max()) + 1, bags[0].shape[1])
    for rows, label in zip(bags, labels, strict=True):
        values = rows.astype(np.float32)
        leaks.add(int(label), values.min(0), values.mean(0), values.max(0))
    return leaks


def bags_of(store: BagStore) -> list[np.ndarray]:
    return [store.features[store.rows_of(bag)] for bag in range(len(store))]


def classic(shared: Path, name: str) -> LabelLeaks:
    with np.load(shared / "data" / "classic" / f"{name}.npz") as file:
        features, offsets, labels = file["features"], file["offsets"], file["labels"]
    return leaks_of([features[a:b] for a, b in pairwise(offsets)], labels)


def test_the_published_leak_is_found(shared: Path) -> None:
    assert classic(shared, "LEAKY_musk1_rgmil_167").columns() == [
        LeakingColumn(166, "minimum", ((0,), (1,)))
    ]


@pytest.mark.parametrize("name", ["musk1", "tiger"])
def test_clean_classic_data_are_not_flagged(shared: Path, name: str) -> None:
    leaks = classic(shared, name)
    assert leaks.columns() == []
    assert leaks.constant_within_bags().tolist() == []


@pytest.mark.parametrize(
    "name", ["digits", "bracs-sim", "panda-sim", "ccc-sim", "bracs-sim:difficulty=0.1,slides=120"]
)
def test_generated_data_are_not_flagged(tmp_path: Path, name: str) -> None:
    store = open_store(find_dataset(name), tmp_path)
    assert leaks_of(bags_of(store), store.labels).columns() == []


PARENT = np.array([0, 0, 0, 1, 1, 2, 2])
RNG = np.random.default_rng(3)
PLANTED: dict[str, tuple[Callable[[int, int], np.ndarray | float], int]] = {
    "the fine class": (lambda label, n: label, 7),
    "the fine class, scaled and turned": (lambda label, n: -1e-3 * label, 7),
    "the coarse class": (lambda label, n: PARENT[label], 3),
    "one class against the rest": (lambda label, n: label == 3, 2),
    "the fine class with tiny noise": (lambda label, n: label + 0.01 * RNG.standard_normal(n), 7),
    "classes in another order": (lambda label, n: (3 * label) % 7, 7),
    "the class in one witness": (lambda label, n: np.where(np.arange(n) == n // 2, label, -1), 7),
    "the class in every other instance": (lambda label, n: np.where(np.arange(n) % 2, label, 0), 7),
}


@pytest.mark.parametrize(("value", "clusters"), PLANTED.values(), ids=PLANTED.keys())
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_planted_column_is_found_that_is(
    small_store: BagStore, value: Callable, clusters: int, dtype: str
) -> None:
    bags = []
    for rows, label in zip(bags_of(small_store), small_store.labels, strict=True):
        planted = rows.astype(dtype)
        planted[:, 11] = value(int(label), len(rows))
        bags.append(planted)
    (found,) = leaks_of(bags, small_store.labels).columns()
    assert found.column == 11
    assert len(found.clusters) == clusters
    assert sorted(c for cluster in found.clusters for c in cluster) == list(range(7))


def test_a_running_number_of_sorted_slides_is_found() -> None:
    labels = np.repeat([0, 1, 2], 20)
    bags = [np.random.default_rng(i).standard_normal((5, 8)) for i in range(60)]
    for i, rows in enumerate(bags):
        rows[:, 2] = i
    assert [(leak.column, leak.clusters) for leak in leaks_of(bags, labels).columns()] == [
        (2, ((0,), (1,), (2,)))
    ]


def test_a_value_of_the_bag_that_does_not_tell_the_label_is_metadata() -> None:
    rng = np.random.default_rng(0)
    bags = [rng.standard_normal((5, 8)) for _ in range(60)]
    for rows in bags:
        rows[:, 2] = rng.integers(0, 3)
    leaks = leaks_of(bags, np.arange(60) % 2)
    assert leaks.columns() == []
    assert leaks.constant_within_bags().tolist() == [2]


@pytest.mark.parametrize("sizes", [(1, 99), (2, 98), (1, 1, 98), (3, 3), (2, 2, 2, 2)])
@pytest.mark.parametrize("kind", ["continuous", "binary"])
def test_small_classes_in_random_data_raise_no_alarm(sizes: tuple[int, ...], kind: str) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for_bag = {
            "continuous": lambda rng=rng: rng.standard_normal((3, 512)),
            "binary": lambda rng=rng: some_bits(rng),
        }
        assert leaks_of([for_bag[kind]() for _ in labels], labels).columns() == []


def some_bits(rng: np.random.Generator) -> np.ndarray:
    """A bag of three equal instances of zeros and ones."""
    return np.tile(rng.integers(0, 2, 512), (3, 1))


def test_a_strong_honest_feature_is_not_the_label() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    # Bag means lie 8 of their deviations apart: no overlap, and yet a measurement.
    bags = [rng.standard_normal((10, 4)) + 2.6 * label for label in labels]
    assert leaks_of(bags, labels).columns() == []


def test_one_class_alone_has_nothing_to_tell() -> None:
    assert leaks_of([np.ones((2, 3))] * 20, np.zeros(20, dtype=int), classes=7).columns() == []
