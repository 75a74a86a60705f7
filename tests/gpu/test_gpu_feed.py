"""Features that stay on a GPU and features that are streamed to it give the same batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mil_bench import devices
from mil_bench.bags.feed import Feed

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore

CPU, ORDER = torch.device("cpu"), np.array([5, 0, 17, 3])


@pytest.mark.parametrize("may_stay", [True, False], ids=["resident", "streamed"])
def test_batches_do_not_depend_on_where_features_are(
    device: torch.device,
    may_stay: bool,
    small_store: BagStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if devices.is_cpu(device):  # taken for a GPU with memory for all features
        monkeypatch.setattr(devices, "is_gpu", lambda where: True)
        monkeypatch.setattr(devices, "is_cpu", lambda where: not may_stay)
        monkeypatch.setattr(devices, "free_memory", lambda where: 2**40)
    bags = [small_store.bag(i) for i in ORDER]
    features = np.concatenate([bag.features for bag in bags]).astype(np.float32)
    feed = Feed(small_store, device, may_stay=may_stay)
    assert feed.stays == may_stay
    for batch in (feed.batch(ORDER), *feed.ahead([ORDER, ORDER])):
        parts = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
        assert {part.device.type for part in parts} == {device.type}
        assert batch.features.dtype == torch.float32
        assert np.array_equal(batch.features.cpu().numpy(), features)
        assert batch.labels.tolist() == [bag.slide.label for bag in bags]
        assert batch.sizes.tolist() == list(batch.lengths) == [len(bag.features) for bag in bags]


@pytest.mark.parametrize(("times", "stays"), [(3.0, True), (1.5, False)])
def test_features_stay_if_they_take_less_than_half_of_the_free_memory(
    times: float, stays: bool, small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = int(times * small_store.features.nbytes)
    monkeypatch.setattr(devices, "is_gpu", lambda where: True)
    monkeypatch.setattr(devices, "free_memory", lambda where: free)
    assert Feed(small_store, CPU).stays == stays
