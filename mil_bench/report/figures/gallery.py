"""All figures of a run, with titles and captions; each is drawn when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mil_bench.report.figures.classwise import class_heat_map, classwise_auc
from mil_bench.report.figures.confusion import confusion
from mil_bench.report.figures.cost import cost
from mil_bench.report.figures.curves import band_sentences, precision_recall, roc
from mil_bench.report.figures.reliability import reliability
from mil_bench.report.figures.style import data_uri, method_id, svg
from mil_bench.report.figures.training import training_curves
from mil_bench.report.overview.forest import by_mean
from mil_bench.report.render.html import by_rank
from mil_bench.report.render.inline_svg import inline_svg
from mil_bench.wording import in_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Evidence
    from mil_bench.report.tables import ResultTable

_ONE_VS_REST = "One-vs-rest curves of the {}, mean over all trainings."
_NO_INTERVAL = (
    "Precision increases if slides are drawn twice, so a curve can be low in its band; average "
    "precision, the area under these curves, has no interval for this reason."
)
_NO_ECE = (
    "The calibration error (ECE) has no interval: it is biased upwards, on drawn slides still more."
)


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn.

    Args:
        title: heading.
        caption: what it shows.
        draw: draws it.
    """

    title: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True, eq=False)
class Gallery(Mapping[str, Figure]):
    """The figures of a run, by name.

    Args:
        pictures: name to figure, in the order of the report.
    """

    pictures: Mapping[str, Picture]
    _drawn: dict[str, Figure] = field(default_factory=dict, repr=False)
    _files: dict[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        evidence: Evidence,
        tables: Mapping[str, ResultTable],
        measure: Measure,
    ) -> Gallery:
        """The figures of a run, with its methods in the order of their means.

        Args:
            evidence: what it measured.
            tables: its tables by name; "fine" and "classwise_auc" are used.
            measure: what methods are compared on.
        """
        main, hierarchy = evidence.main.metric, evidence.hierarchy
        classes, of_level = (
            hierarchy.fine_classes,
            "" if hierarchy.is_flat else " of the fine level",
        )
        order = by_mean(evidence, measure)
        evidence = _in_order(evidence, order)
        tables = {name: by_rank(table, order) for name, table in tables.items()}
        pictures = {
            "heat_map": Picture(
                "Methods and classes",
                f"One-vs-rest AUC (%) of the {classes}, mean over trainings; methods in the order "
                "of their means. The darker a cell, the higher is its AUC among all cells.",
                lambda: class_heat_map(tables["classwise_auc"], hierarchy),
            ),
            "classwise_auc": Picture(
                "Class-wise AUC",
                f"One-vs-rest AUC of the {classes}, mean ± standard deviation over trainings. "
                "Dotted line: chance.",
                lambda: classwise_auc(tables["classwise_auc"], hierarchy),
            ),
            "confusion_fine": Picture(
                "Confusion" if hierarchy.is_flat else "Confusion, fine level",
                "Percent of each true class, over all folds; classes in the order of the "
                + ("card" if hierarchy.is_flat else "hierarchy")
                + ("." if hierarchy.is_flat else ", coarse classes outlined."),
                lambda: confusion(evidence, "fine"),
            ),
            "confusion_coarse": Picture(
                "Confusion, coarse level",
                "Percent of each true class, over all folds. The coarse prediction comes from the "
                "fine probabilities summed over the children.",
                lambda: confusion(evidence, "coarse"),
            ),
            **_curves(evidence),
            "reliability": Picture(
                "Reliability",
                f"Calibration{of_level}, over all folds: accuracy against the probability of the "
                "predicted class. Points below the diagonal: overconfident. A point's area shows "
                f"the proportion of slides. {_NO_ECE}",
                lambda: reliability(evidence),
            ),
            "training": Picture(
                "Training curves",
                "Validation cross-entropy of every training (left axis) with the selected epoch, "
                "and each method's own training loss (right axis).",
                lambda: training_curves(evidence.trained),
            ),
            "cost": Picture(
                "Cost and quality",
                f"{main.heading}{of_level}, mean ± standard deviation over trainings, "
                "against the mean wall time per training, which other work on the machine "
                "lengthens.",
                lambda: cost(evidence.trained, tables["fine"], main),
            ),
        }
        if hierarchy.is_flat:
            del pictures["confusion_coarse"]
        return cls(pictures)

    def in_unit(self, unit: str) -> Gallery:
        """The figures with captions about items of a comparison, see ``wording.in_unit``."""
        return Gallery(
            {
                name: replace(picture, caption=in_unit(picture.caption, unit))
                for name, picture in self.pictures.items()
            }
        )

    def __getitem__(self, name: str) -> Figure:
        if name not in self._drawn:
            self._drawn[name] = self.pictures[name].draw()
        return self._drawn[name]

    @cached_property
    def failures(self) -> dict[str, str]:
        """Figures that cannot be drawn, each with a sentence that says why; draws all others."""
        reasons = {}
        for name, picture in self.pictures.items():
            try:
                self.svg(name)
            except Exception as error:  # a figure that fails costs no table and no other figure
                what = str(error).strip().splitlines() or ["no message"]
                reasons[name] = (
                    f"The figure '{picture.title}' is missing; it could not be drawn: "
                    f"{type(error).__name__}: {what[-1]}"
                )
        return reasons

    def svg(self, name: str) -> bytes:
        """A figure as an SVG file, made once."""
        if name not in self._files:
            self._files[name] = svg(self[name])
        return self._files[name]

    def inline(self, name: str, numbers: Mapping[str, tuple[int, ...]]) -> str:
        """A figure as an SVG element of a page, "" if it cannot be drawn.

        Args:
            name: of the figure.
            numbers: of the methods that the page can hide; what is drawn for one has its number as
                ``data-m``.
        """
        if name in self.failures:
            return ""
        picture = self.pictures[name]
        of_id = {method_id(method): (method, number) for method, number in numbers.items()}
        words = f"{picture.title}: {picture.caption}"
        return inline_svg(self.svg(name), f"{name}-", words, of_id)

    def image(self, name: str) -> str:
        """A figure as the ``src`` of an ``img`` element, "" if it cannot be drawn."""
        return "" if name in self.failures else data_uri(self.svg(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def _repr_html_(self) -> str:
        """All figures, for notebooks."""
        return "".join(map(self.html, self.pictures))

    def html(self, name: str) -> str:
        """A figure with heading and caption, or why it is missing, for notebooks."""
        title, caption = (escape(getattr(self.pictures[name], w)) for w in ("title", "caption"))
        if reason := self.failures.get(name):
            return f"<h4>{title}</h4><p>{escape(reason)}</p>"
        image = f'<img src="{self.image(name)}" alt="{title}">'
        return f"<h4>{title}</h4>{image}<p><small>{caption}</small></p>"


def _in_order(evidence: Evidence, order: Sequence[str]) -> Evidence:
    """The evidence with its methods in an order; further ones are last.

    What it has computed goes by names of methods and is kept.
    """
    methods = dict.fromkeys([*order, *evidence.trained])
    ordered = copy(evidence)
    object.__setattr__(ordered, "trained", {name: evidence.trained[name] for name in methods})
    return ordered


def _curves(evidence: Evidence) -> dict[str, Picture]:
    one_vs_rest = _ONE_VS_REST.format(evidence.hierarchy.fine_classes)
    bands = band_sentences(evidence)
    return {
        "roc": Picture("ROC curves", f"{one_vs_rest} {bands}", lambda: roc(evidence)),
        "precision_recall": Picture(
            "Precision-recall curves",
            f"{one_vs_rest} Dotted line: proportion of the class. {bands} {_NO_INTERVAL}",
            lambda: precision_recall(evidence),
        ),
    }
