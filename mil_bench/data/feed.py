"""Bags of a store as packed batches, in the order asked for."""

from __future__ import annotations

import numpy as np
import torch

from mil_bench.data.batch import BagBatch
from mil_bench.data.store import BagStore

# Keeps activations of a forward pass without gradients below a few hundred MB for every method.
_ROWS_PER_EVALUATION = 8192


class Feed:
    """Reads bags of a store into batches on a device."""

    def __init__(self, store: BagStore, device: torch.device):
        self._store, self._device = store, device

    def batch(self, bags: np.ndarray) -> BagBatch:
        """The bags at these positions of the store, ``[B]``, as one batch; features become float32."""
        store = self._store
        starts, ends = store.offsets[bags], store.offsets[bags + 1]
        rows = [slice(a, b) for a, b in zip(starts, ends, strict=True)]

        def take(column: np.ndarray | None, dtype: torch.dtype) -> torch.Tensor | None:
            if column is None:
                return None
            return torch.from_numpy(np.concatenate([column[r] for r in rows])).to(self._device, dtype)

        return BagBatch.pack(
            take(store.features, torch.float32),
            torch.from_numpy(ends - starts).to(self._device),
            torch.from_numpy(store.labels[bags]).to(self._device),
            take(store.coords, torch.float32),
            take(store.instance_labels, torch.int64),
        )

    def by_rows(self, bags: np.ndarray) -> list[np.ndarray]:
        """An order cut into parts of bounded row count, for passes without gradients."""
        sizes = self._store.offsets[bags + 1] - self._store.offsets[bags]
        part = np.cumsum(sizes) // _ROWS_PER_EVALUATION
        return np.split(bags, np.flatnonzero(np.diff(part)) + 1) if len(bags) else []
