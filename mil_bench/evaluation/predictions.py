"""What a trained fold said about its test slides."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pandas as pd

from mil_bench.data.hierarchy import LabelHierarchy


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities a slide; every metric can be computed again from them.

    Args:
        slides: ids ``[B]``.
        labels: fine labels ``[B]``.
        fine: fine probabilities ``[B, C]`` float64, rows sum to 1.
        coarse_head: probabilities of the method's own coarse head ``[B, G]``, or None.
    """

    slides: np.ndarray
    labels: np.ndarray
    fine: np.ndarray
    coarse_head: np.ndarray | None = None

    def write(self, file: BinaryIO) -> None:
        """As an npz archive of plain arrays; the same predictions always give the same bytes."""
        arrays = {"slides": self.slides.astype(str), "labels": self.labels, "fine": self.fine}
        if self.coarse_head is not None:
            arrays["coarse_head"] = self.coarse_head
        np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, content: bytes) -> Predictions:
        """The inverse of ``write``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
        return cls(arrays["slides"], arrays["labels"], arrays["fine"], arrays.get("coarse_head"))

    def frame(self, hierarchy: LabelHierarchy) -> pd.DataFrame:
        """One row a slide: id, label, predicted class, one probability column a fine class."""
        names = np.array(hierarchy.fine)
        table = {"slide": self.slides, "label": names[self.labels], "predicted": names[self.fine.argmax(1)]}
        return pd.DataFrame(table | {f"p({name})": self.fine[:, c] for c, name in enumerate(hierarchy.fine)})
