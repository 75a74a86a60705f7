"""The image of a slide, through OpenSlide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_INSTALL = "Install it: pip install 'mil-bench[slides]'."


@dataclass(frozen=True, eq=False)
class SlideImage:
    """An open slide.

    Args:
        path: the file.
        size: width and height in level-0 pixels.
        micrometres_per_pixel: width of a level-0 pixel, None if the file does not say.
    """

    path: Path
    size: tuple[int, int]
    micrometres_per_pixel: float | None
    _slide: Any

    def thumbnail(self, longest: int) -> np.ndarray:
        """The whole slide as RGB ``[h, w, 3]``, its longer side at most so many pixels."""
        return np.asarray(self._read(self._slide.get_thumbnail, (longest, longest)))

    def region(self, x: float, y: float, side: float, pixels: int) -> np.ndarray:
        """A square of the slide as RGB ``[pixels, pixels, 3]``.

        Args:
            x: left edge in level-0 pixels.
            y: upper edge.
            side: in level-0 pixels.
            pixels: side of the result.
        """
        level = self._slide.get_best_level_for_downsample(max(1.0, side / pixels))
        read = max(1, round(side / self._slide.level_downsamples[level]))
        region = self._read(self._slide.read_region, (round(x), round(y)), level, (read, read))
        white = np.asarray(region, dtype=np.float64)
        alpha = white[..., 3:] / 255  # outside the slide it is transparent
        flat = (white[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        places = (np.arange(pixels) * read // pixels).clip(max=read - 1)
        return flat[places][:, places]

    def _read(self, call: Any, *arguments: Any) -> Any:
        from openslide import OpenSlideError

        try:
            return call(*arguments)
        except OpenSlideError as error:
            raise _unreadable(self.path, str(error)) from error


def open_slide(path: Path) -> SlideImage:
    """Open a slide of any format that OpenSlide knows.

    Raises:
        InputError: OpenSlide is not installed, or cannot open the file.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:  # without its library, importing it fails
        problem = f"OpenSlide cannot be loaded ({error})"
        raise InputError(f"slide image {path}", [problem], _INSTALL) from error
    if not path.is_file():
        raise _unreadable(path, "there is no such file")
    try:
        slide = openslide.OpenSlide(str(path))
    except openslide.OpenSlideError as error:
        raise _unreadable(path, str(error) or "OpenSlide does not know its format") from error
    return SlideImage(path, slide.dimensions, _pixel_width(slide.properties), slide)


def _pixel_width(properties: Any) -> float | None:
    try:
        width = float(properties["openslide.mpp-x"])
    except (KeyError, ValueError):
        return None
    return width if 0 < width < math.inf else None


def _unreadable(path: Path, reason: str) -> InputError:
    remedy = "Give a slide that OpenSlide opens, or leave --image out."
    return InputError(f"slide image {path}", [f"it cannot be read: {reason}"], remedy)
