"""All metrics of one fold, or of several folds pooled; an undefined one has a reason.

If no test slide of a fold has some class, then the recall, F1, AUC and average precision of that
class are undefined, and so are the means over classes. Many libraries silently average over the
remaining classes; here the mean is undefined in that fold.

Folds are pooled without mixing their models. Every test prediction counts, and a slide counts as
often as it was tested (Monte Carlo splits, several seeds). Metrics that compare slides with each
other (AUC, average precision, the chance agreement in kappa) compare only slides that the same
model scored: ranking the scores of one model against those of another would measure whether the
models are calibrated alike, and averaging probabilities over models would measure an ensemble that
was never trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mil_bench import registry
from mil_bench.errors import PluginError
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.evaluation.metric import LABEL_LEVELS, LEVELS, Metric
from mil_bench.evaluation.weighted_sums import LevelScores, Ratio, Weighted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.hierarchy import LabelHierarchy

Sums = Mapping[tuple[str, str], Ratio]
"""All sums of a model, by level and key of the metric."""


def all_metrics() -> Mapping[str, Metric]:
    """The built-in metrics and those of packages, by key.

    Raises:
        PluginError: a package's metric cannot be loaded, or has the key of a built-in one.
    """
    return {**BUILT_IN, **package_metrics()}


def package_metrics() -> Mapping[str, Metric]:
    """The metrics of packages, by key.

    Raises:
        PluginError: a metric cannot be loaded, or has the key of a built-in one.
    """
    names = registry.metrics.names()
    if taken := [name for name in names if name in BUILT_IN]:
        raise PluginError(
            f"{registry.metrics.origin(taken[0])} brings the metric '{taken[0]}', which is the key "
            "of a built-in metric. Rename its entry point."
        )
    return {name: registry.metrics.load(name) for name in names}


class Measure(NamedTuple):
    """Names one value of a method: a metric at a level; of one class, if the metric is class-wise.

    Args:
        level: a key of ``LEVELS``.
        key: a key of ``all_metrics()``.
        of: class name, "" for metrics over all classes.
    """

    level: str
    key: str
    of: str = ""

    @property
    def metric(self) -> Metric:
        """What is measured."""
        return BUILT_IN.get(self.key) or registry.metrics.load(self.key)

    @property
    def is_macro(self) -> bool:
        """Whether it is a mean over classes; see ``class_values``."""
        return self.level in LABEL_LEVELS and self.metric.is_mean

    @property
    def words(self) -> str:
        """In the middle of a sentence: "coarse macro AUC", "AUC of FEA"."""
        return " ".join(
            filter(None, [LEVELS[self.level], self.metric.words, self.of and f"of {self.of}"])
        )


@dataclass(frozen=True)
class MetricValues:
    """All values of one fold, or of several pooled.

    Args:
        values: as fractions or plain numbers, not a number if undefined.
        reasons: why a value is undefined, for each that is.
    """

    values: Mapping[Measure, float]
    reasons: Mapping[Measure, str]


class ModelScorer:
    """One model's test predictions at every level, ready to be summed under many weightings.

    Args:
        predictions: of one trained fold.
        hierarchy: the classes.
        ordered: whether the order of the classes means something; then there is a quadratic kappa.
        keys: of the metrics that are wanted, None for all.
    """

    def __init__(
        self,
        predictions: Predictions,
        hierarchy: LabelHierarchy,
        ordered: bool = False,
        keys: Collection[str] | None = None,
    ) -> None:
        known = all_metrics()
        self._metrics = known if keys is None else {key: known[key] for key in keys}
        levels = ["fine"]
        if not hierarchy.is_flat:
            levels += ["coarse"] + (["coarse_head"] if predictions.coarse_head is not None else [])
        self._slides = len(predictions.labels)
        self._levels = {
            level: LevelScores(predictions, hierarchy, level, ordered) for level in levels
        }

    def sums(self, weight: np.ndarray) -> Sums:
        """Sums under R weightings ``[R, B]`` of all metrics that can be resampled."""
        return self._sums(weight, resampled=True)

    def all_sums(self) -> Sums:
        """Sums (R = 1) of all metrics, each slide once."""
        once = np.ones((1, self._slides))
        return {**self._sums(once, resampled=True), **self._sums(once, resampled=False)}

    def _sums(self, weight: np.ndarray, resampled: bool) -> Sums:
        weighted = {level: Weighted(scores, weight) for level, scores in self._levels.items()}
        sums = {}
        for level, of_level in (*weighted.items(), ("slide", weighted["fine"])):
            for key, metric in self._metrics.items():
                if level in metric.levels and metric.resampled == resampled:
                    ratio = metric.sums(of_level)
                    if ratio is not None:
                        sums[level, key] = ratio
        return sums


def measure(
    predictions: Predictions, hierarchy: LabelHierarchy, ordered: bool = False
) -> MetricValues:
    """All metrics of one trained fold.

    Args:
        predictions: of its test slides.
        hierarchy: the classes.
        ordered: whether the order of the classes means something; then there is a quadratic kappa.
    """
    return _metric_values(_sums_of([predictions], hierarchy, ordered)[0], hierarchy)


def measure_some(
    predictions: Predictions,
    hierarchy: LabelHierarchy,
    measures: Sequence[Measure],
    ordered: bool = False,
) -> MetricValues:
    """Some metrics of one trained fold; arguments as for ``measure``."""
    # What is undefined is explained by the slides of each class, which balanced accuracy counts.
    keys = {*(measure.key for measure in measures), "balanced_accuracy"}
    sums = ModelScorer(predictions, hierarchy, ordered, keys).all_sums()
    return _metric_values(sums, hierarchy)


def class_values(
    predictions: Predictions, hierarchy: LabelHierarchy, measure: Measure, ordered: bool = False
) -> np.ndarray | None:
    """The values of the classes whose mean is a macro metric ``[C]``.

    A class is not a number if the fold's labels leave it undefined. None if the metric has no
    classes, or if a class is undefined for another reason, which may be the method's: the folds
    that define it would then differ between methods.

    Args:
        predictions: of one trained fold.
        hierarchy: the classes.
        measure: one that ``is_macro``.
        ordered: whether the order of the classes means something.
    """
    scores = LevelScores(predictions, hierarchy, measure.level, ordered)
    ratio = measure.metric.sums(Weighted(scores, np.ones((1, len(scores.labels)))))
    if ratio is None or ratio.value.shape[1] != scores.classes:
        return None
    slides = np.bincount(scores.labels, minlength=scores.classes)
    explained = (slides == 0) | (slides == len(scores.labels))
    values = ratio.value[0]
    return values if explained[np.isnan(values)].all() else None


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
) -> MetricValues:
    """All metrics of several trained folds of one method together; see the module's docstring."""
    return _metric_values(total(_sums_of(predictions, hierarchy, ordered)), hierarchy)


