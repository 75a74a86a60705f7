"""How often two methods that are equal by construction are called different.

Each of the two sees features (or scores) of its own, drawn from the same distribution, so neither
is better, yet their differences are alike in folds that share test slides, patients or training
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
_WIDTH = 16  # features a method sees
_LEFT_OUT = 4  # of them, drawn anew for each training: what an initialisation does to a network
_DRAWS = 400  # of the bootstrap


@dataclass(frozen=True)
class Scenario:
    """How folds are made, and what stands in for a method.

    Args:
        name: for the table.
        folds: makes the folds of a cohort.
        trained: nearest class mean, trained on every fold; else the same scores in every fold.
        left_out: features that a training leaves out by chance.
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
    """P values of one simulated benchmark ``[TESTED, TESTS]``, not a number where a test cannot be made."""
    rng = seeds.generator("false alarms", scenario.name, repeat)
    cohort = Cohort.drawn(rng)
    folds = scenario.folds(rng, cohort)
    centres = 0.45 * rng.standard_normal((len(COUNTS), _WIDTH))
    trials = {name: _trials(scenario, cohort, folds, centres, rng) for name in ("a", "b")}
    sizes = tuple((len(train), len(test)) for train, test in folds)
    evidence = Evidence(trials, CLASSES, sizes, 1, "patient", replicates=_DRAWS)
    return [_tests(evidence, figure) for figure in TESTED]


def _trials(
    scenario: Scenario, cohort: Cohort, folds: Folds, centres: np.ndarray, rng: np.random.Generator
) -> list[TrainedFold]:
    """One method on all folds, with features or scores of its own."""
    features = centres[cohort.label] + cohort.noise(rng, _WIDTH)
    fixed = cohort.noisy_logits(rng)
    trials = []
    for k, (train, test) in enumerate(folds):
        logits = fixed[test]
        if scenario.trained:
            seen = features[:, rng.permutation(_WIDTH)[scenario.left_out :]]
            means = np.stack(
                [seen[train][cohort.label[train] == c].mean(0) for c in range(len(COUNTS))]
            )
            logits = -((seen[test][:, None] - means) ** 2).sum(2) / 2
        trials.append(TrainedFold(0, k, "", cohort.predictions(test, logits)))
    return trials


def _tests(evidence: Evidence, figure: Measure) -> list[float]:
    differences = evidence.by_fold("a", figure) - evidence.by_fold("b", figure)
    by_folds = [float("nan")] * 2
    if len(differences) > 1 and not np.isnan(differences).any():
        by_folds = [corrected_t_test(differences, overlap).p for overlap in (0.0, evidence.overlap)]
    by_patients = p_value(evidence.bootstrap.fold_mean.difference("a", "b", figure))
    return [*by_folds, by_patients, verdicts(evidence, figure)[0].p]
