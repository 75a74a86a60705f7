"""Instances as GeoJSON polygons in level-0 pixels, as QuPath opens them.

QuPath reads a FeatureCollection whose features have ``objectType``, a ``classification`` with a
name and a colour, and ``measurements`` as names and numbers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.maps.patches import Patches
    from mil_bench.maps.values import MethodMap

COLOURS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (0, 0, 0),
    (136, 34, 85),
    (153, 153, 51),
    (51, 34, 136),
)
"""Okabe and Ito's colours for readers who are colour-blind, then some of Tol's."""


def geojson(patches: Patches, method: MethodMap, classes: Sequence[str]) -> str:
    """One polygon per patch, with its value and rank in every column.

    A patch has the class in whose column it ranks highest; if one column holds for all classes,
    all patches have the class that the slide is predicted to be.

    Args:
        patches: in level-0 pixels.
        method: the values.
        classes: names of the fine classes.
    """
    ranks = method.ranks
    predicted = classes[int(method.probabilities.argmax())]
    columns = [f"{method.label} {name}".strip() for name in method.classes]
    features = []
    for i, (x, y) in enumerate(patches.corners):
        name = method.classes[int(ranks[i].argmax())] or predicted
        colour = COLOURS[list(classes).index(name) % len(COLOURS)]
        measurements = {}
        for k, column in enumerate(columns):
            measurements[f"{column} value"] = float(method.values[i, k])
            measurements[f"{column} rank"] = round(float(ranks[i, k]), 6)
        properties = {
            "objectType": "detection",
            "classification": {"name": name, "color": list(colour)},
            "measurements": measurements,
        }
        ring = _ring(float(x), float(y), patches.side)
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append(
            json.dumps({"type": "Feature", "geometry": geometry, "properties": properties})
        )
    return '{"type": "FeatureCollection", "features": [\n' + ",\n".join(features) + "\n]}\n"


def _ring(x: float, y: float, side: float) -> list[list[Any]]:
    """The corners of a square, the first one twice, as the standard wants it."""
    left, top, right, bottom = map(_number, (x, y, x + side, y + side))
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def _number(value: float) -> float | int:
    rounded = np.round(value, 3)
    return int(rounded) if rounded == int(rounded) else float(rounded)
