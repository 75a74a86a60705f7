"""Maps of a slide: every patch in the colour of its rank, one panel per method or class."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.patches import Patch

from mil_bench.report.figures.names import text_of_name
from mil_bench.report.figures.style import panels, settings, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS, _PANEL = 4, 3.0  # panels per row, inches per panel
_LONGEST = 900  # pixels of a panel's longer side
_MAP = "viridis"
_WITNESS, _OTHER = "#D55E00", "#D9D9D9"
_OPACITY = 0.6  # of patches over an image
_DOTS = 160  # per inch


@dataclass(frozen=True, eq=False)
class Panel:
    """One map.

    Args:
        title: above it.
        values: from 0 to 1 ``[n]``; or, for witnesses, whether each instance is one.
    """

    title: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Ground:
    """What is below the patches.

    Args:
        corners: x and y of each patch's top left corner ``[n, 2]``.
        side: of a patch.
        image: the whole slide as RGB, or None.
        size: width and height of the whole slide in the unit of the corners; (0, 0) without image.
    """

    corners: np.ndarray
    side: float
    image: np.ndarray | None = None
    size: tuple[float, float] = (0.0, 0.0)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, top and bottom of what is shown."""
        if self.image is not None:
            return 0.0, float(self.size[0]), 0.0, float(self.size[1])
        (left, top), (right, bottom) = self.corners.min(0), self.corners.max(0) + self.side
        return float(left), float(right), float(top), float(bottom)


@styled
def slide_maps(maps: Sequence[Panel], ground: Ground, title: str, label: str) -> Figure:
    """The panels with one legend for all.

    Args:
        maps: at least one; those with booleans show witnesses.
        ground: where the patches lie.
        title: above all panels.
        label: what the colours mean.
    """
    left, right, top, bottom = ground.extent
    shape = np.clip((bottom - top) / (right - left), 0.3, 3.0)
    columns = min(_COLUMNS, len(maps))
    figure, axes = panels(len(maps), columns, (_PANEL, _PANEL * float(shape) + 0.4))
    figure.set_figheight(figure.get_figheight() + 1.0)
    # A legend needs some width, whatever the number of panels.
    figure.set_figwidth(max(figure.get_figwidth(), 4.5))
    for axis, panel in zip(axes, maps, strict=True):
        _draw(axis, panel, ground)
    figure.suptitle(text_of_name(title), fontsize=10, x=0.02, ha="left")
    scale = ScalarMappable(Normalize(0, 1), colormaps[_MAP])
    bar = figure.colorbar(
        scale, ax=axes, orientation="horizontal", aspect=30, fraction=0.04, pad=0.02, shrink=0.5
    )
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
    if any(panel.values.dtype == bool for panel in maps):
        handles = [Patch(color=_WITNESS, label="witness"), Patch(color=_OTHER, label="other")]
        figure.legend(handles=handles, loc="outside lower right", ncols=2)
    return figure


def png(figure: Figure) -> bytes:
    """A figure as a PNG file; the same figure gives the same bytes."""
    file = io.BytesIO()
    with settings():
        figure.savefig(file, format="png", dpi=_DOTS, metadata={"Software": None})
    return file.getvalue()


def _draw(axis: Axes, panel: Panel, ground: Ground) -> None:
    extent = ground.extent
    where = (extent[0], extent[1], extent[3], extent[2])  # the first row of pixels is on top
    if ground.image is not None:
        axis.imshow(ground.image, extent=where, interpolation="bilinear")
    axis.imshow(_painted(panel, ground), extent=where, interpolation="nearest")
    axis.set_xlim(extent[0], extent[1])
    axis.set_ylim(extent[3], extent[2])
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(text_of_name(panel.title), loc="left")


def _painted(panel: Panel, ground: Ground) -> np.ndarray:
    """The patches as RGBA ``[h, w, 4]``; where several overlap, their mean value is shown."""
    left, right, top, bottom = ground.extent
    scale = _LONGEST / max(right - left, bottom - top)
    height, width = (max(1, round(scale * length)) for length in (bottom - top, right - left))
    total, count = np.zeros((height, width)), np.zeros((height, width))
    starts = np.floor((ground.corners - (left, top)) * scale).astype(int)
    stops = np.ceil((ground.corners + ground.side - (left, top)) * scale - 1e-6).astype(int)
    starts, stops = starts.clip(min=0), np.maximum(stops, starts + 1)
    for (x, y), (to_x, to_y), value in zip(
        starts.tolist(), stops.tolist(), panel.values.astype(float).tolist(), strict=True
    ):
        total[y:to_y, x:to_x] += value
        count[y:to_y, x:to_x] += 1
    mean = total / np.maximum(count, 1)
    if panel.values.dtype == bool:
        colours = np.where((mean > 0)[..., None], _rgba(_WITNESS), _rgba(_OTHER))
    else:
        colours = colormaps[_MAP](mean)
    colours[..., 3] = (count > 0) * (1.0 if ground.image is None else _OPACITY)
    return colours


def _rgba(colour: str) -> np.ndarray:
    return np.array(to_rgba(colour))
