"""How often intervals cover the true value.

There are ten fixed scorers, one per fold of patients. Their true metrics are computed from 40,000
slides each. The macro F1 of few slides is biased, so the true value of its mean over folds is
defined for folds of this size: it is the mean over all simulated benchmarks.
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
_POPULATION = 40_000  # slides from which a true value is computed
_PORTION = 2_000  # of these, slides that are ranked against each other at a time


def truths(simulated: np.ndarray) -> np.ndarray:
    """True values ``[KINDS, COVERED]``.

    Args:
        simulated: results of ``intervals``, one per simulated benchmark.
    """
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
    values_by_fold = [values_of(sums, CLASSES) for sums in (total(folds), *folds)]
    # One row for all folds pooled, then one per fold.
    values = np.array([[of_fold[measure][0] for measure in COVERED] for of_fold in values_by_fold])
    true = np.stack([values[0], values[1:].mean(0)])
    f1 = COVERED.index(Measure("fine", "macro_f1"))
    true[1, f1] = simulated[:, 0, 1, f1, 0].mean()
    return true


def intervals(repeat: int) -> np.ndarray:
    """Intervals of one simulated benchmark ``[UNITS, KINDS, COVERED, (value, low, high)]``."""
    rng = seeds.generator("coverage", repeat)
    cohort = Cohort.drawn(rng)
    logits = cohort.noisy_logits(rng)
    tests = [test for _, test in patient_kfold(rng, cohort)]
    folds = [cohort.predictions(test, logits[test] + _leaning(k)) for k, test in enumerate(tests)]
    by_unit = []
    for unit in ("patient", ""):
        resampled = bootstrap({"m": folds}, CLASSES, unit, replicates=_DRAWS)
        by_kind = []
        for kind in (resampled.pooled, resampled.fold_mean):
            values = [kind.values["m"][measure] for measure in COVERED]
            ends = [resampled.interval(of_measure) for of_measure in values]
            by_kind.append([(v[0], e.low, e.high) for v, e in zip(values, ends, strict=True)])
        by_unit.append(by_kind)
    return np.array(by_unit)


def _leaning(fold: int) -> np.ndarray:
    """What the scorer of a fold adds to the logits, so that scorers prefer different classes."""
    return 0.4 * seeds.generator("leaning", fold).standard_normal(len(COUNTS))
