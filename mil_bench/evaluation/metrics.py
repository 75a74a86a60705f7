"""Metrics of one fold or of several together. What they cannot say is not a number, with the reason beside it.

A class that no test slide of a fold has makes its recall, its F1, its AUC and its average precision
undefined, and with them the averages over classes. Elsewhere such averages silently run over the
classes that are left; here they are undefined in that fold.

Several folds are pooled without mixing their models: every test prediction counts, a slide as often
as it was tested (Monte-Carlo splits, several seeds), and what compares slides with each other (AUC,
average precision, the chance agreement in kappa) compares only slides that the same model scored.
Ranking one model's scores against another's would measure how alike the models are calibrated;
averaging a slide's probabilities over models would measure an ensemble that nobody trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mil_bench.evaluation.weighted_sums import BINS, ModelScorer, Sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.hierarchy import LabelHierarchy

LEVELS: Mapping[str, str] = {
    "fine": "",
    "coarse": "coarse",
    "coarse_head": "coarse-head",
    "slide": "",
}
"""Where a metric is taken, and the word before its name: fine labels; coarse labels, from fine probabilities summed
over the children; coarse labels, from the method's own coarse head; and means over slides that
belong to no level."""
_LABEL_LEVELS = ("fine", "coarse", "coarse_head")


@dataclass(frozen=True)
class Metric:
    """What a metric is, as tables and sentences need it.

    Args:
        heading: column heading.
        words: in the middle of a sentence ("macro AUC").
        meaning: one sentence for captions.
        higher_is_better: else lower is.
        percent: shown as percent, else as a plain number.
        levels: at which levels it exists.
        classwise: whether it is of one class.
        resampled: whether a bootstrap interval makes sense.
    """

    heading: str
    words: str
    meaning: str
    higher_is_better: bool = True
    percent: bool = True
    levels: tuple[str, ...] = _LABEL_LEVELS
    classwise: bool = False
    resampled: bool = True

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.higher_is_better else -1


_AP_NOTE = "It grows as fewer slides are compared, and with slides drawn twice: no bootstrap interval is given."

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(
        "Accuracy", "accuracy", "Share of slides whose most probable class is right."
    ),
    "balanced_accuracy": Metric(
        "Balanced accuracy", "balanced accuracy", "Mean recall (sensitivity) of the classes."
    ),
    "specificity": Metric(
        "Specificity",
        "specificity",
        "Mean over classes of the share of other classes' slides not called that class.",
    ),
    "macro_f1": Metric("Macro F1", "macro F1", "Unweighted mean of the classes' F1."),
    "macro_auc": Metric(
        "Macro AUC", "macro AUC", "Unweighted mean of the classes' one-vs-rest AUC."
    ),
    "macro_ap": Metric(
        "Macro AP",
        "macro average precision",
        f"Unweighted mean of the classes' one-vs-rest average precision. {_AP_NOTE}",
        resampled=False,
    ),
    "quadratic_kappa": Metric(
        "Quadratic kappa",
        "quadratic kappa",
        "Quadratic weighted kappa; ordered classes only.",
        percent=False,
    ),
    "nll": Metric(
        "NLL",
        "negative log-likelihood",
        "Mean of -log p(label), natural logarithm; probabilities of 0 count as 2.2e-16.",
        higher_is_better=False,
        percent=False,
    ),
    "brier": Metric(
        "Brier",
        "Brier score",
        "Mean squared distance between probabilities and the label's indicator, summed over classes: 0 to 2.",
        higher_is_better=False,
        percent=False,
    ),
    "ece": Metric(
        "ECE",
        "calibration error",
        f"Expected calibration error of the most probable class, {BINS} bins of equal width. It is biased upwards on "
        "few slides, and more so on resampled ones: no bootstrap interval is given.",
        higher_is_better=False,
        resampled=False,
    ),
    "mistakes_inside": Metric(
        "Mistakes inside",
        "share of mild mistakes",
        "Of the slides with a wrong fine class, the share whose coarse class is right; higher means milder mistakes.",
        levels=("slide",),
    ),
    "head_agreement": Metric(
        "Head agreement",
        "agreement of the heads",
        "Share of slides whose coarse head names the parent of the most probable fine class.",
        levels=("slide",),
    ),
    "attention_auc": Metric(
        "Attention AUC",
        "attention AUC",
        "Mean over slides of the AUC of their attention against their witness instances.",
        levels=("slide",),
    ),
    "auc": Metric("AUC", "AUC", "One-vs-rest AUC of one class.", classwise=True),
    "average_precision": Metric(
        "AP",
        "average precision",
        f"One-vs-rest average precision of one class. {_AP_NOTE}",
        classwise=True,
        resampled=False,
    ),
}
"""All metrics by key. The last two are of one class; ``Measure`` says of which."""


class Measure(NamedTuple):
    """One figure of a method: a metric at a level, for the class-wise ones of one class.

    Args:
        level: a key of ``LEVELS``.
        key: a key of ``METRICS``.
        of: class name, "" for metrics over all classes.
    """

    level: str
    key: str
    of: str = ""

    @property
    def metric(self) -> Metric:
        """What is measured."""
        return METRICS[self.key]

    @property
    def words(self) -> str:
        """In the middle of a sentence: "coarse macro AUC", "AUC of FEA"."""
        return " ".join(
            filter(None, [LEVELS[self.level], self.metric.words, self.of and f"of {self.of}"])
        )


@dataclass(frozen=True)
class Measured:
    """All figures of one fold, or of several pooled.

    Args:
        values: figures as fractions or plain numbers, not a number where undefined.
        reasons: why a figure is undefined, for each that is.
    """

    values: Mapping[Measure, float]
    reasons: Mapping[Measure, str]


def measure(predictions: Predictions, hierarchy: LabelHierarchy, ordered: bool = False) -> Measured:
    """All figures of one trained fold.

    Args:
        predictions: of its test slides.
        hierarchy: the classes.
        ordered: whether the order of the classes means something; then there is a quadratic kappa.
    """
    return _measured(_sums_of([predictions], hierarchy, ordered)[0], hierarchy)


def named_values(
    predictions: Predictions, hierarchy: LabelHierarchy, ordered: bool = False
) -> dict[str, float | None]:
    """All values of one trained fold by name, such as "fine auc DCIS"; None if undefined."""
    values = measure(predictions, hierarchy, ordered).values
    return {name_of(measure): None if np.isnan(v) else v for measure, v in values.items()}


def name_of(measure: Measure) -> str:
    """Name of a value in stored records."""
    return " ".join(filter(None, measure))


def pooled(
    predictions: Sequence[Predictions], hierarchy: LabelHierarchy, ordered: bool = False
) -> Measured:
    """All figures of several folds and seeds of one method together; see the module's docstring."""
    return _measured(total(_sums_of(predictions, hierarchy, ordered)), hierarchy)


