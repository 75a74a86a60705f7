"""One slide, one id, however files and tables spell it."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from mil_bench.bags.label_file import without_uuid
from mil_bench.datasets.spelling import visible, without_point

if TYPE_CHECKING:
    from collections.abc import Iterable

HDF5_ENDINGS = (".h5", ".hdf5")
NUMPY_ENDINGS = (".npy",)
TORCH_ENDINGS = (".pt", ".pth")
"""Endings of feature files; the readers in ``mil_bench.intake.readers`` say which are whose."""

# Slide files that openslide, bio-formats and the vendors' programs read.
_SLIDE_ENDINGS = (
    *(".ome.tif", ".ome.tiff", ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu"),
    *(".bif", ".czi", ".qptiff", ".isyntax", ".svslide", ".dcm"),
)
_ENDING = re.compile(
    "|".join(
        f"{re.escape(ending)}$"
        for ending in (*_SLIDE_ENDINGS, *HDF5_ENDINGS, *NUMPY_ENDINGS, *TORCH_ENDINGS)
    ),
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(r"(?:[a-z]:|file:)?[\\/]|\.\.[\\/]", re.IGNORECASE)


def without_ending(slide: str) -> str:
    r"""A slide id as mil-bench writes it, whatever file, folder or table it comes from.

    It has no ending of a slide file (``BRACS_264.svs``) or feature file, no characters that nobody
    sees, and no folders of the machine on which a table was written (``C:\scans\S1.svs``,
    ``/a/S1``). A path below a folder stays, as some tables have it (``A/S1``). Some file systems
    decompose an "é" into two characters, which look the same and are not equal: ids are in NFC.
    """
    text = visible(slide)
    if _ABSOLUTE.match(text):
        text = re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return _ENDING.sub("", text.replace("\\", "/").removeprefix("./"))


def own_group(slide: str) -> str:
    """The group of a slide whose patient is unknown, or that is known to have none: the slide."""
    return f"slide {slide}"


class SlideNames:
    """A set of slide ids, to suggest which of them an id that is not in it may mean."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def near_miss(self, slide: str, where: str) -> str:
        """A hint at an id of the set that may be meant, with the difference; "" if none is similar.

        Args:
            slide: an id that is not in the set.
            where: where the ids of the set are from ("the label table").
        """
        near = "" if slide in self._names else self._by_core.get(_core(slide), "")
        if not near:
            return ""
        if near.lower() == slide.lower():
            return f"{where} has '{near}', in other upper and lower case"
        if slide != without_point(slide) == near:
            return f"{where} has '{near}': a spreadsheet or pandas gave the number a decimal point"
        bare = without_point(without_ending(slide))
        if near.lower() != bare.lower() and near.lstrip("0").lower() == bare.lstrip("0").lower():
            zeros = "leading zeros were lost" if len(near) < len(bare) else "leading zeros differ"
            return f"{where} has '{near}': {zeros}"
        return f"{where} has '{near}'"

    @cached_property
    def _by_core(self) -> dict[str, str]:
        return {_core(slide): slide for slide in sorted(self._names, reverse=True)}


def _core(slide: str) -> str:
    """What is left of an id without folders, endings, decimal point, leading zeros and case."""
    name = without_uuid(without_ending(slide).rpartition("/")[2])
    return without_point(name.lower()).lstrip("0")
