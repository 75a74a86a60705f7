"""What is known of the bags of a run, kept with its plan, so that a report needs no features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore
    from mil_bench.splits.plan import SplitPlan


@dataclass(frozen=True)
class ClassFacts:
    """The slides of one fine class that are in any fold.

    Args:
        slides: their number.
        groups: number of their groups, 0 if groups are unknown.
        instances: smallest, lower quartile, median, upper quartile and largest number of instances
            per bag; () without slides.
    """

    slides: int
    groups: int
    instances: tuple[float, ...]


@dataclass(frozen=True)
class DataFacts:
    """The slides of a run.

    Args:
        classes: fine class to its slides.
        width: number of features per instance.
        without_features: number of slides that the label table names and the bag store lacks.
    """

    classes: dict[str, ClassFacts]
    width: int
    without_features: int

    @classmethod
    def of(cls, store: BagStore, splits: SplitPlan) -> DataFacts:
        """Counted in a bag store, of which only the index is read.

        Args:
            store: the bags.
            splits: the folds; slides in none of them do not count.
        """
        used = {s for fold in splits.folds for s in (*fold.train, *fold.val, *fold.test)}
        bags = store.index_of(tuple(sorted(used)))
        labels, sizes = store.labels[bags], store.sizes[bags]
        groups = store.slides["group"].to_numpy()[bags]
        classes = {}
        for c, name in enumerate(store.hierarchy.fine):
            of_class = labels == c
            spread = np.quantile(sizes[of_class], (0, 0.25, 0.5, 0.75, 1)) if of_class.any() else ()
            classes[name] = ClassFacts(
                int(of_class.sum()),
                len(set(groups[of_class])) if store.group_name else 0,
                tuple(map(float, spread)),
            )
        return cls(classes, store.width, store.without_features)
