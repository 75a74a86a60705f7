"""One simulated benchmark: many methods with known true differences, trained on the same folds.

Every method is a nearest-class-mean classifier on features of its own: the centre of the slide's
class times the method's signal, plus noise. A part of the noise is the same for all methods, as
methods share the features of one patch encoder. The centres are the same in all benchmarks, so a
signal has one expected value of the measure.

The variance over patients comes from influence functions, which need no draws: the fold mean of a
measure is a ratio of sums weighted by patients, and its derivatives by these weights give the
variance of the bootstrap up to terms of second order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.statistics.cohort import COUNTS, PATIENTS, SLIDES, Cohort, Folds

from mil_bench import seeds
from mil_bench.evaluation.comparison import contributions

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURES = ("macro AUC", "accuracy")
WIDTH = 16
"""Features of a method."""
_CLASSES = len(COUNTS)
_CENTRE = 0.45  # standard deviation of the centres of the classes
_ABSENT = -30.0  # logit of a class that no training slide has


@dataclass(frozen=True)
class Scenario:
    """How the folds of a benchmark are made and how much chance is in training.

    Args:
        name: in the tables.
        folds: makes the folds of one repeat of the protocol.
        repeats: repeats of the protocol with other folds.
        left_out: features that a training leaves out at random, of ``WIDTH``, as a random
            initialisation would vary it.
        instability: standard deviation of what chance adds to a training's class means; features
            have a noise of 1.
        trained: whether the class means are estimated at all; else they are the true ones.
        correlation: of the noise of two methods.
        patients: number of patients.
        slides: number of slides.
        leaks: whether folds share test patients within a repeat.
    """

    name: str
    folds: Callable[[np.random.Generator, Cohort], Folds]
    repeats: int = 1
    left_out: int = 4
    instability: float = 0.0
    trained: bool = True
    correlation: float = 0.6
    patients: int = PATIENTS
    slides: int = SLIDES
    leaks: bool = False


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What M methods achieved, by measure.

    Args:
        contributions: of every training ``[MEASURES, M, repeats, folds]``; their mean is the fold
            mean of the measure, see ``comparison.contributions``.
        covariance: of the fold means over patients ``[MEASURES, M, M]``.
        patients: number of tested patients.
        incomplete: whether a fold lacks a class, so that its macro AUC is undefined.
        overlap: number of test slides by number of training slides, mean over folds.
    """

    contributions: np.ndarray
    covariance: np.ndarray
    patients: int
    incomplete: bool
    overlap: float


@cache
def _centres() -> np.ndarray:
    return _CENTRE * seeds.generator("centres").standard_normal((_CLASSES, WIDTH))


def simulated(
    scenario: Scenario, rng: np.random.Generator, signals: np.ndarray, noises: np.ndarray
) -> Benchmark:
    """One benchmark.

    Args:
        scenario: its folds.
        rng: chance.
        signals: of every method ``[M]``; 1 is that of an ordinary method.
        noises: number of each method's own noise ``[M]``; methods with the same number have the
            same noise and the same chance in training.
    """
    cohort = Cohort.drawn(rng, scenario.patients, scenario.slides)
    n, own = len(cohort.label), int(noises.max()) + 1
    shared, several = cohort.noise(rng, WIDTH), cohort.noise(rng, WIDTH * own)
    by_method = several.reshape(n, own, WIDTH).transpose(1, 0, 2)
    noise = np.sqrt(scenario.correlation) * shared + np.sqrt(1 - scenario.correlation) * by_method
    centres = signals[:, None, None] * _centres()  # [M, C, WIDTH]
    features = centres[:, cohort.label] + noise[noises]  # [M, n, WIDTH]
    present = np.eye(_CLASSES)[cohort.label]
    tests, favours, aucs, rights, overlaps = [], [], [], [], []
    for _ in range(scenario.repeats):
        for train, test in scenario.folds(rng, cohort):
            slides = present[train].sum(0)[:, None]  # [C, 1]
            means = centres
            if scenario.trained:
                means = present[train].T @ features[:, train] / np.maximum(slides, 1)
                chance = rng.standard_normal((own, _CLASSES, WIDTH))
                kept = rng.random((own, 1, WIDTH)).argsort(2) >= scenario.left_out
                means = (means + scenario.instability * chance[noises]) * kept[noises]
            probabilities = _predicted(features[:, test], means, slides[:, 0] > 0)
            favour, auc = _ranked(probabilities, present[test])
            tests.append(test)
            favours.append(favour)
            aucs.append(auc)
            rights.append(probabilities.argmax(2) == cohort.label[test])
            overlaps.append(len(test) / len(train))
    auc = np.stack(aucs, 1)  # [M, trainings, C]
    parts, influences = zip(
        _auc_parts(auc, favours, present, tests), _accuracy_parts(rights, tests, n), strict=True
    )
    first = np.searchsorted(cohort.patient, np.arange(scenario.patients))
    by_patient = np.stack([np.add.reduceat(of, first, axis=0) for of in influences])
    tested = np.unique(cohort.patient[np.concatenate(tests)])
    return Benchmark(
        np.stack(parts).reshape(len(MEASURES), len(signals), scenario.repeats, -1),
        by_patient.transpose(0, 2, 1) @ by_patient,
        len(tested),
        bool(np.isnan(auc).any()),
        float(np.mean(overlaps)),
    )


