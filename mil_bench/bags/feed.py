"""Bags of a store as packed batches, in any order."""

from __future__ import annotations

import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from mil_bench import devices
from mil_bench.bags.batch import BagBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mil_bench.bags.store import BagStore

# Keeps activations of a forward pass without gradients below a few hundred MB for every method.
_ROWS_PER_EVALUATION = 8192
# Batches that are read ahead: one is copied while one waits.
_AHEAD = 2
# Bytes of features that fit into a processor's cache; small batches are read ahead up to it.
BYTES_TOGETHER = 8 * 2**20
# Of a GPU's free memory that features may fill; the rest is for the models and their activations.
_SHARE_OF_GPU = 0.5


class Feed:
    """Reads bags of a store into batches on a device.

    If all features fit into half of a GPU's free memory, they move there in the type of the store,
    and batches are made without the CPU. Otherwise, every batch is copied when it is needed; those
    that are read ahead are copied while the GPU computes.

    Args:
        store: the bags.
        device: where batches go.
        may_stay: whether all features may be on a GPU at once.
    """

    def __init__(self, store: BagStore, device: torch.device, *, may_stay: bool = True) -> None:
        self._store = store
        self.device = device
        """Where batches go."""
        self.stays = (
            may_stay
            and devices.is_gpu(device)
            and store.features.nbytes < _SHARE_OF_GPU * devices.free_memory(device)
        )
        """Whether all features are on a GPU."""
        home = device if self.stays else torch.device(devices.CPU)
        self._features = _shared(store.features).to(home)
        self._coords, self._instance_labels = (
            None if column is None else _shared(column).to(home)
            for column in (store.coords, store.instance_labels)
        )
        streams = devices.is_gpu(device) and not self.stays
        self._copies = devices.copy_stream(device) if streams else None

    def batch(self, bags: np.ndarray) -> BagBatch:
        """The bags at these positions of the store ``[B]`` as one batch, in float32."""
        store = self._store
        rows = [part for bag in bags.tolist() for part in store.ranges[bag]]
        return BagBatch.pack(
            self._gather(self._features, rows, torch.float32),
            torch.from_numpy(store.sizes[bags]),
            devices.send(torch.from_numpy(store.labels[bags]), self.device),
            None if self._coords is None else self._gather(self._coords, rows, torch.float32),
            None
            if self._instance_labels is None
            else self._gather(self._instance_labels, rows, torch.int64),
        )

    def ahead(self, parts: Iterable[np.ndarray]) -> Iterator[BagBatch]:
        """The batches of these positions, one by one; a thread reads the next ones meanwhile."""
        waiting: deque[tuple[Future[tuple[BagBatch, devices.Arrival | None]], int]] = deque()
        row = 4 * self._features.shape[1]  # bytes
        held = 0  # bytes of the batches that wait behind the first
        with ThreadPoolExecutor(1, "feed") as reader:
            try:
                for part in parts:
                    size = row * int(self._store.sizes[part].sum())
                    held += size if waiting else 0
                    waiting.append((reader.submit(self._read, part), size))
                    while len(waiting) > _AHEAD and held >= BYTES_TOGETHER:
                        yield self._arrived(*waiting.popleft()[0].result())
                        held -= waiting[0][1]
                while waiting:
                    yield self._arrived(*waiting.popleft()[0].result())
            finally:
                for future, _ in waiting:  # not needed if the caller stops early
                    future.cancel()

    def _read(self, bags: np.ndarray) -> tuple[BagBatch, devices.Arrival | None]:
        """A batch; and when it will have arrived on the GPU, None if it has."""
        if self._copies is None:
            return self.batch(bags), None
        return devices.copied_on(self._copies, lambda: self.batch(bags))

    def _arrived(self, batch: BagBatch, arrival: devices.Arrival | None) -> BagBatch:
        """The batch, for computing on the device."""
        if arrival is not None:
            parts = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
            devices.take_over(parts, arrival, self.device)
        return batch

    def _gather(self, column: torch.Tensor, rows: list[slice], dtype: torch.dtype) -> torch.Tensor:
        """Rows of a column on the device, copied once; for a GPU they are converted there."""
        if not devices.is_cpu(column):
            return torch.cat([column[r] for r in rows]).to(dtype)
        kept = dtype if devices.is_cpu(self.device) else column.dtype
        shape = (sum(r.stop - r.start for r in rows), *column.shape[1:])
        if devices.is_gpu(self.device):
            gathered = devices.pinned(shape, kept)
        else:
            # NumPy uses huge pages and torch does not: 1.4 and 5.9 ms for 12 MB (measured).
            gathered = torch.from_numpy(np.empty(shape, dtype=str(kept).removeprefix("torch.")))
        start = 0
        for r in rows:
            gathered[start : start + r.stop - r.start] = column[r]
            start += r.stop - r.start
        return gathered.to(self.device, non_blocking=True).to(dtype)

    def by_rows(self, bags: np.ndarray) -> list[np.ndarray]:
        """An order split into parts of bounded row count, for passes without gradients."""
        part = np.cumsum(self._store.sizes[bags]) // _ROWS_PER_EVALUATION
        return np.split(bags, np.flatnonzero(np.diff(part)) + 1) if len(bags) else []


def _shared(column: np.ndarray) -> torch.Tensor:
    """A column as a tensor on the memory map itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column)  # only ever read here
