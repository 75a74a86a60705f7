"""Simulated slides with the numbers of BRACS, and ways to split them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mil_bench.evaluation.predictions import Predictions
from mil_bench.hierarchy import LabelHierarchy

PATIENTS, SLIDES, FOLDS = 189, 545, 10
COUNTS = np.array([44, 147, 74, 41, 48, 61, 132])
"""Number of slides of each class in BRACS."""
CLASSES = LabelHierarchy.flat(("N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC"))
# Share of slides that have their patient's main label for certain, as on the card of BRACS.
_PURITY = 0.6
# Standard deviation of the part of the noise that slides of a patient share; that of the sum is 1.
_PATIENT_NOISE = 0.7


@dataclass(frozen=True, eq=False)
class Cohort:
    """Slides with their patients; ``main`` is each patient's main label."""

    patient: np.ndarray  # [n]
    label: np.ndarray  # [n]
    main: np.ndarray  # [patients]

    @classmethod
    def drawn(
        cls, rng: np.random.Generator, patients: int = PATIENTS, slides: int = SLIDES
    ) -> Cohort:
        """A random cohort with these numbers of patients and slides."""
        prior = COUNTS / COUNTS.sum()
        patient = np.repeat(
            np.arange(patients),
            1 + rng.multinomial(slides - patients, np.full(patients, 1 / patients)),
        )
        main = rng.choice(len(prior), patients, p=prior)
        follows = rng.random(slides) < _PURITY
        return cls(
            patient, np.where(follows, main[patient], rng.choice(len(prior), slides, p=prior)), main
        )

    def noisy_logits(self, rng: np.random.Generator) -> np.ndarray:
        """Logits of a scorer that needs no training ``[n, C]``."""
        return 1.6 * np.eye(len(COUNTS))[self.label] + 1.4 * self.noise(rng, len(COUNTS))

    def noise(self, rng: np.random.Generator, width: int) -> np.ndarray:
        """Noise of standard deviation 1 ``[n, width]``; slides of a patient share a part of it."""
        shared = rng.standard_normal((len(self.main), width))[self.patient]
        of_slide = rng.standard_normal((len(self.label), width))
        return _PATIENT_NOISE * shared + np.sqrt(1 - _PATIENT_NOISE**2) * of_slide

    def predictions(self, slides: np.ndarray, logits: np.ndarray) -> Predictions:
        """Predictions of a model with these logits for some slides."""
        odds = np.exp(logits - logits.max(1, keepdims=True))
        fine = odds / odds.sum(1, keepdims=True)
        return Predictions(
            slides.astype(str), self.label[slides], fine, self.patient[slides].astype(str)
        )


Folds = list[tuple[np.ndarray, np.ndarray]]
"""Training and test slides of each fold."""


def monte_carlo(rng: np.random.Generator, cohort: Cohort) -> Folds:
    """Ten random 80/10/10 splits stratified by slide, as in HMIL's lists."""
    folds = []
    for _ in range(FOLDS):
        by_class = [rng.permutation(np.flatnonzero(cohort.label == c)) for c in range(len(COUNTS))]
        tenths = [max(1, round(len(slides) / 10)) for slides in by_class]
        train = np.concatenate(
            [slides[2 * t :] for slides, t in zip(by_class, tenths, strict=True)]
        )
        test = np.concatenate(
            [slides[t : 2 * t] for slides, t in zip(by_class, tenths, strict=True)]
        )
        folds.append((train, test))
    return folds


def patient_kfold(rng: np.random.Generator, cohort: Cohort, count: int = FOLDS) -> Folds:
    """Folds stratified by the patients' main label; no patient is in two parts of a fold.

    The next fold is the validation part.
    """
    order = np.lexsort((rng.random(len(cohort.main)), cohort.main))
    dealt = np.empty(len(order), dtype=int)
    dealt[order] = np.arange(len(order)) % count
    fold = dealt[cohort.patient]
    sides = [((fold != k) & (fold != (k + 1) % count), fold == k) for k in range(count)]
    return [(np.flatnonzero(train), np.flatnonzero(test)) for train, test in sides]


def patient_monte_carlo(rng: np.random.Generator, cohort: Cohort) -> Folds:
    """Ten random 80/10/10 splits by patient, stratified by the patients' main label."""
    return [patient_kfold(rng, cohort)[0] for _ in range(FOLDS)]


def one_split(rng: np.random.Generator, cohort: Cohort) -> Folds:
    """A single split with a third of the patients in the test part."""
    test = np.isin(cohort.patient, rng.permutation(len(cohort.main))[: len(cohort.main) // 3])
    return [(np.flatnonzero(~test), np.flatnonzero(test))]
