"""The page of a slide's maps: one HTML file without other files or network access."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from mil_bench.errors import one_line
from mil_bench.report.render.html import html_section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.maps.slide_maps import SlideMaps

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .7rem;text-align:left}"
    "tr+tr{border-top:1px solid #ddd}img{max-width:100%}"
)


def page(maps: SlideMaps, picture: bytes, sheets: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        maps: what it shows.
        picture: the map as a PNG file.
        sheets: label of a method to its contact sheet as a PNG file.
    """
    title = escape(one_line(f"Maps of {maps.title}"))
    facts = [*maps.notes, *maps.patches.notes]
    facts += [f"{label} has no map: it {why}." for label, why in maps.without.items()]
    listed = "".join(f"<li>{escape(one_line(fact))}</li>" for fact in facts)
    parts = [f"<h1>{title}</h1>", f"<ul>{listed}</ul>" if listed else ""]
    parts.append(_image(picture, title))
    parts.append(html_section(maps.overview))
    for method, table in zip(maps.methods, maps.top_tables, strict=True):
        parts.append(html_section(table))
        if method.label in sheets:
            parts.append(_image(sheets[method.label], f"highest patches of {escape(method.label)}"))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = "\n".join(filter(None, parts))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _image(file: bytes, alt: str) -> str:
    return f'<p><img alt="{alt}" src="data:image/png;base64,{base64.b64encode(file).decode()}"></p>'
