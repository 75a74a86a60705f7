"""The patches with the largest values, cut out of the slide, in one picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from mil_bench.maps.patches import Patches
    from mil_bench.maps.slide_image import SlideImage

_SIDE, _GAP, _COLUMNS = 160, 4, 6  # pixels, and patches per row


def contact_sheet(image: SlideImage, patches: Patches, chosen: np.ndarray) -> bytes:
    """Patches row by row, in the order given, as a PNG file.

    Args:
        image: of the slide.
        patches: in level-0 pixels.
        chosen: numbers of the instances, at least one.
    """
    rows = -(-len(chosen) // _COLUMNS)
    width = min(_COLUMNS, len(chosen)) * (_SIDE + _GAP) - _GAP
    sheet = np.full((rows * (_SIDE + _GAP) - _GAP, width, 3), 255, dtype=np.uint8)
    for place, i in enumerate(chosen):
        row, column = divmod(place, _COLUMNS)
        y, x = row * (_SIDE + _GAP), column * (_SIDE + _GAP)
        corner = patches.corners[i]
        cut = image.region(float(corner[0]), float(corner[1]), patches.side, _SIDE)
        sheet[y : y + _SIDE, x : x + _SIDE] = cut
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="PNG")
    return file.getvalue()
