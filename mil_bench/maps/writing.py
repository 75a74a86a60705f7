"""The files that show the maps of a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench import durable
from mil_bench.inference.table_file import write_frame
from mil_bench.maps.contact_sheet import contact_sheet
from mil_bench.maps.geojson import geojson
from mil_bench.maps.page import page
from mil_bench.maps.slide_maps import TOP, file_name

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.maps.slide_maps import SlideMaps

_THUMBNAIL = 1200  # pixels
_LEGEND = "rank of the instance in {within} (0: lowest value, 1: highest)"


def write_maps(maps: SlideMaps, folder: Path) -> list[Path]:
    """Write picture, table, GeoJSON, contact sheets and the page that shows them together.

    Returns:
        The files; the page is the last one.
    """
    shown = picture(maps)
    files: list[tuple[str, str | bytes]] = [("map.png", shown)]
    sheets = {}
    for method in maps.methods:
        name = file_name(method.label)
        if maps.patches.are_pixels:
            files.append((f"{name}.geojson", geojson(maps.patches, method, maps.hierarchy.fine)))
        if maps.image is not None and maps.patches.are_pixels:
            sheets[method.label] = contact_sheet(maps.image, maps.patches, method.top(TOP))
            files.append((f"{name}.top.png", sheets[method.label]))
    for name, content in files:
        durable.replace(folder / name, content)
    write_frame(maps.frame, folder / "patches.csv")
    durable.replace(folder / "map.html", page(maps, shown, sheets))
    return [folder / name for name in (*(n for n, _ in files), "patches.csv", "map.html")]


def picture(maps: SlideMaps) -> bytes:
    """All methods side by side, or all classes of a single method, as a PNG file."""
    from mil_bench.report.figures.slides.maps import Ground, Panel, png, slide_maps

    shown = []
    if len(maps.methods) == 1:
        method = maps.methods[0]
        columns = [(method, k) for k in range(len(method.classes))]
    else:
        columns = [(method, method.shown) for method in maps.methods]
    for method, k in columns:
        title = method.name_of(k)
        if np.ptp(method.values[:, k]) == 0 and len(method.values) > 1:
            title += ", all values equal"
        if maps.witnesses is not None and k == method.shown:
            auc = method.auc(maps.witnesses)
            title += "" if np.isnan(auc) else f", AUC {100 * auc:.0f} %"
        shown.append(Panel(title, method.ranks[:, k]))
    if maps.witnesses is not None:
        shown.append(Panel("witnesses", maps.witnesses))
    image = None if maps.image is None else maps.image.thumbnail(_THUMBNAIL)
    size = (0.0, 0.0) if maps.image is None else maps.image.size
    ground = Ground(maps.patches.corners, maps.patches.side, image, size)
    return png(slide_maps(shown, ground, maps.title, _LEGEND.format(within=maps.within)))
