"""The slides that most methods get wrong, with what every method gives to their true class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.datasets.card import SLIDE
from mil_bench.report.tables import ABSENT, Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.verdicts import Evidence

_MOST = 20
_NOTE = (
    "The tested slides that most methods get wrong; of equal ones those with the lowest mean "
    "probability. A method gets a slide wrong if its mean probability over the trainings that "
    "tested the slide is highest for another class. A column of a method is its probability (%) of "
    "the true class. Such slides are worth a look: their label may be wrong, or their image may be "
    "poor. They were found on test slides, so no setting may be chosen by them."
)


@dataclass
class _Slide:
    """A tested slide: its label, its group, and per method the probabilities of its tests."""

    label: int
    group: str
    tests: dict[str, list[np.ndarray]] = field(default_factory=dict)


def hardest_slides(evidence: Evidence, order: Sequence[str], caption: str) -> ResultTable | None:
    """The table, None if no method is complete or none gets a slide wrong.

    Args:
        evidence: what a run measured.
        order: the methods, the best first.
        caption: of the run.
    """
    methods = [method for method in order if method in evidence.contestants]
    slides: dict[str, _Slide] = {}
    for method in methods:
        for fold in evidence.trained[method]:
            tested = fold.predictions
            for i, name in enumerate(tested.slides.tolist()):
                slide = slides.setdefault(name, _Slide(int(tested.labels[i]), tested.groups[i]))
                slide.tests.setdefault(method, []).append(tested.fine[i])
    means = {
        name: {method: np.mean(tests, axis=0) for method, tests in slide.tests.items()}
        for name, slide in slides.items()
    }
    wrong = {
        name: [m for m, mean in of_slide.items() if mean.argmax() != slides[name].label]
        for name, of_slide in means.items()
    }
    hard = sorted(
        (name for name, of in wrong.items() if of),
        key=lambda name: (
            -len(wrong[name]),
            float(np.mean([mean[slides[name].label] for mean in means[name].values()])),
            name,
        ),
    )[:_MOST]
    if not hard:
        return None
    group = evidence.group_name.capitalize() if evidence.unit == SLIDE else ""
    cells = {name: _row(evidence.hierarchy.fine, slides[name], means[name], group) for name in hard}
    return ResultTable(
        "hardest",
        "Hardest slides",
        caption,
        cells,
        note=_NOTE,
        row_heading=evidence.unit,
        method_columns=tuple(methods),
    )


def _row(
    classes: Sequence[str], slide: _Slide, means: Mapping[str, np.ndarray], group: str
) -> dict[str, Cell | str]:
    row: dict[str, Cell | str] = {"Class": classes[slide.label]}
    if group:
        row[group] = str(slide.group) or ABSENT
    highest = {method: int(mean.argmax()) for method, mean in means.items()}
    mistaken = [classes[c] for c in highest.values() if c != slide.label]
    wrong = f"{len(mistaken)} of {len(means)}"
    row["Wrong"] = Cell.single(len(mistaken) / len(means), wrong)
    row["Mostly taken for"] = max(dict.fromkeys(mistaken), key=mistaken.count)
    for method, mean in means.items():
        why = f"highest: {classes[highest[method]]}, {100 * mean.max():.1f} %"
        row[method] = Cell(100 * float(mean[slide.label]), why=why)
    return row
