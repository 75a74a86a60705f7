"""Tables per centre: how many slides were tested, and how well methods do on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.datasets.card import CENTRE, SLIDE
from mil_bench.evaluation.metrics import Measure, measure_some
from mil_bench.report.tables import ABSENT, DAGGER, Cell, ResultTable, ranked, shown_as
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metrics import MetricValues
    from mil_bench.evaluation.verdicts import Evidence

CENTRE_TABLES = ("centres", "centre_main", "centre_accuracy")
"""Names of the tables."""
_NOTE = (
    "Test slides of one centre in one training; mean ± standard deviation over the trainings that "
    "tested some. Centres differ in their slides, so compare methods, not centres."
)
_PARTLY = f"{DAGGER} Mean over the trainings in which the centre's test slides define the value."
_MOST_REASONS = 3
_UNKNOWN = "unknown"
_ACCURACY = Measure("fine", "accuracy")

Trainings = dict[tuple[int, int], "MetricValues"]
"""By seed and fold."""


def centre_tables(evidence: Evidence, main: Measure, caption: str) -> list[ResultTable]:
    """Test slides per centre, and every method's main metric and accuracy on them.

    There are none if fewer than two centres are known.

    Args:
        evidence: what a run measured.
        main: what methods are compared on.
        caption: of the run.
    """
    centres = sorted({centre for centre in evidence.centres.values() if centre})
    if len(centres) < 2:
        return []
    if not all(evidence.centres.values()):
        centres.append("")
    measures = tuple(dict.fromkeys([main, _ACCURACY]))
    by_method = {
        method: _by_centre(evidence, method, centres, measures) for method in evidence.trained
    }
    names = ("centre_main", "centre_accuracy") if len(measures) > 1 else ("centre_accuracy",)
    return [
        _count_table(evidence, centres, caption),
        *(
            _value_table(evidence, name, measure, by_method, caption)
            for name, measure in zip(names, measures, strict=True)
        ),
    ]


def _by_centre(
    evidence: Evidence, method: str, centres: Sequence[str], measures: Sequence[Measure]
) -> dict[str, Trainings]:
    """Centre to the values on its slides, of every training that tested some."""
    found: dict[str, Trainings] = {_shown(centre): {} for centre in centres}
    for fold in evidence.trained[method]:
        tested = np.array([evidence.centres.get(s, "") for s in fold.predictions.slides.tolist()])
        for centre in np.unique(tested).tolist():
            part = fold.predictions.part(tested == centre)
            values = measure_some(part, evidence.hierarchy, measures, evidence.ordered)
            found.setdefault(_shown(centre), {})[fold.seed, fold.fold] = values
    return found


def _value_table(
    evidence: Evidence,
    name: str,
    measure: Measure,
    by_method: Mapping[str, Mapping[str, Trainings]],
    caption: str,
) -> ResultTable:
    """Methods by centres."""
    scale, digits = shown_as(measure.metric)
    cells: dict[str, dict[str, Cell | str]] = {}
    absent: dict[str, str] = {}
    partly = False
    for method, by_centre in by_method.items():
        row = cells[method] = {}
        for centre, trainings in by_centre.items():
            values = {at: scale * of.values.get(measure, np.nan) for at, of in trainings.items()}
            cell = Cell.over(values, digits)
            if trainings and np.isnan(cell.mean):
                absent[centre] = _reason(measure, trainings)
                cell = Cell.absent()
            partly |= bool(cell.undefined_folds)
            row[centre] = cell
    notes = [_NOTE, _PARTLY] if partly else [_NOTE]
    notes += [f"{ABSENT} {centre}: {reason}." for centre, reason in absent.items()]
    words = measure.words[0].upper() + measure.words[1:]
    title = f"{words} per centre{' (%)' * measure.metric.percent}"
    lower = [] if measure.metric.higher_is_better else list(next(iter(cells.values()), {}))
    marked = ranked(cells, evidence.contestants, lower)
    keys = {m: tuple(sorted({f.job_key for f in evidence.trained[m]})) for m in cells}
    return ResultTable(name, title, caption, marked, keys, " ".join(notes))


def _reason(measure: Measure, trainings: Trainings) -> str:
    """Why a measure is undefined in all trainings."""
    folds_of: dict[str, dict[int, None]] = {}
    for (_, fold), values in trainings.items():
        reason = values.reasons.get(measure, f"there is no {measure.words}")
        folds_of.setdefault(reason, {})[fold] = None
    if len(folds_of) == 1:
        return next(iter(folds_of))
    parts = [
        f"{reason} in {'folds' if len(folds) > 1 else 'fold'} {', '.join(map(str, folds))}"
        for reason, folds in folds_of.items()
    ]
    return "; ".join([*parts[:_MOST_REASONS], *(["..."] if len(parts) > _MOST_REASONS else [])])


def _count_table(evidence: Evidence, centres: Sequence[str], caption: str) -> ResultTable:
    """Slides, patients and classes of each centre among all test slides."""
    names, unit = evidence.hierarchy.fine, evidence.group_name
    tested = {
        slide: (int(label), group)
        for folds in evidence.trained.values()
        for fold in folds
        for p in [fold.predictions]
        for slide, label, group in zip(p.slides.tolist(), p.labels, p.groups.tolist(), strict=True)
    }
    cells: dict[str, dict[str, Cell | str]] = {}
    for centre in centres:
        of_centre = [v for slide, v in tested.items() if evidence.centres.get(slide, "") == centre]
        row: dict[str, Cell | str] = {"Test slides": Cell.count(len(of_centre))}
        row = row if evidence.unit == SLIDE else {}
        groups = {group for _, group in of_centre}
        if unit and unit != CENTRE:
            row[f"{unit[0].upper()}{unit[1:]}s"] = Cell.count(len(groups))
        counts = np.bincount([label for label, _ in of_centre], minlength=len(names))
        cells[_shown(centre)] = row | {
            f"Test {name}": Cell.count(int(counts[c])) for c, name in enumerate(names)
        }
    note = f"Each of the {plural(len(tested), 'test slide')} counts once."
    return ResultTable(
        "centres", "Test slides per centre", caption, cells, note=note, row_heading="centre"
    )


def _shown(centre: str) -> str:
    return centre or _UNKNOWN
