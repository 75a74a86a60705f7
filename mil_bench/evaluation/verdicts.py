"""Which method is better: pairs of methods compared, as numbers.

Two methods are compared by their differences over folds, averaged over seeds within each fold; the
rule is that of ``evaluation.comparison``. There are three answers: one of the two is better, they
are practically equivalent (the difference is shown to be smaller than a margin), or it is
undecided. All pairs that are asked for are compared at once, and their p-values and intervals hold
for all of them. Unless asked otherwise these are all pairs, yardsticks included: comparing only
with the best method would choose the pairs by their outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from mil_bench import registry
from mil_bench.datasets.card import SLIDE
from mil_bench.evaluation.bootstrap import Bootstrap, bootstrap
from mil_bench.evaluation.comparison import PatientSpread, compared, contributions
from mil_bench.evaluation.main_metric import MAIN_MEASURE
from mil_bench.evaluation.metric import MARGIN
from mil_bench.evaluation.metrics import Measure, MetricValues, class_values
from mil_bench.evaluation.metrics import measure as measure_fold
from mil_bench.wording import without_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.hierarchy import LabelHierarchy

Answer = Literal["better", "equivalent", "undecided"]
"""What the numbers say of a pair; "better" means that its first method is."""
FEWEST_FOLDS = 3
"""With two folds the rule has never been tried; a single split is judged by its patients alone."""

_NO_SPREAD = (
    "the difference is the same in every fold, so a t-test across folds has no variance to work "
    "with"
)
_SAME = 1e-12  # what differs by less is equal but for rounding


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run measured.

    Args:
        trained: method to its trained folds, yardsticks included.
        hierarchy: the classes.
        sizes: number of training and of test slides (or patients, see ``unit``) of each fold.
        seeds: number of training seeds.
        group_name: what a group is ("patient"), "" if groups are unknown.
        repeats: how often the cross-validation was repeated; the folds of a repeat follow each
            other in ``sizes``.
        ordered: whether the order of the classes means something.
        replicates: bootstrap draws.
        margin: of practical equivalence, in the unit of the values; 0.01 is 1 point of a metric in
            percent.
        pairs: the pairs that were asked for before, None for all. Those with a method that is not
            complete are left out.
        main: what methods are to be compared on; see ``lacks_classes``.
        centres: slide to its centre, "" for an unknown one; empty if no centre is known.
        unit: what the predictions are of: "slide", or what a patient is called if labels belong to
            patients.
    """

    trained: Mapping[str, Sequence[TrainedFold]]
    hierarchy: LabelHierarchy
    sizes: tuple[tuple[int, int], ...]
    seeds: int
    group_name: str
    repeats: int = 1
    ordered: bool = False
    replicates: int = 10_000
    margin: float = MARGIN
    pairs: tuple[tuple[str, str], ...] | None = None
    main: Measure = MAIN_MEASURE
    centres: Mapping[str, str] = field(default_factory=dict)
    unit: str = SLIDE

    @property
    def complete(self) -> list[str]:
        """Methods with all their trainings; others are not compared."""
        return [
            name
            for name, folds in self.trained.items()
            if len(folds) == len(self.sizes) * self.seeds
        ]

    @property
    def contestants(self) -> list[str]:
        """Complete methods without yardsticks, which are compared with but never called best."""
        return [name for name in self.complete if name not in self.yardsticks]

    @property
    def yardsticks(self) -> list[str]:
        """Rows that see no image, imported ones included."""
        names = registry.yardsticks.names()
        return [row for row in self.trained if without_source(row) in names]

    @cached_property
    def measured(self) -> Mapping[str, Mapping[tuple[int, int], MetricValues]]:
        """Values of every training: method to (seed, fold) to values."""
        return {
            name: {
                (fold.seed, fold.fold): measure_fold(fold.predictions, self.hierarchy, self.ordered)
                for fold in folds
            }
            for name, folds in self.trained.items()
        }

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Complete methods on resampled patients."""
        predictions = {name: [t.predictions for t in self.trained[name]] for name in self.complete}
        return bootstrap(
            predictions, self.hierarchy, self.group_name, self.ordered, self.replicates
        )

    @property
    def overlap(self) -> float:
        """Number of test slides by number of training slides, mean over folds."""
        return float(np.mean([test / train for train, test in self.sizes]))

    def by_fold(self, method: str, measure: Measure) -> np.ndarray:
        """Mean over seeds in each fold ``[J]``, not a number if undefined."""
        values: list[list[float]] = [[] for _ in self.sizes]
        for (_, fold), of_training in self.measured[method].items():
            values[fold].append(of_training.values[measure])
        return np.array([np.mean(of_fold) for of_fold in values])

    def contributions(self, method: str, measure: Measure) -> np.ndarray:
        """What each fold contributes to the method's mean ``[J]``, see ``comparison``.

        Where folds lack a class, a macro mean takes each class's mean over the folds that have it.
        Not numbers if the mean is undefined.
        """
        if (method, measure) not in self._contributions:
            values = self.by_fold(method, measure)
            if np.isnan(values).any() and measure.is_macro:
                of_classes = self._by_class(method, measure)
                values = values if of_classes is None else contributions(of_classes)
            self._contributions[method, measure] = values
        return self._contributions[method, measure]

    def differences(self, pairs: Sequence[tuple[str, str]], measure: Measure) -> np.ndarray:
        """Contributions of the first minus those of the second ``[P, repeats, folds]``."""
        values = [
            self.contributions(first, measure) - self.contributions(second, measure)
            for first, second in pairs
        ]
        return np.stack(values).reshape(len(pairs), self.repeats, -1)

    @cached_property
    def _contributions(self) -> dict[tuple[str, Measure], np.ndarray]:
        return {}

    def _by_class(self, method: str, measure: Measure) -> np.ndarray | None:
        """Values of every fold and class, mean over seeds ``[J, C]``; see ``class_values``."""
        values: list[list[np.ndarray]] = [[] for _ in self.sizes]
        for training in self.trained[method]:
            found = class_values(training.predictions, self.hierarchy, measure, self.ordered)
            if found is None:
                return None
            values[training.fold].append(found)
        return np.array([np.mean(of_fold, axis=0) for of_fold in values])

    def having(self, measure: Measure) -> list[str]:
        """The complete methods that have the measure, be it undefined in some folds."""
        return [
            method
            for method in self.complete
            if all(measure in values.values for values in self.measured[method].values())
        ]

    def lacks_classes(self, measure: Measure) -> bool:
        """Whether a macro mean is undefined since more than half of the folds lack some class.

        It depends on the labels of the test slides alone.
        """
        return any(
            np.isnan(self.contributions(method, measure)).any()
            and self._by_class(method, measure) is not None
            for method in (self.having(measure) if measure.is_macro else ())
        )

    def undefined(self, method: str, measure: Measure) -> list[str]:
        """Why a measure is undefined, one entry per fold."""
        reasons = {
            fold: values.reasons[measure]
            for (_, fold), values in self.measured[method].items()
            if measure in values.reasons
        }
        return [f"fold {fold}: {reason}" for fold, reason in sorted(reasons.items())]


@dataclass(frozen=True)
class Verdict:
    """Two methods compared on one measure; ``report.sentences`` puts it into words.

    Args:
        measure: what was compared.
        first: the method with the better mean.
        second: the other.
        difference: first minus second, a mean over folds.
        answer: whether the first is better, both are practically equivalent, or neither is shown.
            A better method can be better by less than the margin, see ``is_small``.
        low: lower end of the 95 % interval of the difference that holds for all pairs at once;
            equivalence means that it lies inside the margin.
        high: upper end.
        margin: of practical equivalence.
        error: standard error of the difference.
        degrees_of_freedom: of its t-distribution.
        p: two-sided p-value, not adjusted.
        adjusted: p-value adjusted for all pairs that were compared.
        pairs: number of pairs that were compared.
        folds: number of folds, in all repeats.
        unit: what the bootstrap draws ("patient").
        is_grouped: whether patients are known.
        reason: why there is no test, "" if there is one; then the numbers are not numbers, but the
            difference is one if it is the same in every fold.
        no_bootstrap: why only the folds decide, "" if patients decide, too.
    """

    measure: Measure
    first: str
    second: str
    difference: float = float("nan")
    answer: Answer = "undecided"
    low: float = float("nan")
    high: float = float("nan")
    margin: float = MARGIN
    error: float = float("nan")
    degrees_of_freedom: float = float("nan")
    p: float = float("nan")
    adjusted: float = float("nan")
    pairs: int = 0
    folds: int = 0
    unit: str = "patient"
    is_grouped: bool = True
    reason: str = ""
    no_bootstrap: str = ""

    @property
    def is_small(self) -> bool:
        """Whether the interval lies inside the margin."""
        return self.low > -self.margin and self.high < self.margin

    @property
    def is_the_same(self) -> bool:
        """Whether both methods have the same value in every fold, with any test patients."""
        return self.difference == self.low == self.high == 0

    def other(self, method: str) -> str:
        """The method that ``method`` is compared with."""
        return self.second if self.first == method else self.first


def verdicts(evidence: Evidence, measure: Measure) -> list[Verdict]:
    """The pairs of complete methods that have the measure, in the order of the methods."""
    methods = evidence.having(measure)
    asked = combinations(methods, 2) if evidence.pairs is None else evidence.pairs
    found = [
        _untested(evidence, measure, *pair) for pair in asked if all(m in methods for m in pair)
    ]
    tested = [i for i, verdict in enumerate(found) if not verdict.reason]
    if tested:
        answers = _tested(evidence, measure, [found[i] for i in tested])
        for i, verdict in zip(tested, answers, strict=True):
            found[i] = verdict
    return found


def _untested(evidence: Evidence, measure: Measure, first: str, second: str) -> Verdict:
    """The pair with its difference, the better method first; or why it cannot be compared."""
    folds = len(evidence.sizes)
    verdict = Verdict(
        measure,
        first,
        second,
        margin=evidence.margin,
        folds=folds,
        unit=evidence.bootstrap.unit,
        is_grouped=bool(evidence.group_name),
    )
    values = {method: evidence.contributions(method, measure) for method in (first, second)}
    for method, of_method in values.items():
        if np.isnan(of_method).any():
            where = "; ".join(evidence.undefined(method, measure))
            return replace(verdict, reason=f"undefined in {where}")
    if not measure.metric.resampled:
        return replace(verdict, reason=f"{measure.metric.words} cannot be resampled without bias")
    if 1 < folds // evidence.repeats < FEWEST_FOLDS:
        few = f"only {folds // evidence.repeats} folds{' per repeat' * (evidence.repeats > 1)}"
        return replace(verdict, reason=f"{few}, {FEWEST_FOLDS} are needed")
    difference = float((values[first] - values[second]).mean())
    if difference * measure.metric.sign < 0:
        first, second, difference = second, first, -difference
    return replace(verdict, first=first, second=second, difference=difference)


def _tested(evidence: Evidence, measure: Measure, pairs: Sequence[Verdict]) -> list[Verdict]:
    """All pairs tested together."""
    drawn, named = evidence.bootstrap, [(v.first, v.second) for v in pairs]
    draws = np.stack([drawn.fold_mean.difference(*pair, measure) for pair in named])
    no_bootstrap = next(filter(None, (drawn.fault(values, measure) for values in draws)), "")
    if no_bootstrap and len(evidence.sizes) == 1:
        reason = f"one split, and {no_bootstrap}"
        return [replace(verdict, difference=float("nan"), reason=reason) for verdict in pairs]
    patients = None if no_bootstrap else PatientSpread.of_draws(draws, drawn.units)
    tests = compared(evidence.differences(named, measure), evidence.overlap, patients)
    equivalent = tests.equivalent(pairs[0].margin)
    count = int(np.count_nonzero(~np.isnan(tests.p)))
    answered = []
    for i, verdict in enumerate(pairs):
        if np.isnan(tests.p[i]):
            reason = f"{_NO_SPREAD}, and {no_bootstrap}"
            answered.append(replace(verdict, reason=reason))
            continue
        tested = replace(
            verdict,
            difference=0.0 if abs(verdict.difference) < _SAME else verdict.difference,
            low=float(tests.joint_low[i]),
            high=float(tests.joint_high[i]),
            error=float(tests.error[i]),
            degrees_of_freedom=float(tests.degrees_of_freedom[i]),
            p=float(tests.p[i]),
            adjusted=float(tests.adjusted[i]),
            pairs=count,
            no_bootstrap=no_bootstrap,
        )
        answer: Answer = "equivalent" if equivalent[i] else "undecided"
        answered.append(replace(tested, answer="better" if tests.better[i] else answer))
    return answered
