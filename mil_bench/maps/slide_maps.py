"""The maps of one slide by one or several methods, and the files that show them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mil_bench import durable
from mil_bench.inference.table_file import write_frame
from mil_bench.maps.contact_sheet import contact_sheet
from mil_bench.maps.geojson import geojson
from mil_bench.maps.values import RULE
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.maps.patches import Patches
    from mil_bench.maps.slide_image import SlideImage
    from mil_bench.maps.values import MethodMap

TOP = 12
"""Number of instances that are listed and cut out."""
_THUMBNAIL = 1200  # pixels
_LEGEND = "rank of the instance in its slide (0: lowest value, 1: highest)"


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

    @property
    def title(self) -> str:
        """Slide, and its class if that is known."""
        return f"{self.slide}{f', class {self.label}' if self.label else ''}"

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
        return pd.DataFrame({"slide": self.slide, **columns})

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
        return ResultTable("maps", f"Maps of {self.title}", "", cells, note=RULE)

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

    def figure(self) -> Figure:
        """All methods side by side; of a single method, all its classes."""
        from mil_bench.report.figures.slide_maps import Ground, Panel, slide_maps

        shown = []
        if len(self.methods) == 1:
            method = self.methods[0]
            columns = [(method, k) for k in range(len(method.classes))]
        else:
            columns = [(method, method.shown) for method in self.methods]
        for method, k in columns:
            title = method.name_of(k)
            if np.ptp(method.values[:, k]) == 0 and len(method.values) > 1:
                title += ", all values equal"
            if self.witnesses is not None and k == method.shown:
                auc = method.auc(self.witnesses)
                title += "" if np.isnan(auc) else f", AUC {100 * auc:.0f} %"
            shown.append(Panel(title, method.ranks[:, k]))
        if self.witnesses is not None:
            shown.append(Panel("witnesses", self.witnesses))
        image = None if self.image is None else self.image.thumbnail(_THUMBNAIL)
        size = (0.0, 0.0) if self.image is None else self.image.size
        ground = Ground(self.patches.corners, self.patches.side, image, size)
        return slide_maps(shown, ground, self.title, _LEGEND)

    def write(self, folder: Path) -> list[Path]:
        """Write picture, table, GeoJSON, contact sheets and the page that shows them together.

        Returns:
            The files; the page is the last one.
        """
        from mil_bench.maps.page import page
        from mil_bench.report.figures.slide_maps import png

        picture = png(self.figure())
        files: list[tuple[str, str | bytes]] = [("map.png", picture)]
        sheets = {}
        for method in self.methods:
            name = file_name(method.label)
            if self.patches.are_pixels:
                text = geojson(self.patches, method, self.hierarchy.fine)
                files.append((f"{name}.geojson", text))
            if self.image is not None and self.patches.are_pixels:
                sheets[method.label] = contact_sheet(self.image, self.patches, method.top(TOP))
                files.append((f"{name}.top.png", sheets[method.label]))
        for name, content in files:
            durable.replace(folder / name, content)
        write_frame(self.frame, folder / "patches.csv")
        durable.replace(folder / "map.html", page(self, picture, sheets))
        return [folder / name for name in (*(n for n, _ in files), "patches.csv", "map.html")]


def file_name(text: str) -> str:
    """A method's label or a slide's id as the name of a file."""
    return re.sub(r"[^\w.+-]", "_", text) or "_"
