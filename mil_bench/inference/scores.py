"""Scores of predictions of new slides: the metrics of runs, with intervals over patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.bootstrap import bootstrap
from mil_bench.evaluation.metrics import Measure, class_names, measure
from mil_bench.report.result_tables import MAIN
from mil_bench.report.tables import ABSENT, Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.bootstrap import Bootstrap
    from mil_bench.evaluation.metrics import MetricValues
    from mil_bench.inference.predictions import ModelPredictions

_MORE = ("macro_ap", "quadratic_kappa", "nll", "brier", "ece")
_MEAN = "The row 'mean of N models' scores the mean of their probabilities"
_SINGLE = (
    "'single models' is the mean ± sample standard deviation over the same models, each scored "
    "alone"
)
_INTERVALS = (
    "In brackets: the 95 % confidence interval of a bootstrap over {}s, which covers the sampling "
    "of slides, not training"
)
REPLICATES = 10_000


def score_tables(
    predictions: ModelPredictions,
    labels: Mapping[str, int],
    groups: Mapping[str, str],
    group_name: str,
    ordered: bool,
    caption: str,
) -> list[ResultTable]:
    """Tables of the fine level, the coarse level and the class-wise AUC.

    Args:
        predictions: of all models.
        labels: slide to fine class, of the slides that are scored, at least one.
        groups: slide to patient, of those whose patient is known.
        group_name: what a group is, "" if groups are unknown; then slides are drawn.
        ordered: whether the order of the classes means something.
        caption: what is scored.
    """
    hierarchy = predictions.hierarchy
    chosen = np.flatnonzero([slide in labels for slide in predictions.slides])
    slides = predictions.slides[chosen]
    truth = np.array([labels[slide] for slide in slides])
    of_group = np.array([groups.get(slide, "") for slide in slides])
    numbers = range(len(predictions.models))
    each = [predictions.of_model(m, chosen, truth, of_group) for m in (-1, *numbers)]
    values = [measure(p, hierarchy, ordered) for p in each]
    row = f"mean of {len(numbers)} models" if len(numbers) > 1 else "1 model"
    drawn = bootstrap({row: each[:1]}, hierarchy, group_name, ordered, REPLICATES)
    levels = ("fine",) if hierarchy.is_flat else ("fine", "coarse")
    tables = []
    for level in levels:
        measures = [Measure(level, key) for key in (*MAIN, *_MORE)]
        heading = "Metrics" if hierarchy.is_flat else f"{level.capitalize()} level"
        title = f"{heading}, {len(class_names(level, hierarchy))} classes"
        tables.append((f"scores_{level}", title, measures))
    of_classes = [Measure("fine", "auc", name) for name in hierarchy.fine]
    fine = "" if hierarchy.is_flat else ", fine classes"
    tables.append(("scores_classwise_auc", f"Class-wise one-vs-rest AUC{fine}", of_classes))
    return [
        _table(name, title, measures, row, values, drawn, caption)
        for name, title, measures in tables
    ]


def _table(
    name: str,
    title: str,
    measures: Sequence[Measure],
    row: str,
    values: Sequence[MetricValues],
    drawn: Bootstrap,
    caption: str,
) -> ResultTable:
    """Rows are measures: a single method has few columns and many metrics."""
    mean, *single = values
    cells: dict[str, dict[str, Cell | str]] = {}
    reasons: dict[str, None] = {}
    for measure_ in measures:
        if measure_ not in mean.values:
            continue
        metric = measure_.metric
        scale, digits = (100, 1) if metric.percent else (1, 3)
        interval, ends = None, None
        if metric.resampled:
            interval = drawn.interval(drawn.pooled.values[row][measure_], measure_)
            ends = None if interval.reason else (scale * interval.low, scale * interval.high)
        heading = measure_.of or metric.heading + (" (%)" if metric.percent else "")
        if measure_ in mean.reasons:
            reasons[f"{heading} is undefined: {mean.reasons[measure_]}"] = None
            cell: Cell | str = ABSENT
        else:
            cell = Cell(scale * mean.values[measure_], digits=digits, interval=ends)
            if interval and interval.reason and not drawn.few:
                reasons[f"No interval for {heading}: {interval.reason}"] = None
        cells[heading] = {row: cell}
        if len(single) > 1:
            of_each = [scale * v.values[measure_] for v in single]
            cells[heading]["single models"] = (
                ABSENT if np.isnan(of_each).any() else Cell.of(of_each, digits)
            )
    words = f"No intervals: {drawn.few}" if drawn.few else _INTERVALS.format(drawn.unit)
    notes = [words, *reasons] if len(single) == 1 else [_MEAN, _SINGLE, words, *reasons]
    note = " ".join(f"{text}." for text in notes)
    return ResultTable(name, title, caption, cells, note=note, row_heading="metric")
