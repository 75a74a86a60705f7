"""The slides of each patient of a store as one bag, without a copy of their features."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.bags.bag import patient_frame
from mil_bench.bags.store import BagStore

if TYPE_CHECKING:
    from mil_bench.bags.index import StoreIndex


class PatientBags(BagStore):
    """A store whose bags are its patients: the groups of its slides.

    A bag has the rows of its patient's slides one slide after another, in the order of their ids.
    Coordinates stay those of each slide, so patches of two slides may have the same ones.
    ``slides`` has one row per patient, with the patient as slide and as group, in the order of
    their names. The digest is that of the slides: it names the same data.

    Args:
        path: the store file; the slides of a group have one label.
        labels: as of ``BagStore``.

    Raises:
        InputError: as ``BagStore``.
    """

    def _take(self, index: StoreIndex) -> None:
        super()._take(index)
        slides, ranges, self.unit = self.slides, self.ranges, self.group_name
        groups, ids = slides["group"].tolist(), slides["slide"].tolist()
        order = sorted(range(len(ids)), key=lambda i: (groups[i], ids[i]))
        self._members = [list(own) for _, own in itertools.groupby(order, key=groups.__getitem__)]
        self._bag_of = {ids[i]: bag for bag, own in enumerate(self._members) for i in own}
        self.ranges = [tuple(ranges[i][0] for i in own) for own in self._members]
        self.sizes = np.array([index.sizes[own].sum() for own in self._members], dtype=np.int64)
        self.labels = index.labels[[own[0] for own in self._members]]
        self.patch_sizes = np.array([_common(index.patch_sizes[own]) for own in self._members])
        self.slides = patient_frame(slides).assign(rows=self.sizes)

    def index_of(self, slides: tuple[str, ...]) -> np.ndarray:
        """Positions of the bags that have these slides, each once, ascending."""
        return np.array(sorted({self._bag_of[slide] for slide in slides}), dtype=np.int64)

    def damaged(self, position: int) -> tuple[str, ...]:
        """Names of the columns in which a bag's rows are not those that were stored."""
        names = (name for slide in self._members[position] for name in self._damaged(slide))
        return tuple(dict.fromkeys(names))


def _common(sizes: np.ndarray) -> float:
    """The side of a patch that slides have in common, NaN if they differ."""
    return float(sizes[0]) if (sizes == sizes[0]).all() else np.nan
