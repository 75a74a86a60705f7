"""One slide, one id, however files and tables spell it."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Slide files that openslide, bio-formats and the vendors' programs read, and the feature files made
# of them.
_ENDINGS = re.compile(
    r"\.(ome\.tiff?|svs|tiff?|ndpi|mrxs|scn|vms|vmu|bif|czi|qptiff|isyntax|svslide|dcm|h5|hdf5|npy|pth?)$",
    re.IGNORECASE,
)


def without_ending(slide: str) -> str:
    """A slide id without the ending of a slide file (``BRACS_264.svs``) or of a feature file, composed (NFC).

    Some file systems take an "é" apart into two characters, which look the same and are not equal.
    """
    return _ENDINGS.sub("", unicodedata.normalize("NFC", slide))


def own_group(slide: str) -> str:
    """The group of a slide whose patient is not known, or that is known to have none: it is its own."""
    return f"slide {slide}"


class SlideNames:
    """Known slide ids, to tell which of them an unknown one may mean."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def near_miss(self, slide: str, place: str) -> str:
        """Why a slide that is not known may be meant by one that is, as a hint; "" where nothing is near.

        Args:
            slide: the unknown id.
            place: where the known ones stand ("the sheet").
        """
        near = "" if slide in self._names else self._by_core.get(_core(slide), "")
        if not near:
            return ""
        if near.lower() == slide.lower():
            return f"{place} has '{near}', in other upper and lower case"
        bare = without_ending(slide)
        if near.lower() != bare.lower() and near.lstrip("0").lower() == bare.lstrip("0").lower():
            zeros = "leading zeros were lost" if len(near) < len(bare) else "leading zeros differ"
            return f"{place} has '{near}': {zeros}"
        return f"{place} has '{near}'"

    @cached_property
    def _by_core(self) -> dict[str, str]:
        return {_core(slide): slide for slide in sorted(self._names, reverse=True)}


def _core(slide: str) -> str:
    """What is left of an id when folders, a file's ending, leading zeros and case do not count."""
    return without_ending(slide).rpartition("/")[2].lower().lstrip("0")