def _sums_of(
    predictions: Sequence[Predictions], hierarchy: LabelHierarchy, ordered: bool
) -> list[Sums]:
    """Sums of each trained fold, every slide once."""
    return [ModelScorer(p, hierarchy, ordered).all_sums() for p in predictions]


def total(sums: Sequence[Sums]) -> Sums:
    """Sums of several folds of one method together."""
    return {name: reduce(add, (of_fold[name] for of_fold in sums)) for name in sums[0]}


def values_of(sums: Sums, hierarchy: LabelHierarchy) -> dict[Measure, np.ndarray]:
    """The values of all metrics from their sums, each ``[R]``."""
    values: dict[Measure, np.ndarray] = {}
    for (level, key), ratio in sums.items():
        measure = Measure(level, key)
        if (reduce_columns := measure.metric.reduction) is None:
            names = class_names(level, hierarchy)
            values |= {Measure(level, key, name): ratio.value[:, c] for c, name in enumerate(names)}
        else:
            values[measure] = reduce_columns(ratio.value)
    return values


def _metric_values(sums: Sums, hierarchy: LabelHierarchy) -> MetricValues:
    """The values of all metrics from sums with R = 1."""
    values = {name: float(value[0]) for name, value in values_of(sums, hierarchy).items()}
    return MetricValues(
        values, {name: _reason(name, sums, hierarchy) for name, v in values.items() if np.isnan(v)}
    )


def class_names(level: str, hierarchy: LabelHierarchy) -> tuple[str, ...]:
    """The classes of a label level."""
    return hierarchy.fine if level == "fine" else hierarchy.coarse


def _reason(measure: Measure, sums: Sums, hierarchy: LabelHierarchy) -> str:
    """Why a value is undefined."""
    if measure.metric.undefined or measure.level == "slide":
        return measure.metric.undefined or "no test slide counts for it"
    slides = sums[measure.level, "balanced_accuracy"].whole[0]
    names = class_names(measure.level, hierarchy)
    if np.count_nonzero(slides) == 1:
        return f"all test slides are {names[int(slides.argmax())]}"
    absent = [
        name
        for name, count in zip(names, slides, strict=True)
        if count == 0 and measure.of in ("", name)
    ]
    return f"no test slide is {', '.join(absent)}"


def attention_auc(attention: np.ndarray, witness: np.ndarray) -> float:
    """AUC of a slide's attention for finding its witness instances.

    It is computed from ranks: scikit-learn's ``roc_auc_score`` takes about 50 times as long for a
    bag of 120 instances, and differs in the last bit.

    Args:
        attention: of each instance ``[n]``.
        witness: whether an instance is a witness ``[n]`` bool.

    Returns:
        Not a number for a slide without witnesses or without other instances.
    """
    import pandas as pd  # brings ranks; imported here because lists of runs do without it

    witnesses, others = int(witness.sum()), int((~witness).sum())
    if not witnesses or not others:
        return float("nan")
    ranks = pd.Series(attention).rank().to_numpy()  # ties share their mean rank
    return float((ranks[witness].sum() - witnesses * (witnesses + 1) / 2) / (witnesses * others))
