"""How often the interval of a class-wise AUC covers the true value if few patients have the class.

The bootstrap can only repeat what the test set contains: if the few patients happen to be ranked
correctly, the interval is too narrow. Therefore the report gives no interval for such classes.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from mil_bench.benchmarks.statistics.cohort import Cohort

from mil_bench import seeds
from mil_bench.evaluation.bootstrap import bootstrap
from mil_bench.evaluation.metrics import Measure
from mil_bench.hierarchy import LabelHierarchy

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
