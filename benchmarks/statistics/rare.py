"""How often intervals cover the true value if few patients have some class.

The bootstrap can only repeat what the test set contains: if the few patients happen to be ranked
correctly, the interval is too narrow. Therefore the report gives no interval for the AUC of such a
class, and none for a mean over classes if one of them is rarer still.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.statistics.cohort import CLASSES, Cohort

from mil_bench import seeds
from mil_bench.evaluation.bootstrap import bootstrap
from mil_bench.evaluation.metrics import Measure, ModelScorer, total, values_of
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from mil_bench.evaluation.predictions import Predictions

CLASS_PATIENTS = (3, 6, 12, 20, 40)
"""Numbers of patients with the class."""
_OTHERS = 150  # patients without it
_SLIDES = 2  # per patient
_SIGNAL = 1.4
TRUTH = NormalDist().cdf(_SIGNAL)
"""The true AUC: log-odds differ by twice the signal, with noise of variance 2 on either side."""
_CLASSES = LabelHierarchy.flat(("common", "rare"))
_MEASURE = Measure("fine", "auc", "rare")
_DRAWS = 500

MACRO_PATIENTS = (3, 5, 7, 10, 15, 20, 40)
"""Numbers of patients with the rare one of seven classes."""
MACRO = tuple(
    Measure("fine", key) for key in ("macro_auc", "balanced_accuracy", "macro_f1", "specificity")
)
_OF_OTHER_CLASSES = 25  # patients of each of the six others
_MACRO_SIGNAL = 1.8
_POPULATION = 20  # cohorts from which a true value is computed
_TIMES = 10  # patients of such a cohort for each one of a test set


def intervals(repeat: int) -> np.ndarray:
    """Intervals of simulated test sets ``[CLASS_PATIENTS, (low, high)]``, however few patients."""
    rng, ends = seeds.generator("rare", repeat), []
    for patients in CLASS_PATIENTS:
        main = np.repeat([1, 0], [patients, _OTHERS])
        cohort = Cohort(np.repeat(np.arange(len(main)), _SLIDES), np.repeat(main, _SLIDES), main)
        logits = _SIGNAL * np.eye(2)[cohort.label] + cohort.noise(rng, 2)
        predictions = cohort.predictions(np.arange(len(cohort.label)), logits)
        resampled = bootstrap({"m": [predictions]}, _CLASSES, "patient", replicates=_DRAWS)
        interval = resampled.interval(resampled.pooled.values["m"][_MEASURE])
        ends.append((interval.low, interval.high))
    return np.array(ends)


def macro_intervals(repeat: int) -> np.ndarray:
    """Intervals of means over classes ``[MACRO_PATIENTS, MACRO, (low, high)]``."""
    rng, ends = seeds.generator("rare, macro", repeat), []
    for patients in MACRO_PATIENTS:
        predictions = _seven_classes(rng, patients, _OF_OTHER_CLASSES)
        resampled = bootstrap({"m": [predictions]}, CLASSES, "patient", replicates=_DRAWS)
        # Without its measure, an interval is given however few patients there are.
        intervals = [resampled.interval(resampled.pooled.values["m"][m]) for m in MACRO]
        ends.append([(interval.low, interval.high) for interval in intervals])
    return np.array(ends)


def macro_truths() -> np.ndarray:
    """True values ``[MACRO_PATIENTS, MACRO]``."""
    truths = []
    for patients in MACRO_PATIENTS:
        rng, sums = seeds.generator("rare, macro, population", patients), []
        for _ in range(_POPULATION):
            predictions = _seven_classes(rng, _TIMES * patients, _TIMES * _OF_OTHER_CLASSES)
            once = np.ones((1, len(predictions.labels)))
            sums.append(ModelScorer(predictions, CLASSES).sums(once))
        values = values_of(total(sums), CLASSES)
        truths.append([values[measure][0] for measure in MACRO])
    return np.array(truths)


def _seven_classes(rng: np.random.Generator, rare: int, common: int) -> Predictions:
    """Predictions of one model for patients of a rare class and of six common ones."""
    main = np.repeat(np.arange(CLASSES.n_fine), [rare, *[common] * (CLASSES.n_fine - 1)])
    cohort = Cohort(np.repeat(np.arange(len(main)), _SLIDES), np.repeat(main, _SLIDES), main)
    signal = _MACRO_SIGNAL * np.eye(CLASSES.n_fine)[cohort.label]
    logits = signal + cohort.noise(rng, CLASSES.n_fine)
    return cohort.predictions(np.arange(len(cohort.label)), logits)
