"""The maps of one slide by one or several methods."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mil_bench.maps.values import RULE
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.maps.patches import Patches
    from mil_bench.maps.slide_image import SlideImage
    from mil_bench.maps.values import MethodMap

TOP = 12
"""Number of instances that are listed and cut out."""


@dataclass(frozen=True, eq=False)
class SlideMaps:
    """Where methods look in a slide.

    Args:
        slide: its id.
        label: its fine class, "" if it is unknown.
        hierarchy: the classes.
        patches: where its instances lie.
        methods: the maps.
        without: label of each method without a map to a sentence that says why.
        witnesses: whether each instance is a witness ``[n]``, None if that is unknown.
        image: of the slide, None if none was given.
        notes: what must be known, one sentence each.
        patient: of the slide, if labels of the run belong to patients; else "".
    """

    slide: str
    label: str
    hierarchy: LabelHierarchy
    patches: Patches
    methods: Sequence[MethodMap]
    without: Mapping[str, str] = field(default_factory=dict)
    witnesses: np.ndarray | None = None
    image: SlideImage | None = None
    notes: Sequence[str] = ()
    patient: str = ""

    @property
    def title(self) -> str:
        """Slide, and its patient and class if they are known."""
        patient = f" of {self.patient}" if self.patient else ""
        return f"{self.slide}{patient}{f', class {self.label}' if self.label else ''}"

    @property
    def within(self) -> str:
        """What instances are ranked in."""
        is_part = any(method.bag_ranks is not None for method in self.methods)
        return "the bag of its patient" if is_part else "its slide"

    @property
    def frame(self) -> pd.DataFrame:
        """One row per instance: number, x, y, side, and value and rank in every column.

        ``witness`` is there if witnesses are known.
        """
        columns: dict[str, object] = {"instance": np.arange(len(self.patches.corners))}
        if self.patches.have_coords:
            columns |= {"x": self.patches.corners[:, 0], "y": self.patches.corners[:, 1]}
            columns |= {"side": self.patches.side, "unit": self.patches.unit}
        if self.witnesses is not None:
            columns["witness"] = self.witnesses.astype(int)
        for method in self.methods:
            ranks = method.ranks
            for k in range(len(method.classes)):
                columns[f"{method.name_of(k)} value"] = method.values[:, k]
                columns[f"{method.name_of(k)} rank"] = ranks[:, k]
        whose = {"patient": self.patient} if self.patient else {}
        return pd.DataFrame({"slide": self.slide, **whose, **columns})

    @property
    def overview(self) -> ResultTable:
        """One row per method: prediction, models, attention AUC, and what a value means."""
        cells: dict[str, dict[str, Cell | str]] = {}
        for method in self.methods:
            best = int(method.probabilities.argmax())
            row: dict[str, Cell | str] = {
                "Predicted": self.hierarchy.fine[best],
                "Probability (%)": Cell(100 * float(method.probabilities[best])),
                "Models": Cell.count(method.models),
                "Shown": method.classes[method.shown] or "all classes",
            }
            if self.witnesses is not None:
                auc = method.auc(self.witnesses)
                row["Attention AUC (%)"] = Cell.absent() if np.isnan(auc) else Cell(100 * auc)
            cells[method.label] = row | {"Value": method.meaning}
        return ResultTable(
            "maps", f"Maps of {self.title}", "", cells, note=RULE.format(within=self.within)
        )

    @property
    def top_tables(self) -> list[ResultTable]:
        """The instances with the largest values, one table per method."""
        return [self._top_table(method) for method in self.methods]

    def _top_table(self, method: MethodMap) -> ResultTable:
        cells: dict[str, dict[str, Cell | str]] = {}
        for place, i in enumerate(method.top(TOP)):
            row: dict[str, Cell | str] = {"Instance": Cell.count(int(i))}
            if self.patches.have_coords:
                x, y = self.patches.corners[i]
                row |= {"x": Cell(x, digits=0), "y": Cell(y, digits=0)}
            row["Value"] = Cell(float(method.values[i, method.shown]), digits=4)
            if self.witnesses is not None:
                row["Witness"] = "yes" if self.witnesses[i] else "no"
            cells[str(place + 1)] = row
        name = f"top_{file_name(method.label)}"
        title = f"Highest instances, {method.name_of(method.shown)}"
        note = "Instances are counted from 0."
        return ResultTable(name, title, "", cells, note=note, row_heading="place")


def file_name(text: str) -> str:
    """A method's label or a slide's id as the name of a file."""
    return re.sub(r"[^\w.+-]", "_", text) or "_"
