"""The main metric: on which metrics methods can be compared, and why not on the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.datasets.card import MAIN_METRIC
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.evaluation.metrics import Measure, all_metrics

if TYPE_CHECKING:
    from mil_bench.evaluation.metric import Metric

MAIN_MEASURE = Measure("fine", MAIN_METRIC)
"""What methods are compared on, unless the dataset's card or the run names another metric."""


def measure_named(key: str) -> Measure:
    """What methods are compared on, if a metric is chosen: at the fine level or over slides.

    Args:
        key: of the metric, built in or of a package.

    Raises:
        UnknownNameError: there is no such metric.
        InputError: methods cannot be compared on it; names those that can be chosen.
        PluginError: a package's metric cannot be loaded.
    """
    metrics = all_metrics()
    if key not in metrics:
        raise UnknownNameError("metric", key, metrics)
    metric = metrics[key]
    if why := _refusal(metric):
        possible = ", ".join(key for key, other in metrics.items() if not _refusal(other))
        problem = f"methods cannot be compared on {metric.words} ({key}): {why}"
        raise InputError("the comparison", [problem], f"Choose one of these metrics: {possible}.")
    return Measure("fine" if "fine" in metric.levels else "slide", key)


def _refusal(metric: Metric) -> str:
    """Why methods cannot be compared on a metric, "" if they can."""
    if metric.is_classwise:
        return "it has a value per class, and a comparison needs one value per method"
    if not metric.resampled:
        return "it is biased on resampled patients, so its differences have no interval"
    if not metric.ranked:
        return "a useless method can have its best value"
    if not metric.is_mean:
        return "it is no mean of its columns, and intervals are of means over folds"
    if not {"fine", "slide"} & set(metric.levels):
        return "it has no value at the fine level or over slides"
    return ""
