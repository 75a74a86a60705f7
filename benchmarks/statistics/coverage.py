"""How often intervals hold the truth.

Ten fixed scorers, one a fold by patient, whose true figures are known from 40,000 slides each. The
macro F1 of few slides is biased, so there is no true mean over folds of it but the one of folds of
that size: its mean over all simulated benchmarks.
"""

from __future__ import annotations

import numpy as np
from mil_bench.benchmarks.statistics.cohort import (
    CLASSES,
    COUNTS,
    FOLDS,
    PATIENTS,
    SLIDES,
    Cohort,
    patient_kfold,
)

from mil_bench import seeds
from mil_bench.evaluation.bootstrap import bootstrap
from mil_bench.evaluation.metrics import Measure, ModelScorer, total, values_of

COVERED = (
    *(
        Measure("fine", key)
        for key in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "nll")
    ),
    Measure("fine", "auc", "FEA"),
)
KINDS = ("pooled", "mean over folds")
UNITS = ("patients", "slides")
_DRAWS = 500
_POPULATION, _PORTION = (
    40_000,
    2_000,
)  # slides behind a true figure; slides compared with each other at a time


def truths(found: np.ndarray) -> np.ndarray:
    """True figures ``[KINDS, COVERED]``; ``found`` is what ``intervals`` gave, one entry a benchmark."""
    folds = []
    for k in range(FOLDS):
        rng, sums = seeds.generator("population", k), []
        for _ in range(_POPULATION // _PORTION):
            cohort = Cohort.drawn(rng, _PORTION * PATIENTS // SLIDES, _PORTION)
            predictions = cohort.predictions(
                np.arange(_PORTION), cohort.noisy_logits(rng) + _leaning(k)
            )
            sums.append(ModelScorer(predictions, CLASSES).sums(np.ones((1, _PORTION))))
        folds.append(total(sums))
    each = [values_of(sums, CLASSES) for sums in (total(folds), *folds)]
    values = np.array(
        [[found[figure][0] for figure in COVERED] for found in each]
    )  # [1 + folds, figures]
    true = np.stack([values[0], values[1:].mean(0)])
    f1 = COVERED.index(Measure("fine", "macro_f1"))
    true[1, f1] = found[:, 0, 1, f1, 0].mean()
    return true


def intervals(repeat: int) -> np.ndarray:
    """Intervals of one simulated benchmark ``[UNITS, KINDS, COVERED, (figure, low, high)]``."""
    rng = seeds.generator("coverage", repeat)
    cohort = Cohort.drawn(rng)
    logits = cohort.noisy_logits(rng)
    tests = [test for _, test in patient_kfold(rng, cohort)]
    folds = [cohort.predictions(test, logits[test] + _leaning(k)) for k, test in enumerate(tests)]
    found = []
    for unit in ("patient", ""):
        drawn = bootstrap({"m": folds}, CLASSES, unit, replicates=_DRAWS)
        kinds = [
            [kind.values["m"][figure] for figure in COVERED]
            for kind in (drawn.pooled, drawn.fold_mean)
        ]
        ends = [[(values[0], drawn.interval(values)) for values in kind] for kind in kinds]
        found.append([[(value, end.low, end.high) for value, end in kind] for kind in ends])
    return np.array(found)


def _leaning(fold: int) -> np.ndarray:
    """What the scorer of a fold adds to the logits: it leans towards some classes."""
    return 0.4 * seeds.generator("leaning", fold).standard_normal(len(COUNTS))
