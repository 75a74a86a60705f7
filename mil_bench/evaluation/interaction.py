"""Whether the differences between methods depend on the encoder of the features, as numbers.

Methods are trained on the features of several encoders, on the same slides and folds. A contrast is
the difference of two methods with one encoder minus their difference with another. It is tested
like a difference of two methods (``evaluation.comparison``): the draws of patients are the same for
all encoders, so contrasts are paired. All contrasts are tested at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mil_bench.evaluation.comparison import PatientSpread, compared
from mil_bench.evaluation.statistics import SIGNIFICANCE
from mil_bench.evaluation.verdicts import FEWEST_FOLDS
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Evidence

MOST_CONTRASTS = 400
"""More are not tested: their joint distribution takes minutes."""
FEWEST_RANKED = 3
"""Fewest methods for a rank correlation."""


@dataclass(frozen=True)
class Contrast:
    """How much a difference of two methods changes from one encoder to another.

    Args:
        first: a method.
        second: another method.
        one: an encoder.
        other: another encoder.
        differences: first minus second with each of the two encoders, mean over folds.
        change: the first of these differences minus the second.
        low: lower end of the 95 % interval of the change that holds for all contrasts at once.
        high: upper end.
        adjusted: p-value adjusted for all contrasts.
    """

    first: str
    second: str
    one: str
    other: str
    differences: tuple[float, float]
    change: float
    low: float
    high: float
    adjusted: float

    @property
    def reversed(self) -> Contrast:
        """The same with the methods exchanged."""
        first, second = self.differences
        return replace(
            self,
            first=self.second,
            second=self.first,
            differences=(-first, -second),
            change=-self.change,
            low=-self.high,
            high=-self.low,
        )

    @property
    def is_shown(self) -> bool:
        """Whether the difference depends on the encoder."""
        return self.adjusted < SIGNIFICANCE


@dataclass(frozen=True)
class RankAgreement:
    """How alike two encoders rank the methods.

    Args:
        one: an encoder.
        other: another encoder.
        kendall: Kendall's tau-b of the methods' means, not a number if all means are equal.
        spearman: Spearman's rho.
    """

    one: str
    other: str
    kendall: float
    spearman: float


def contrasts(
    evidences: Mapping[str, Evidence], methods: Sequence[str], measure: Measure
) -> list[Contrast] | str:
    """All contrasts of pairs of methods and pairs of encoders, or why there are none.

    Args:
        evidences: encoder to what was measured with its features, on the same slides and folds.
        methods: methods that are complete with every encoder.
        measure: what is compared.
    """
    keys = [
        (*pair, *encoders)
        for pair in combinations(methods, 2)
        for encoders in combinations(evidences, 2)
    ]
    first = next(iter(evidences.values()))
    if fault := _fault(evidences, methods, measure, len(keys)):
        return fault
    values = {
        (encoder, method): evidence.contributions(method, measure)
        for encoder, evidence in evidences.items()
        for method in methods
    }
    differences = {
        (a, b, e): values[e, a] - values[e, b]
        for a, b in combinations(methods, 2)
        for e in evidences
    }
    by_fold = np.stack([differences[a, b, e] - differences[a, b, f] for a, b, e, f in keys])
    patients = _patients(evidences, keys, measure)
    if patients is None and len(first.sizes) < FEWEST_FOLDS:
        return "there are too few patients to draw from and too few folds"
    tests = compared(by_fold[:, None], first.overlap, patients)
    return [
        Contrast(
            a,
            b,
            e,
            f,
            (float(differences[a, b, e].mean()), float(differences[a, b, f].mean())),
            float(by_fold[i].mean()),
            float(tests.joint_low[i]),
            float(tests.joint_high[i]),
            float(tests.adjusted[i]),
        )
        for i, (a, b, e, f) in enumerate(keys)
    ]


def _fault(
    evidences: Mapping[str, Evidence], methods: Sequence[str], measure: Measure, count: int
) -> str:
    """Why there can be no contrasts, "" if there can."""
    folds = len(next(iter(evidences.values())).sizes)
    if len(methods) < 2:
        return f"{plural(len(methods), 'method')} with all trainings, at least 2 are needed"
    if count > MOST_CONTRASTS:
        return f"{count:,} contrasts are too many, at most {MOST_CONTRASTS} are tested"
    if 1 < folds < FEWEST_FOLDS:
        return f"only {folds} folds, {FEWEST_FOLDS} are needed"
    undefined = [
        f"{method} with {encoder}"
        for encoder, evidence in evidences.items()
        for method in methods
        if np.isnan(evidence.contributions(method, measure)).any()
    ]
    return f"{measure.words} is undefined for {', '.join(undefined)}" if undefined else ""


def _patients(
    evidences: Mapping[str, Evidence], keys: Sequence[tuple[str, str, str, str]], measure: Measure
) -> PatientSpread | None:
    """How the contrasts vary with the patients, None if there are too few to draw from."""
    drawn = {encoder: evidence.bootstrap for encoder, evidence in evidences.items()}
    draws = np.stack(
        [
            drawn[e].fold_mean.difference(a, b, measure)
            - drawn[f].fold_mean.difference(a, b, measure)
            for a, b, e, f in keys
        ]
    )
    first = next(iter(drawn.values()))
    if any(first.fault(values, measure) for values in draws):
        return None
    return PatientSpread.of_draws(draws, first.units)


def rank_agreement(means: Mapping[str, Sequence[float]]) -> list[RankAgreement]:
    """Rank correlations of every pair of encoders.

    Args:
        means: encoder to the methods' means, in one order; at least ``FEWEST_RANKED`` methods.
    """
    agreements = []
    for one, other in combinations(means, 2):
        pair = np.round(np.array([means[one], means[other]]), 12)  # ties but for rounding
        if np.isnan(pair).any() or not np.ptp(pair, axis=1).all():
            agreements.append(RankAgreement(one, other, float("nan"), float("nan")))
            continue
        kendall = float(stats.kendalltau(*pair).statistic)
        spearman = float(stats.spearmanr(*pair).statistic)
        agreements.append(RankAgreement(one, other, kendall, spearman))
    return agreements