def _predicted(features: np.ndarray, means: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Probabilities ``[M, test, C]`` of nearest-class-mean classifiers.

    Args:
        features: ``[M, test, WIDTH]``.
        means: ``[M, C, WIDTH]``.
        seen: whether a training slide has the class ``[C]``.
    """
    logits = features @ means.transpose(0, 2, 1) - (means**2).sum(2)[:, None] / 2
    logits += np.where(seen, 0.0, _ABSENT)
    odds = np.exp(logits - logits.max(2, keepdims=True))
    return odds / odds.sum(2, keepdims=True)


def _ranked(probabilities: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each slide's share of rightly ordered pairs ``[M, test, C]``, and the AUCs ``[M, C]``.

    The pairs of a slide are those with the slides on the other side of the class.
    """
    order = probabilities.argsort(1)  # [M, test, C]
    inside = np.take_along_axis(np.broadcast_to(present, order.shape), order, 1)
    below = inside.cumsum(1)
    positive = present.sum(0)
    position = np.arange(1, len(present) + 1)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        right = np.where(
            inside == 1,
            (position - below) / (len(present) - positive),
            (positive - below) / positive,
        )
        favour = np.empty_like(right)
        np.put_along_axis(favour, order, right, 1)
        auc = (favour * present).sum(1) / positive
    auc[:, (positive == 0) | (positive == len(present))] = np.nan
    return favour, auc


def _auc_parts(
    auc: np.ndarray, favours: list[np.ndarray], present: np.ndarray, tests: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Contributions of the trainings ``[M, trainings]``, influences of slides on their mean."""
    folds = (~np.isnan(auc[0])).sum(0)  # [C]
    means = np.nansum(auc, 1) / np.maximum(folds, 1)  # [M, C]
    influences = np.zeros((len(present), len(auc)))
    for k, (favour, test) in enumerate(zip(favours, tests, strict=True)):
        inside = present[test]
        slides = np.where(inside == 1, inside.sum(0), len(test) - inside.sum(0))
        weight = ~np.isnan(auc[0, k]) / slides / np.maximum(folds, 1) / _CLASSES
        # The centre is the mean over folds: a fold that draws more slides moves the mean to itself.
        # No test slide occurs twice in a fold.
        influences[test] += np.einsum("mnc,nc->nm", np.nan_to_num(favour) - means[:, None], weight)
    return contributions(auc), influences


def _accuracy_parts(
    rights: list[np.ndarray], tests: list[np.ndarray], slides: int
) -> tuple[np.ndarray, np.ndarray]:
    accuracy = np.stack([right.mean(1) for right in rights], 1)  # [M, trainings]
    influences = np.zeros((slides, len(accuracy)))
    for right, test in zip(rights, tests, strict=True):
        influences[test] += (right - accuracy.mean(1)[:, None]).T / len(test) / len(tests)
    return accuracy, influences
