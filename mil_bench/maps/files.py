"""The files of a slide's maps; each of them is whole or absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.inference.table_file import write_frame
from mil_bench.maps.contact_sheet import contact_sheet
from mil_bench.maps.geojson import geojson
from mil_bench.maps.page import page
from mil_bench.maps.slide_maps import TOP, file_name

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.maps.slide_maps import SlideMaps


def write_maps(maps: SlideMaps, folder: Path) -> list[Path]:
    """Write picture, table, GeoJSON, contact sheets and the page that shows them together.

    Returns:
        The files; the page is the last one.

    Raises:
        StorageError: the folder or the disk refuses.
    """
    picture = maps.picture
    files: list[tuple[str, str | bytes]] = [("map.png", picture)]
    sheets = {}
    for method in maps.methods if maps.patches.are_pixels else ():
        name = file_name(method.label)
        files.append((f"{name}.geojson", geojson(maps.patches, method, maps.hierarchy.fine)))
        if maps.image is not None:
            sheets[method.label] = contact_sheet(maps.image, maps.patches, method.top(TOP))
            files.append((f"{name}.top.png", sheets[method.label]))
    for name, content in files:
        durable.replace(folder / name, content)
    write_frame(maps.frame, folder / "patches.csv")
    durable.replace(folder / "map.html", page(maps, picture, sheets))
    return [folder / name for name in (*(n for n, _ in files), "patches.csv", "map.html")]
