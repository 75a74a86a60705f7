"""How figures look: a method has the same colour, marker and line in every figure and run."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, ParamSpec

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mil_bench import registry
from mil_bench.report.figures.names import fonts, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.typing import RcKeyType

# The first seven are from Okabe and Ito's palette for colour-blind readers, without its yellow,
# which is too light for lines; the others are from Tol's muted palette. Markers and line styles
# distinguish methods for readers who cannot distinguish the colours.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    "#882255", "#999933", "#332288", "#AA4499", "#117733",
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_DASHES = (
    (), (4, 1.5), (1, 1), (5, 1, 1, 1), (2, 1), (7, 2), (3, 1, 1, 1, 1, 1),
    (1, 2.5), (10, 2), (3, 3), (9, 1, 2, 1), (6, 1, 1, 1, 1, 1, 1, 1),
)  # fmt: skip

LEGEND_LINE = 0.18
"""Height of a name in a legend, in inches."""
_THIN = 0.5  # width of a line that goes with hollow markers, relative to others

_SETTINGS: dict[RcKeyType, Any] = {
    "font.family": "sans-serif",
    # Names are text: "$" starts no formula, whatever the user's own settings are.
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.dpi": 110,
    "path.simplify_threshold": 0.5,  # half a point: invisible, and long curves stay small
    "svg.hashsalt": "mil-bench",  # the same figure gives the same file
}

_POINTS = 72
"""Points per inch, the unit of SVG files."""

_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Args:
        colour: of lines, markers and faces.
        marker: matplotlib's name for it.
        dashes: lengths on and off; () for a solid line.
        filled: whether markers are filled, and lines of full width.
    """

    colour: str
    marker: str
    dashes: tuple[float, ...]
    filled: bool

    def line(self, width: float = 1.4) -> dict[str, Any]:
        """Matplotlib's arguments for a line without markers."""
        return {
            "color": self.colour,
            "linewidth": width if self.filled else _THIN * width,
            "linestyle": (0, self.dashes) if self.dashes else "-",
        }

    def dots(self, size: float = 5) -> dict[str, Any]:
        """Matplotlib's arguments for markers without a line."""
        face = self.colour if self.filled else "white"
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": size,
            "markerfacecolor": face,
            "linestyle": "none",
        }


def styles(names: Sequence[str]) -> dict[str, Style]:
    """A style for every name.

    A name has the same style in every run, because the style follows from the name itself.
    Registered methods are assigned first, whether they are in the run or not.
    """
    registered = [*registry.methods.names(), *registry.yardsticks.names()]
    places: dict[str, int] = {}
    for name in [*registered, *sorted(set(names) - set(registered))]:
        size = len(_COLOURS)
        # Once all colours are used, they are used again with hollow markers and thin lines.
        turn = len(places) // size * size
        place = int(hashlib.sha256(name.encode(errors="backslashreplace")).hexdigest(), 16) % size
        while turn + place in places.values():
            place = (place + 1) % size
        places[name] = turn + place
    return {name: _style(places[name]) for name in names}


def _style(place: int) -> Style:
    turn, colour = divmod(place, len(_COLOURS))
    other = colour + 5 * turn  # so the same colour has another marker and other dashes
    return Style(
        _COLOURS[colour],
        _MARKERS[other % len(_MARKERS)],
        _DASHES[other % len(_DASHES)],
        turn % 2 == 0,
    )


def styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Draw with the settings of all figures; the user's own settings do not change."""

    @wraps(draw)
    def inside(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        with settings():
            return draw(*args, **kwargs)

    return inside


def settings() -> AbstractContextManager[None]:
    """Matplotlib's settings for all figures, inside a ``with``."""
    return rc_context({**_SETTINGS, "font.sans-serif": list(fonts())})


def svg(figure: Figure) -> bytes:
    """A figure as an SVG file; the same figure always gives the same bytes."""
    file = io.BytesIO()
    with settings(), _laid_out(figure) as canvas:
        canvas.print_svg(file, metadata={"Date": None, "Creator": None})
    # An id may be in a file only once.
    number = count()
    content = re.sub(
        rb' id="(method-\w+)', lambda found: b"%s-%d" % (found[0], next(number)), file.getvalue()
    )
    # Paths are rounded to a hundredth of a point: with six digits they are a third of the file.
    return re.sub(rb' d="[^"]+', lambda d: re.sub(rb"(\.\d\d)\d+", rb"\1", d[0]), content)


@contextmanager
def _laid_out(figure: Figure) -> Iterator[FigureCanvasSVG]:
    """The figure with its panels in their final places, and what writes it as SVG.

    ``Figure.savefig`` draws everything into nothing to find these places, and then once more: a
    tenth of the time of a report. The places depend on the layout alone.
    """
    engine, dpi, before = figure.get_layout_engine(), figure.dpi, figure.canvas
    canvas = FigureCanvasSVG(figure)
    try:
        if engine is not None:
            figure.dpi = _POINTS  # as in the file
            engine.execute(figure)
            figure.dpi = dpi
            figure.set_layout_engine("none")
        yield canvas
    finally:
        figure.set_canvas(before)
        figure.dpi = dpi
        if engine is not None:
            figure.set_layout_engine(engine)


def data_uri(file: bytes) -> str:
    """An SVG file as the ``src`` of an ``img`` element."""
    return f"data:image/svg+xml;base64,{base64.b64encode(file).decode()}"


def method_id(name: str) -> str:
    """What a part of an SVG file that is drawn for a method is called; parts of one are numbered.

    A page finds the parts of a method by it.
    """
    return f"method-{hashlib.sha256(name.encode(errors='backslashreplace')).hexdigest()[:12]}"


@contextmanager
def of_method(axes: Axes, name: str) -> Iterator[None]:
    """What is drawn inside the ``with`` belongs to a method."""
    before = set(axes.get_children())
    yield
    for part in axes.get_children():
        if part not in before:
            part.set_gid(method_id(name))


def panels(
    count: int, columns: int, size: tuple[float, float], shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with panels in rows.

    Args:
        count: number of panels, at least 1.
        columns: most panels per row.
        size: width and height of each panel, in inches.
        shared: whether all have the same axes; then only the outer ones are labelled.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = (
        figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False).ravel().tolist()
    )
    for unused in axes[count:]:
        unused.set_axis_off()
    for lowest in axes[max(0, count - columns) : count]:
        lowest.tick_params(labelbottom=True)
    return figure, axes[:count]


def legend(figure: Figure, handles: Mapping[str, Artist]) -> None:
    """One legend above all panels, with as many columns as its names leave room for.

    The figure becomes higher by the legend, so that many names do not make the panels small.
    """
    texts = texts_of(handles)
    widest = max(map(len, texts.values()))
    # In inches: the width of a letter, and of a line with its gaps.
    columns = max(1, int(figure.get_figwidth() / (0.075 * widest + 0.7)))
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * -(-len(texts) // columns))
    drawn = figure.legend(
        handles.values(),
        texts.values(),
        loc="outside upper left",
        ncols=columns,
        handlelength=3,
        columnspacing=1.2,
    )
    mark_legend(drawn, handles)


def mark_legend(drawn: Legend, names: Iterable[str]) -> None:
    """The entries of a legend belong to the methods whose names they are.

    Args:
        drawn: the legend.
        names: of its entries, in their order.
    """
    entries = zip(names, drawn.legend_handles, drawn.get_texts(), strict=True)
    for name, handle, text in entries:
        text.set_gid(method_id(name))
        if handle is not None:
            handle.set_gid(method_id(name))
