"""What a comparison can show before it is made: from a stored run, or from an assumption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mil_bench.evaluation.max_t import critical_value
from mil_bench.evaluation.power.pairs import Outlook, pair_power
from mil_bench.evaluation.power.spread import Design, Spread, most_folds, spreads
from mil_bench.evaluation.statistics import SIGNIFICANCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Evidence

ASSUMED = 0.24
"""Standard deviation over patients of a patient's part in the difference of two methods.

This and the next number are those of ``mil_bench.benchmarks.statistics``: macro AUC, ten folds by
patient, one repeat.
"""
ASSUMED_OF_TRAINING = 0.6
"""Share of its square that is chance of training, which repeats average out."""


@dataclass(frozen=True)
class Basis:
    """What the numbers of a plan rest on.

    Args:
        run: name of a stored run, "" if the spread is assumed.
        measure: what methods are compared on.
        unit: what the bootstrap draws ("patient").
        spreads: pairs of methods to what moves their difference.
        most: the largest number of folds; 0 if neither folds nor repeats can be changed.
    """

    run: str
    measure: Measure
    unit: str
    spreads: Mapping[tuple[str, str], Spread]
    most: int

    @classmethod
    def of_run(cls, run: str, evidence: Evidence, measure: Measure) -> Basis:
        """From the methods of a run; yardsticks are left out. Patients must be drawn."""
        pairs = list(combinations(evidence.contestants, 2))
        found = dict(zip(pairs, spreads(evidence, measure, pairs), strict=True))
        return cls(run, measure, evidence.bootstrap.unit, found, most_folds(evidence))

    @classmethod
    def assumed(cls, design: Design, unit: str, measure: Measure, most: int) -> Basis:
        """Without a run: the spread of simulated benchmarks.

        Args:
            design: what is planned. A sixth of the slides that are not tested validates, or less if
                there are more than seven folds.
            unit: as of the class.
            measure: as of the class.
            most: as of the class.
        """
        folds = max(design.folds, 2)
        overlap = 1 / (folds - 1) / (1 - 1 / max(folds - 1, 6))
        whole, share = ASSUMED**2 / design.patients, ASSUMED_OF_TRAINING
        one = replace(design, folds=folds, repeats=1, seeds=1)
        spread = Spread(one, overlap, lasting=(1 - share) * whole, of_repeats=share * whole)
        return cls("", measure, unit, {("one method", "another"): spread}, most)

    @property
    def design(self) -> Design:
        """Of the run."""
        return next(iter(self.spreads.values())).design

    def outlook(
        self, design: Design, compared: Sequence[tuple[int, int]], margin: float
    ) -> Outlook:
        """What a comparison of that size can show of each pair.

        Args:
            design: the size.
            compared: the pairs that are compared, by numbers of methods, yardsticks included.
            margin: of practical equivalence.
        """
        tail = tail_of(compared)
        pairs = [
            pair_power(*pair, spread, design, tail, margin, self.most)
            for pair, spread in self.spreads.items()
        ]
        is_bound = bool(self.run) and self.design.repeats * self.design.seeds == 1
        return Outlook(tuple(pairs), design, self.measure, self.unit, margin, is_bound)


def tail_of(compared: Sequence[tuple[int, int]]) -> float:
    """One-sided p-value below which a difference is significant if these pairs are compared.

    Each two methods are taken to be equally correlated, so that two differences have a correlation
    of .5 or -.5 if they have a method in common and of 0 if not.

    Args:
        compared: pairs of methods, by their numbers.
    """
    pairs = np.array(compared)
    contrasts = np.zeros((len(pairs), pairs.max() + 1))
    rows = np.arange(len(pairs))
    contrasts[rows, pairs[:, 0]], contrasts[rows, pairs[:, 1]] = 1, -1
    correlation = contrasts @ contrasts.T / 2
    return float(stats.norm.sf(critical_value(correlation, SIGNIFICANCE)))
