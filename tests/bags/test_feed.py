"""Feeds: bags of a store as batches, in the order asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mil_bench.bags import feed as feed_module
from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.feed import Feed
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import BagStore, create_store
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def store_of(path: Path, sizes: list[int], dtype: str = "float16", extras: bool = True) -> BagStore:
    rng = np.random.default_rng(0)
    header = StoreHeader(
        "toy",
        LabelHierarchy.flat(["x", "y"]),
        sum(sizes),
        3,
        dtype,
        "made by a test",
        "patient",
        coords_unit="level-0 pixels" if extras else "",
        has_instance_labels=extras,
    )
    with create_store(path, header) as writer:
        for i, n in enumerate(sizes):
            features = rng.standard_normal((n, 3)).astype(dtype)
            coords, shown = (
                rng.integers(0, 10**5, (n, 2)).astype(float),
                rng.integers(-1, 2, n).astype(np.int16),
            )
            writer.add(Bag(Slide(f"s{i}", i % 2, f"g{i}"), features, coords, None, shown))
    return BagStore(path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_batch_holds_the_bags_in_the_order_asked(tmp_path: Path, dtype: str) -> None:
    store = store_of(tmp_path / "toy.h5", [3, 1, 4, 2], dtype)
    order = np.array([2, 0, 3, 0])
    batch = Feed(store, CPU).batch(order)
    bags = [store.bag(i) for i in order]
    assert batch.features.dtype == torch.float32
    assert batch.sizes.tolist() == [4, 3, 2, 3]
    assert batch.labels.tolist() == [bag.slide.label for bag in bags]
    assert np.array_equal(
        batch.features.numpy(), np.concatenate([bag.features for bag in bags]).astype(np.float32)
    )
    assert np.array_equal(
        batch.coords.numpy(), np.concatenate([bag.coords for bag in bags]).astype(np.float32)
    )
    assert np.array_equal(
        batch.instance_labels.numpy(), np.concatenate([bag.instance_labels for bag in bags])
    )


def test_a_store_without_coordinates_and_witnesses_gives_batches_without(tmp_path: Path) -> None:
    batch = Feed(store_of(tmp_path / "toy.h5", [3, 1], extras=False), CPU).batch(np.array([1, 0]))
    assert batch.coords is None
    assert batch.instance_labels is None


def test_changing_a_batch_does_not_change_the_store(tmp_path: Path) -> None:
    store = store_of(tmp_path / "toy.h5", [3], "float32")
    before = store.features.copy()
    Feed(store, CPU).batch(np.array([0])).features.zero_()
    assert np.array_equal(store.features, before)


def test_parts_by_rows_keep_the_order_and_bound_the_rows(tmp_path: Path) -> None:
    sizes = np.random.default_rng(0).integers(1, 3000, 40).tolist()
    store = store_of(tmp_path / "toy.h5", sizes, extras=False)
    order = np.random.default_rng(1).permutation(40)
    parts = Feed(store, CPU).by_rows(order)
    assert np.concatenate(parts).tolist() == order.tolist()
    assert len(parts) > 3
    assert all(len(part) for part in parts)
    assert max(sum(sizes[i] for i in part) for part in parts) <= 8192 + max(sizes)


def test_no_bags_make_no_parts(tmp_path: Path) -> None:
    feed = Feed(store_of(tmp_path / "toy.h5", [3]), CPU)
    assert feed.by_rows(np.array([], dtype=np.int64)) == []


def test_batches_read_ahead_are_those_that_were_asked_for(tmp_path: Path) -> None:
    feed = Feed(store_of(tmp_path / "toy.h5", [3, 1, 4, 2, 5]), CPU)
    parts = [np.array(part) for part in ([4], [0, 2], [1], [3, 3], [2])]
    for found, part in zip(feed.ahead(parts), parts, strict=True):
        assert torch.equal(found.features, feed.batch(part).features)
        assert found.lengths == feed.batch(part).lengths


def test_a_bag_that_cannot_be_read_ahead_raises_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(store_of(tmp_path / "toy.h5", [3, 1]), CPU)
    read = feed.batch
    monkeypatch.setattr(feed, "batch", lambda bags: 1 / 0 if bags[0] else read(bags))
    batches = feed.ahead([np.array([0]), np.array([1])])
    assert next(batches).n_bags == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)


@pytest.mark.parametrize(("rows", "most"), [(8, 3), (3, 4), (1, 9)])
def test_reading_ahead_goes_two_batches_or_eight_megabytes_and_stops_with_its_reader(
    rows: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert feed_module.BYTES_TOGETHER == 8 * 2**20
    monkeypatch.setattr(feed_module, "BYTES_TOGETHER", 8 * 3 * 4)  # eight rows of this store
    asked = []
    feed = Feed(store_of(tmp_path / "toy.h5", [rows] * 50), CPU)
    batches = feed.ahead(asked.append(i) or np.array([i]) for i in range(50))
    next(batches)
    batches.close()
    assert len(asked) == most
