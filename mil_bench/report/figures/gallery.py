"""All figures of a run, each with its title and caption, drawn on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mil_bench.report.figures.classwise import classwise_auc
from mil_bench.report.figures.confusion import confusion
from mil_bench.report.figures.cost import cost
from mil_bench.report.figures.curves import precision_recall, roc
from mil_bench.report.figures.reliability import reliability
from mil_bench.report.figures.style import data_uri, svg
from mil_bench.report.figures.training import training_curves

if TYPE_CHECKING:
    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.verdicts import Evidence
    from mil_bench.report.tables import ResultTable

_ONE_VS_REST = (
    "one class against the rest, mean of the curves of all trainings; the tables give the spread."
)


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn.

    Args:
        title: heading.
        caption: what is seen.
        draw: draws it.
    """

    title: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True, eq=False)
class Gallery(Mapping[str, Figure]):
    """Name to figure.

    Args:
        pictures: name to what can be drawn, in the order of a report.
    """

    pictures: Mapping[str, Picture]
    _drawn: dict[str, Figure] = field(default_factory=dict, repr=False)
    _files: dict[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        evidence: Evidence,
        tables: Mapping[str, ResultTable],
        trained: Mapping[str, Sequence[TrainedFold]],
    ) -> Gallery:
        """The figures of a run.

        Args:
            evidence: what it measured.
            tables: its tables by name; "fine" and "classwise_auc" are used.
            trained: method to its trained folds.
        """
        pictures = {
            "classwise_auc": Picture(
                "Class-wise AUC",
                "Mean ± standard deviation over trainings, fine classes against the rest; dotted: chance.",
                lambda: classwise_auc(tables["classwise_auc"], evidence.hierarchy),
            ),
            "confusion_fine": Picture(
                "Confusion, fine level",
                "Percent of each true class, all folds together; classes in the order of the hierarchy"
                + ("." if evidence.hierarchy.is_flat else ", coarse classes outlined."),
                lambda: confusion(evidence, "fine"),
            ),
            "confusion_coarse": Picture(
                "Confusion, coarse level",
                "Percent of each true class, all folds together; fine probabilities summed over the children.",
                lambda: confusion(evidence, "coarse"),
            ),
            "roc": Picture("ROC curves", f"Fine level: {_ONE_VS_REST}", lambda: roc(evidence)),
            "precision_recall": Picture(
                "Precision-recall curves",
                f"Fine level: {_ONE_VS_REST} Dotted: share of the class.",
                lambda: precision_recall(evidence),
            ),
            "reliability": Picture(
                "Reliability",
                "Fine level, all folds together. Dots below the diagonal: overconfident; their area is the share of slides.",
                lambda: reliability(evidence),
            ),
            "training": Picture(
                "Training curves",
                "Validation cross-entropy of every training (left scale), the selected epoch, and the method's own "
                "training loss (right scale).",
                lambda: training_curves(trained),
            ),
            "cost": Picture(
                "Cost and quality",
                "Macro AUC of the fine level, mean ± standard deviation, against the mean wall time per training.",
                lambda: cost(trained, tables["fine"], "Macro AUC"),
            ),
        }
        if evidence.hierarchy.is_flat:
            del pictures["confusion_coarse"]
        return cls(pictures)

    def __getitem__(self, name: str) -> Figure:
        if name not in self._drawn:
            self._drawn[name] = self.pictures[name].draw()
        return self._drawn[name]

    def svg(self, name: str) -> bytes:
        """A figure as an SVG file, made once."""
        if name not in self._files:
            self._files[name] = svg(self[name])
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def _repr_html_(self) -> str:
        """All figures, for notebooks."""
        return "".join(
            f'<h4>{escape(p.title)}</h4><img src="{data_uri(self.svg(name))}" alt="{escape(p.title)}">'
            f"<p><small>{escape(p.caption)}</small></p>"
            for name, p in self.pictures.items()
        )
