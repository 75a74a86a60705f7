"""Result tables: mean ± std over trainings, and all folds together with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mil_bench.evaluation.main_metric import MAIN_MEASURE
from mil_bench.evaluation.metrics import Measure, class_names, package_metrics, pooled
from mil_bench.report.pair_sentences import table_unit
from mil_bench.report.tables import (
    ABSENT,
    DAGGER,
    Cell,
    ResultTable,
    coarse_head_row,
    ranked,
    shown_as,
)

if TYPE_CHECKING:
    from mil_bench.evaluation.verdicts import Evidence

MAIN = ("accuracy", "macro_auc", "balanced_accuracy", "specificity", "macro_f1")
"""Metrics of the main tables, in their order."""
PACKAGE_TABLE = "metric_"
"""Start of the name of a table for a class-wise metric of a package."""
_LIFTED = (
    "The probability of a coarse class is the sum of the probabilities of its fine classes, for "
    "every method."
)
_HEADS = (
    "Rows '(coarse head)' score the method's own coarse head; they are not marked as best, "
    "because only some methods have one."
)
_INTERVALS = (
    "In brackets: the 95 % confidence interval of a bootstrap over {}s. It covers the sampling of "
    "test {}s, not training; compare methods by the table of pairs, not by these intervals."
)
_POOLED = (
    "Test predictions of all folds and seeds are pooled, so values differ from the means over "
    "folds. For AUC, a slide is compared only with slides that the same trained model scored."
)

Columns = Mapping[str, Measure]
"""Column heading to what the column shows."""


def result_tables(evidence: Evidence, caption: str) -> list[ResultTable]:
    """The tables of mean ± std.

    Args:
        evidence: what a run measured.
        caption: dataset, protocol, folds, seeds and what ± is.
    """
    hierarchy = evidence.hierarchy
    deep = not hierarchy.is_flat
    fine = ", fine classes" if deep else ""
    build = _Builder(evidence, caption)
    main = _main_columns("fine", evidence)
    level = "Fine level" if deep else "Main metrics"
    title = f"{level}, {hierarchy.n_fine} classes ({table_unit(main.values())})"
    tables = [build.table("fine", title, main)]
    if deep:
        tables.append(_coarse_table(build))
    tables.append(
        build.table(
            "classwise_auc",
            f"Class-wise one-vs-rest AUC{fine} (%)",
            _per_class(evidence, "fine"),
        )
    )
    if deep:
        title = "Class-wise one-vs-rest AUC, coarse classes (%)"
        tables.append(
            build.table("classwise_auc_coarse", title, _per_class(evidence, "coarse"), _LIFTED)
        )
    title = f"Class-wise sensitivity{fine} (%)"
    columns = _per_class(evidence, "fine", "sensitivity")
    meaning = Measure("fine", "sensitivity").metric.meaning
    tables.append(build.table("classwise_sensitivity", title, columns, meaning))
    title = f"Class-wise average precision{fine} (%)"
    columns = _per_class(evidence, "fine", "average_precision")
    meaning = Measure("fine", "average_precision").metric.meaning
    tables.append(build.table("classwise_ap", title, columns, meaning))
    for key, metric in package_metrics().items():
        if metric.is_classwise and "fine" in metric.levels:
            title = f"Class-wise {metric.words}{fine}{' (%)' * metric.percent}"
            columns = _per_class(evidence, "fine", key)
            tables.append(build.table(f"{PACKAGE_TABLE}{key}", title, columns, metric.meaning))
    further = {"more": "More metrics", "calibration": "Calibration", "hierarchy": "Hierarchy"}
    for (name, title), measures in zip(further.items(), _further(deep), strict=True):
        columns = build.existing(measures)
        if columns:
            meanings = " ".join(dict.fromkeys(m.metric.meaning for m in columns.values()))
            tables.append(build.table(name, title, columns, meanings))
    return tables


def pooled_tables(evidence: Evidence, caption: str) -> list[ResultTable]:
    """All folds pooled, with bootstrap intervals: main metrics, class-wise AUC, package metrics."""
    if not evidence.complete:
        return []
    few, unit = evidence.bootstrap.few, evidence.bootstrap.unit
    note = f"{_POOLED} " + (f"No intervals: {few}." if few else _INTERVALS.format(unit, unit))
    build = _Builder(evidence, caption)
    main = _main_columns("fine", evidence)
    more = [m for m in _of_packages(("fine",)) if m.metric.resampled and m not in main.values()]
    level = "" if evidence.hierarchy.is_flat else ", fine level"
    columns = {
        "pooled": (
            f"All folds pooled{level} ({table_unit(main.values())})",
            {**main, **build.existing(more)},
        ),
        "pooled_classwise_auc": (
            "All folds pooled, class-wise AUC (%)",
            _per_class(evidence, "fine"),
        ),
    }
    return [
        build.pooled_table(name, title, chosen, note) for name, (title, chosen) in columns.items()
    ]


def _main_columns(level: str, evidence: Evidence) -> Columns:
    """The columns of a main table; if a metric was chosen to compare methods, it is the first."""
    measures = [Measure(level, key) for key in MAIN]
    main = evidence.main
    if main.level == "slide" and level == "fine":
        measures.insert(0, main)
    elif main != MAIN_MEASURE and level in main.metric.levels:
        measures.insert(0, main._replace(level=level))
    return {measure.metric.heading: measure for measure in measures}


def _per_class(evidence: Evidence, level: str, key: str = "auc") -> Columns:
    return {name: Measure(level, key, name) for name in class_names(level, evidence.hierarchy)}


def _further(deep: bool) -> tuple[list[Measure], ...]:
    levels = ("fine", "coarse") if deep else ("fine",)
    more = [Measure(level, key) for key in ("macro_ap", "quadratic_kappa") for level in levels]
    return (
        [*more, Measure("slide", "attention_auc"), *_of_packages((*levels, "slide"))],
        [Measure(level, key) for level in levels for key in ("nll", "brier", "ece")],
        [Measure("slide", "mistakes_inside"), Measure("slide", "head_agreement")],
    )


def _of_packages(levels: Sequence[str]) -> list[Measure]:
    """Metrics of packages that have one value per level."""
    return [
        Measure(level, key)
        for key, metric in package_metrics().items()
        for level in levels
        if level in metric.levels and not metric.is_classwise
    ]


def _coarse_table(build: _Builder) -> ResultTable:
    """The coarse level from fine probabilities, and from the coarse heads there are."""
    evidence = build.evidence
    columns = _main_columns("coarse", evidence)
    title = f"Coarse level, {evidence.hierarchy.n_coarse} classes ({table_unit(columns.values())})"
    rows: dict[str, tuple[str, str]] = {}
    for name, trainings in evidence.measured.items():
        rows[name] = name, "coarse"
        head = Measure("coarse_head", "accuracy")
        if any(head in training.values for training in trainings.values()):
            rows[coarse_head_row(name)] = name, "coarse_head"
    heads = any(level == "coarse_head" for _, level in rows.values())
    cells = {
        row: build.row(method, {h: m._replace(level=level) for h, m in columns.items()})
        for row, (method, level) in rows.items()
    }
    keys = {row: build.keys(method) for row, (method, _) in rows.items()}
    note = f"{_LIFTED} {_HEADS}" if heads else _LIFTED
    # What is undefined follows from the coarse labels, so heads lack the same folds as the lifted
    # level.
    return build.finished("coarse", title, cells, columns, note, keys)


class _Builder:
    """Cells and tables of one run."""

    def __init__(self, evidence: Evidence, caption: str) -> None:
        self.evidence, self._caption = evidence, caption

    def table(self, name: str, title: str, columns: Columns, note: str = "") -> ResultTable:
        """One row per method."""
        cells = {method: self.row(method, columns) for method in self.evidence.trained}
        return self.finished(name, title, cells, columns, note)

    def existing(self, measures: Sequence[Measure]) -> Columns:
        """The columns of those measures that any method has, under headings of their own."""
        trainings = [
            training.values
            for of_method in self.evidence.measured.values()
            for training in of_method.values()
        ]
        return {_heading(m): m for m in measures if any(m in values for values in trainings)}

    def row(self, method: str, columns: Columns) -> dict[str, Cell | str]:
        return {heading: self._cell(method, measure) for heading, measure in columns.items()}

    def keys(self, method: str) -> tuple[str, ...]:
        return tuple(sorted({fold.job_key for fold in self.evidence.trained[method]}))

    def _cell(self, method: str, measure: Measure) -> Cell | str:
        trainings = self.evidence.measured[method]
        if trainings and not any(measure in t.values for t in trainings.values()):
            return ABSENT
        scale, digits = shown_as(measure.metric)
        return Cell.over({at: scale * t.values[measure] for at, t in trainings.items()}, digits)

    def pooled_table(self, name: str, title: str, columns: Columns, note: str) -> ResultTable:
        """All folds pooled, with intervals."""
        bootstrap = self.evidence.bootstrap
        cells: dict[str, dict[str, Cell | str]] = {}
        reasons: dict[str, dict[str, None]] = {}
        for method in self.evidence.complete:
            predictions = [fold.predictions for fold in self.evidence.trained[method]]
            hierarchy, ordered = self.evidence.hierarchy, self.evidence.ordered
            values = pooled(predictions, hierarchy, ordered).values
            cells[method] = {}
            for heading, measure in columns.items():
                if measure not in values:
                    cells[method][heading] = ABSENT
                    continue
                scale, digits = shown_as(measure.metric)
                interval = bootstrap.interval(bootstrap.pooled.values[method][measure], measure)
                ends = None if interval.reason else (scale * interval.low, scale * interval.high)
                cells[method][heading] = Cell(scale * values[measure], digits=digits, interval=ends)
                if interval.reason and not bootstrap.few:
                    reasons.setdefault(interval.reason, {})[heading] = None
        without = [f"No interval for {', '.join(of)}: {why}." for why, of in reasons.items()]
        note = " ".join([note, *without])
        keys = {method: self.keys(method) for method in cells}
        return ResultTable(name, title, self._caption, self._ranked(cells, columns), keys, note)

    def finished(
        self,
        name: str,
        title: str,
        cells: dict[str, dict[str, Cell | str]],
        columns: Columns,
        note: str,
        keys: Mapping[str, tuple[str, ...]] | None = None,
    ) -> ResultTable:
        note = f"{note} {self._undefined(columns)}".strip()
        keys = keys or {method: self.keys(method) for method in cells}
        return ResultTable(name, title, self._caption, self._ranked(cells, columns), keys, note)

    def _ranked(
        self, cells: Mapping[str, Mapping[str, Cell | str]], columns: Columns
    ) -> dict[str, dict[str, Cell | str]]:
        """The cells with marks for the best methods, in the columns in which best means good."""
        metrics = {heading: measure.metric for heading, measure in columns.items()}
        lower = [heading for heading, metric in metrics.items() if not metric.higher_is_better]
        unranked = [heading for heading, metric in metrics.items() if not metric.ranked]
        return ranked(cells, self.evidence.contestants, lower, unranked)

    def _undefined(self, columns: Columns) -> str:
        """Which folds lack some of these values, and why."""
        folds_of: dict[str, set[int]] = {}
        for trainings in self.evidence.measured.values():
            for (_, fold), training in trainings.items():
                for measure in columns.values():
                    if measure in training.reasons:
                        folds_of.setdefault(training.reasons[measure], set()).add(fold)
        if not folds_of:
            return ""
        reasons = (f"{reason} in {_folds(folds)}" for reason, folds in folds_of.items())
        return f"{DAGGER} Mean over the folds in which the value is defined: {'; '.join(reasons)}."


def _folds(folds: set[int]) -> str:
    return f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, sorted(folds)))}"


def _heading(measure: Measure) -> str:
    level = "coarse " if measure.level == "coarse" else ""
    text = f"{level}{measure.metric.heading}"
    return (text[0].upper() + text[1:]) + (" (%)" if measure.metric.percent else "")