def _sums_of(
    predictions: Sequence[Predictions], hierarchy: LabelHierarchy, ordered: bool
) -> list[Sums]:
    """Sums of each trained fold, every slide once."""
    return [ModelScorer(p, hierarchy, ordered).all_sums() for p in predictions]


def total(sums: Sequence[Sums]) -> Sums:
    """Sums of several folds of one method together."""
    return {name: reduce(add, (each[name] for each in sums)) for name in sums[0]}


def figures(sums: Sums, hierarchy: LabelHierarchy) -> dict[Measure, np.ndarray]:
    """All figures behind some sums, each ``[R]``."""
    values: dict[Measure, np.ndarray] = {}
    for (level, key), ratio in sums.items():
        if METRICS[key].classwise:
            names = class_names(level, hierarchy)
            values |= {Measure(level, key, name): ratio.value[:, c] for c, name in enumerate(names)}
        elif key == "ece":
            values[Measure(level, key)] = np.abs(ratio.value).sum(1)
        else:
            values[Measure(level, key)] = ratio.value.mean(
                1
            )  # not a number as soon as one class has none
    return values


def _measured(sums: Sums, hierarchy: LabelHierarchy) -> Measured:
    """The figures behind sums with R = 1."""
    values = {name: float(value[0]) for name, value in figures(sums, hierarchy).items()}
    return Measured(
        values, {name: _reason(name, sums, hierarchy) for name, v in values.items() if np.isnan(v)}
    )


def class_names(level: str, hierarchy: LabelHierarchy) -> tuple[str, ...]:
    """The classes of a label level."""
    return hierarchy.fine if level == "fine" else hierarchy.coarse


def _reason(name: Measure, sums: Sums, hierarchy: LabelHierarchy) -> str:
    if name.level == "slide":
        return {
            "mistakes_inside": "no slide is misclassified",
            "attention_auc": "no slide has both witnesses and other instances",
        }[name.key]
    slides = sums[name.level, "balanced_accuracy"].whole[0]
    names = class_names(name.level, hierarchy)
    if np.count_nonzero(slides) == 1:
        return f"all test slides are {names[int(slides.argmax())]}"
    absent = [
        n for n, count in zip(names, slides, strict=True) if count == 0 and name.of in ("", n)
    ]
    return f"no test slide is {', '.join(absent)}"


def attention_auc(attention: np.ndarray, witness: np.ndarray) -> float:
    """AUC of a slide's attention against its witnesses: how often a witness gets more than another instance.

    Args:
        attention: of each instance ``[n]``.
        witness: whether it is a witness ``[n]`` bool.

    Returns:
        Not a number for a slide without a witness, or with nothing else.
    """
    import pandas as pd  # scipy ranks, too, but has one door

    witnesses, others = int(witness.sum()), int((~witness).sum())
    if not witnesses or not others:
        return float("nan")
    ranks = (
        pd.Series(attention).rank().to_numpy()
    )  # ties share their mean rank; memory grows with n, not n squared
    return float((ranks[witness].sum() - witnesses * (witnesses + 1) / 2) / (witnesses * others))
