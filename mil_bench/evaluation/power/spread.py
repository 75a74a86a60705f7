"""What moves the difference of two methods, and how that changes with the size of a comparison.

The standard error is that of ``comparison``. Under another number of folds, repeats, seeds or
patients its parts change differently:

- The variance over patients falls with their number. With several predictions per patient (repeats,
  seeds) a part of it is chance of training, which falls with their number; the rest lasts.
- The variance between trainings falls with folds, repeats and seeds.
- The allowance for overlapping training sets is proportional to the variance over patients and to
  the ratio of tested to training slides, which falls with the number of folds.

Which part falls with repeats or seeds is measured by comparing all of them with each one alone. A
run with a single training per patient cannot show it; then all of the variance over patients lasts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.bootstrap import bootstrap
from mil_bench.evaluation.comparison import of_folds, of_one_split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.verdicts import Evidence

_DRAWS = 1000  # of the bootstrap of a single repeat or seed
_TINY = 1e-300  # avoids 0 / 0


@dataclass(frozen=True)
class Design:
    """The size of a comparison.

    Args:
        folds: of a repeat.
        repeats: of the cross-validation.
        seeds: trainings per fold.
        patients: that are tested.
    """

    folds: int
    repeats: int
    seeds: int
    patients: int


@dataclass(frozen=True)
class Spread:
    """What moves the difference of two methods, as a run shows it; variances of the mean.

    Args:
        design: of the run.
        overlap: number of test slides divided by number of training slides, mean over folds.
        lasting: variance over patients that no number of repeats and seeds removes.
        of_repeats: what is added to it with a single repeat.
        of_seeds: what is added to it with a single seed in a single repeat.
        between: variance of a fold's difference that patients do not explain; may be below 0 by
            chance.
        between_seeds: the part of it that is added with a single seed.
    """

    design: Design
    overlap: float
    lasting: float
    of_repeats: float = 0.0
    of_seeds: float = 0.0
    between: float = 0.0
    between_seeds: float = 0.0

    def variance(self, design: Design) -> float:
        """Variance of the mean difference by the rule of ``comparison`` with another design."""
        of_patients = self.over_patients(design)
        if design.folds == 1:
            return float(of_one_split(of_patients))
        seeds = self.between_seeds * (1 / design.seeds - 1 / self.design.seeds)
        one_repeat = self.over_patients(replace(design, repeats=1))
        spread = one_repeat + (self.between + seeds) / design.folds
        overlap = self.overlap * (self.design.folds - 1) / (design.folds - 1)
        return float(of_folds(of_patients, spread, design.repeats, design.folds, overlap))

    def least_variance(self, design: Design) -> float:
        """What remains of it with any number of repeats and seeds."""
        alone = replace(self, of_repeats=0.0, of_seeds=0.0, between=0.0, between_seeds=0.0)
        return alone.variance(design)

    def over_patients(self, design: Design) -> np.ndarray:
        """The part of the variance that is over patients, without allowance and doubling."""
        of_training = (self.of_repeats + self.of_seeds / design.seeds) / design.repeats
        share = self.design.patients / design.patients
        return np.asarray((self.lasting + of_training) * share)


def design_of(evidence: Evidence) -> Design:
    """The size of a run."""
    folds = len(evidence.sizes) // evidence.repeats
    return Design(folds, evidence.repeats, evidence.seeds, evidence.bootstrap.units)


def spreads(evidence: Evidence, measure: Measure, pairs: Sequence[tuple[str, str]]) -> list[Spread]:
    """What moves the differences of some pairs of complete methods; patients must be drawn."""
    design = design_of(evidence)
    lasting, of_repeats, of_seeds = _over_patients(evidence, measure, pairs)
    between = between_seeds = np.zeros(len(pairs))
    if design.folds > 1:
        one_repeat = lasting + of_repeats + of_seeds / design.seeds
        spread = evidence.differences(pairs, measure).var(2, ddof=1).mean(1)
        between = spread - design.folds * one_repeat
        over_seeds = _over_seeds(evidence, measure, pairs)
        between_seeds = np.maximum(0, over_seeds - design.folds * of_seeds)
    parts = (lasting, of_repeats, of_seeds, between, between_seeds)
    return [
        Spread(design, evidence.overlap, *map(float, of_pair))
        for of_pair in zip(*parts, strict=True)
    ]


def _over_patients(
    evidence: Evidence, measure: Measure, pairs: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the variance over patients, what lasts, and what a single repeat and seed add ``[P]``."""
    design, drawn = design_of(evidence), evidence.bootstrap.fold_mean
    whole = np.array([np.nanvar(drawn.difference(*pair, measure)[1:], ddof=1) for pair in pairs])
    of_seeds, of_repeats = np.zeros((2, len(pairs)))
    if design.seeds > 1:
        more = _more_alone(evidence, measure, pairs, lambda fold: fold.seed)
        of_seeds = design.repeats * more / (1 - 1 / design.seeds)
    if design.repeats > 1:
        more = _more_alone(evidence, measure, pairs, lambda fold: fold.fold // design.folds)
        with_seeds = more / (1 - 1 / design.repeats)
        of_repeats = np.maximum(0, with_seeds - of_seeds / design.seeds)
    of_training = (of_repeats + of_seeds / design.seeds) / design.repeats
    # Estimated from fewer draws, it can be more than the whole.
    share = whole / np.maximum(_TINY, np.maximum(whole, of_training))
    return whole - share * of_training, share * of_repeats, share * of_seeds


def most_folds(evidence: Evidence) -> int:
    """The largest number of folds of a cross-validation of the run's slides; 0 if it is none.

    Every class must be in as many patients as there are folds.
    """
    folds = evidence.trained[evidence.complete[0]]
    tested = [t.predictions for t in folds if t.seed == folds[0].seed]
    slides = np.concatenate([p.slides for p in tested])
    if len(tested) == 1 or len(slides) != evidence.repeats * len(set(slides)):
        return 0
    patients: dict[int, set[str]] = {}
    for p in tested:
        for label, group, slide in zip(p.labels, p.groups, p.slides, strict=True):
            patients.setdefault(int(label), set()).add(str(group or slide))
    return max(len(tested) // evidence.repeats, min(map(len, patients.values())))


def _more_alone(
    evidence: Evidence,
    measure: Measure,
    pairs: Sequence[tuple[str, str]],
    part_of: Callable[[TrainedFold], int],
) -> np.ndarray:
    """How much larger the variance over patients is with one part of the trainings alone ``[P]``.

    A part is a seed or a repeat; the mean over all parts, at least 0. All are drawn with the same
    patients.
    """
    methods = dict.fromkeys(method for pair in pairs for method in pair)
    every = evidence.bootstrap.fold_mean
    whole = [every.difference(*pair, measure)[1 : 1 + _DRAWS] for pair in pairs]
    parts = {part_of(fold) for fold in evidence.trained[next(iter(methods))]}
    more = np.zeros(len(pairs))
    for part in parts:
        predictions = {
            method: [t.predictions for t in evidence.trained[method] if part_of(t) == part]
            for method in methods
        }
        about = evidence.hierarchy, evidence.group_name, evidence.ordered
        alone = bootstrap(predictions, *about, min(_DRAWS, evidence.replicates)).fold_mean
        for i, pair in enumerate(pairs):
            both = np.stack([alone.difference(*pair, measure)[1:], whole[i]])
            both = both[:, ~np.isnan(both).any(0)]
            more[i] += (both[0].var(ddof=1) - both[1].var(ddof=1)) / len(parts)
    return np.maximum(0, more)


def _over_seeds(
    evidence: Evidence, measure: Measure, pairs: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Variance of a fold's difference over seeds, mean over folds ``[P]``; 0 with one seed."""
    if evidence.seeds == 1:
        return np.zeros(len(pairs))
    variances = []
    for first, second in pairs:
        of_fold: dict[int, list[float]] = {}
        for (seed, fold), values in evidence.measured[first].items():
            other = evidence.measured[second][seed, fold].values[measure]
            of_fold.setdefault(fold, []).append(values.values[measure] - other)
        variances.append(_mean(float(np.var(values, ddof=1)) for values in of_fold.values()))
    return np.array(variances)


def _mean(values: Iterable[float]) -> float:
    """Mean of those that are numbers; 0 if none is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else 0.0
