"""How often the interval of a class-wise AUC holds the truth when few patients have the class.

Where no wrong ranking happened to be drawn, the bootstrap cannot know of any: intervals of rare
classes are too narrow. That is why a report gives none below a number of patients.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from mil_bench.benchmarks.statistics.cohort import Cohort

from mil_bench import seeds
from mil_bench.evaluation.bootstrap import bootstrap
from mil_bench.evaluation.metrics import Measure
from mil_bench.hierarchy import LabelHierarchy

BEARERS = (3, 6, 12, 20, 40)
"""Patients with the class."""
_OTHERS = 150  # patients without it
_SLIDES = 2  # of every patient
_SIGNAL = 1.4
TRUTH = NormalDist().cdf(_SIGNAL)
"""The true AUC: logits differ by twice the signal, and by noise of twice the variance 1 on either side."""
_CLASSES = LabelHierarchy.flat(("common", "rare"))
_FIGURE = Measure("fine", "auc", "rare")
_DRAWS = 500


def intervals(repeat: int) -> np.ndarray:
    """Intervals of one simulated test set for each number of patients ``[BEARERS, (low, high)]``, limits aside."""
    rng, found = seeds.generator("rare", repeat), []
    for bearers in BEARERS:
        main = np.repeat([1, 0], [bearers, _OTHERS])
        cohort = Cohort(np.repeat(np.arange(len(main)), _SLIDES), np.repeat(main, _SLIDES), main)
        logits = _SIGNAL * np.eye(2)[cohort.label] + cohort.noise(rng, 2)
        predictions = cohort.predictions(np.arange(len(cohort.label)), logits)
        drawn = bootstrap({"m": [predictions]}, _CLASSES, "patient", replicates=_DRAWS)
        interval = drawn.interval(drawn.pooled.values["m"][_FIGURE])
        found.append((interval.low, interval.high))
    return np.array(found)
