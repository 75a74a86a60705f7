"""Features that stay on a GPU and features that are streamed to it give the same batches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from mil_bench import devices
from mil_bench.bags import feed as feed_module
from mil_bench.bags.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mil_bench.bags.store import BagStore

CPU, ORDER = torch.device("cpu"), np.array([5, 0, 17, 3])


class Copies:
    """A CPU that is taken for a GPU: copies are done at once, and what would be queued is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, features_stay: bool) -> None:
        self.queued = self.taken = 0
        self.streams: list[torch.device] = []
        self.rooms: list[tuple[int, ...]] = []
        monkeypatch.setattr(devices, "is_gpu", lambda where: True)
        monkeypatch.setattr(devices, "is_cpu", lambda where: not features_stay)
        monkeypatch.setattr(devices, "free_memory", lambda where: 2**40)
        for stand_in in (self.pinned, self.copy_stream, self.copied_on, self.take_over):
            monkeypatch.setattr(devices, stand_in.__name__, stand_in)

    def pinned(self, shape: Iterable[int], dtype: torch.dtype) -> torch.Tensor:
        self.rooms.append(tuple(shape))
        return torch.empty(self.rooms[-1], dtype=dtype)

    def copy_stream(self, device: torch.device) -> str:
        self.streams.append(device)
        return "copies"

    def copied_on(self, stream: str, make: Callable[[], Any]) -> tuple[Any, int]:
        assert stream == "copies"
        made = make()
        self.queued += 1
        return made, self.queued

    def take_over(
        self, tensors: Iterable[torch.Tensor], arrival: int, device: torch.device
    ) -> None:
        assert arrival == self.taken + 1  # each batch's own copies, in order
        assert len(list(tensors)) >= 4
        self.taken = arrival


@pytest.mark.parametrize("may_stay", [True, False], ids=["resident", "streamed"])
def test_batches_do_not_depend_on_where_features_are(
    device: torch.device,
    may_stay: bool,
    small_store: BagStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if devices.is_cpu(device):
        Copies(monkeypatch, features_stay=may_stay)
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
    Copies(monkeypatch, features_stay=stays)
    free = int(times * small_store.features.nbytes)
    monkeypatch.setattr(devices, "free_memory", lambda where: free)
    assert Feed(small_store, CPU).stays == stays


def test_streamed_batches_are_copied_ahead_and_waited_for_on_the_gpu_alone(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [np.array([i, i + 1]) for i in range(6)]
    expected = [Feed(small_store, CPU).batch(part).features for part in parts]
    copies = Copies(monkeypatch, features_stay=False)
    monkeypatch.setattr(feed_module, "BYTES_TOGETHER", 0)
    for number, batch in enumerate(Feed(small_store, CPU, may_stay=False).ahead(parts), 1):
        until = time.monotonic() + 10
        while copies.queued < min(number + 2, len(parts)) and time.monotonic() < until:
            time.sleep(0.001)
        assert copies.queued == min(number + 2, len(parts))  # two batches ahead of this one
        assert copies.taken == number
        assert torch.equal(batch.features, expected[number - 1])
        assert tuple(batch.features.shape) in copies.rooms


def test_features_that_stay_need_no_second_queue(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies(monkeypatch, features_stay=True)
    feed = Feed(small_store, CPU)
    assert feed.stays
    assert [batch.n_bags for batch in feed.ahead([ORDER, ORDER])] == [4, 4]
    assert (copies.streams, copies.queued, copies.taken) == ([], 0, 0)
