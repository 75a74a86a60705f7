"""Whether attention finds the witnesses: what is kept of a method's attention, which is too large to be kept itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.metrics import attention_auc

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods import Output


class WitnessWatch:
    """Collects for each slide the AUC of its attention against its witness instances, batch after batch.

    A witness is an instance that shows any finding, also a milder one than the slide's label. Of an
    attention with a column for each fine class, the slide's own class counts (HMIL, CLAM-MB and
    DSMIL order their columns as the card orders its classes); columns of any other number are heads
    of one attention, and their mean counts.
    """

    def __init__(self) -> None:
        self._aucs: list[float] = []

    def __call__(self, batch: BagBatch, out: Output) -> None:
        """Take in a batch; one without attention or without instance labels leaves nothing."""
        if out.attention is None or batch.instance_labels is None:
            return
        if out.attention.shape[1] == out.fine.shape[1]:
            attention = out.attention.gather(1, batch.labels[batch.bag_of, None])[:, 0]  # [N]
        else:
            attention = out.attention.mean(1)  # [N]
        cuts = batch.offsets[1:-1].cpu().numpy()
        parts = zip(
            np.split(attention.double().cpu().numpy(), cuts),
            np.split((batch.instance_labels >= 0).cpu().numpy(), cuts),
            strict=True,
        )
        self._aucs += [attention_auc(part, witness) for part, witness in parts]

    @property
    def aucs(self) -> np.ndarray | None:
        """One value a slide ``[B]`` in the order of prediction; None where there was nothing to compare."""
        return np.array(self._aucs) if self._aucs else None
