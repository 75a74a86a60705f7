"""Whether attention finds the witnesses: a value per slide, as attention is too large to store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.metrics import attention_auc

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods import Output


class WitnessWatch:
    """Collects the AUC of each slide's attention against its witness instances, batch by batch.

    A witness is an instance that shows any finding, even a milder one than the slide's label. If
    attention has a column per fine class, that of the slide's class counts (the columns of HMIL,
    CLAM-MB and DSMIL are in the order of the card's classes). Otherwise the columns are heads of
    one attention, and their mean counts.
    """

    def __init__(self) -> None:
        self._aucs: list[float] = []

    def __call__(self, batch: BagBatch, out: Output) -> None:
        """Add a batch; a batch without attention or without instance labels adds nothing."""
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
        """One value per slide ``[B]`` in the order of prediction; None if nothing was compared."""
        return np.array(self._aucs) if self._aucs else None
