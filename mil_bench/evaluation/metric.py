"""What a metric is: one entry with its name, its sums, and the reason if it is undefined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from mil_bench.evaluation.weighted_sums import Ratio, Weighted

LEVELS: Mapping[str, str] = {
    "fine": "",
    "coarse": "coarse",
    "coarse_head": "coarse-head",
    "slide": "",
}
"""Where a metric is taken, and the word before its name: fine labels; coarse labels, from fine
probabilities summed over the children; coarse labels, from the method's own coarse head; and means
over slides that belong to no level."""
MARGIN = 0.01
"""Differences below it make methods practically equivalent, unless a run is asked with another: 1
point of a metric in percent, a hundredth of the unit of any other."""
LABEL_LEVELS = ("fine", "coarse", "coarse_head")


def class_mean(values: np.ndarray) -> np.ndarray:
    """Mean over columns ``[R, columns] -> [R]``; not a number as soon as one class is undefined."""
    return values.mean(1)


@dataclass(frozen=True)
class Metric:
    """One metric. A package brings its own under the entry-point group ``mil_bench.metrics``.

    Args:
        heading: column heading.
        words: in the middle of a sentence ("macro AUC").
        meaning: one sentence for captions.
        sums: the two sums whose ratio is the metric, for R weightings of the slides; None if the
            metric does not exist for these predictions. At level "slide" it gets the fine scores.
        reduction: from a value per column ``[R, columns]`` to the metric ``[R]``; None if every
            column is a class with a value of its own.
        undefined: why the metric is undefined if it is, in words; "" for the usual reason, that a
            class has no test slide.
        higher_is_better: else lower is.
        percent: shown as percent, else as a plain number.
        levels: at which levels it exists, keys of ``LEVELS``.
        resampled: whether a bootstrap interval makes sense; without one, there are no verdicts.
        ranked: whether tables mark its best value; not for what a useless method can win, such as
            calibration (a constant prediction has no error) or a share of a method's own mistakes.
        ordered_only: whether it needs ordered classes (grades).

    Raises:
        ValueError: a level does not exist, or a class-wise metric is at level "slide".
    """

    heading: str
    words: str
    meaning: str
    sums: Callable[[Weighted], Ratio | None]
    reduction: Callable[[np.ndarray], np.ndarray] | None = class_mean
    undefined: str = ""
    higher_is_better: bool = True
    percent: bool = True
    levels: tuple[str, ...] = LABEL_LEVELS
    resampled: bool = True
    ranked: bool = True
    ordered_only: bool = False

    def __post_init__(self) -> None:
        if unknown := [level for level in self.levels if level not in LEVELS]:
            raise ValueError(f"{', '.join(unknown)}: no such level; known: {', '.join(LEVELS)}")
        if self.is_classwise and "slide" in self.levels:
            raise ValueError("a class-wise metric cannot be at level slide, which has no classes")

    @property
    def is_classwise(self) -> bool:
        """Whether it has a value per class."""
        return self.reduction is None

    @property
    def is_mean(self) -> bool:
        """Whether it is the plain mean of its columns, not a number as soon as one of them is."""
        return self.reduction is class_mean

    @property
    def sign(self) -> int:
        """1 if higher is better, -1 if lower is."""
        return 1 if self.higher_is_better else -1
