"""How often two methods that are equal by construction are called significantly different.

Each of the two has its own features (or scores) from the same distribution, so neither is better.
Yet their differences are correlated between folds that share test slides, patients or training
slides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.statistics.cohort import (
    CLASSES,
    COUNTS,
    Cohort,
    Folds,
    monte_carlo,
    one_split,
    patient_kfold,
)

from mil_bench import seeds
from mil_bench.evaluation.bootstrap import p_value
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.evaluation.statistics import corrected_t_test
from mil_bench.evaluation.verdicts import Evidence, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

TESTED = (Measure("fine", "accuracy"), Measure("fine", "macro_auc"))
TESTS = ("naive t-test", "corrected t-test", "patient bootstrap", "verdict")
_WIDTH = 16  # number of features of a method
# Of these, features that a training leaves out at random, as a random initialisation would vary it.
_LEFT_OUT = 4
_DRAWS = 400  # of the bootstrap


@dataclass(frozen=True)
class Scenario:
    """How folds are made, and what takes the place of a method.

    Args:
        name: in the table.
        folds: makes the folds of a cohort.
        trained: whether a nearest-class-mean classifier is trained in every fold; else the scores
            are the same in all folds.
        left_out: number of features that a training leaves out at random.
    """

    name: str
    folds: Callable[[np.random.Generator, Cohort], Folds]
    trained: bool
    left_out: int = 0


SCENARIOS = (
    Scenario("ten 80/10/10 splits by slide, trained", monte_carlo, True, _LEFT_OUT),
    Scenario("the same, no chance in training", monte_carlo, True),
    Scenario("the same, not trained at all", monte_carlo, False),
    Scenario("ten folds by patient, trained", patient_kfold, True, _LEFT_OUT),
    Scenario("one split by patient, not trained", one_split, False),
)


def p_values(scenario: Scenario, repeat: int) -> list[list[float]]:
    """P-values of one simulated benchmark ``[TESTED, TESTS]``; not a number without a test."""
    rng = seeds.generator("false alarms", scenario.name, repeat)
    cohort = Cohort.drawn(rng)
    folds = scenario.folds(rng, cohort)
    centres = 0.45 * rng.standard_normal((len(COUNTS), _WIDTH))
    methods = {name: _trained(scenario, cohort, folds, centres, rng) for name in ("a", "b")}
    sizes = tuple((len(train), len(test)) for train, test in folds)
    evidence = Evidence(methods, CLASSES, sizes, 1, "patient", replicates=_DRAWS)
    return [_tests(evidence, measure) for measure in TESTED]


def _trained(
    scenario: Scenario, cohort: Cohort, folds: Folds, centres: np.ndarray, rng: np.random.Generator
) -> list[TrainedFold]:
    """One method in all folds, with its own features or scores."""
    features = centres[cohort.label] + cohort.noise(rng, _WIDTH)
    fixed = cohort.noisy_logits(rng)
    trained = []
    for k, (train, test) in enumerate(folds):
        logits = fixed[test]
        if scenario.trained:
            seen = features[:, rng.permutation(_WIDTH)[scenario.left_out :]]
            means = np.stack(
                [seen[train][cohort.label[train] == c].mean(0) for c in range(len(COUNTS))]
            )
            logits = -((seen[test][:, None] - means) ** 2).sum(2) / 2
        trained.append(TrainedFold(0, k, "", cohort.predictions(test, logits)))
    return trained


def _tests(evidence: Evidence, measure: Measure) -> list[float]:
    differences = evidence.by_fold("a", measure) - evidence.by_fold("b", measure)
    by_folds = [float("nan")] * 2
    if len(differences) > 1 and not np.isnan(differences).any():
        by_folds = [corrected_t_test(differences, overlap).p for overlap in (0.0, evidence.overlap)]
    by_patients = p_value(evidence.bootstrap.fold_mean.difference("a", "b", measure))
    return [*by_folds, by_patients, verdicts(evidence, measure)[0].p]
