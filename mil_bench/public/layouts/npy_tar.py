"""Archives of ``.npy`` files, one per slide, as torchmil publishes its datasets.

The large archive holds features ``[n, width]``; small ones beside it hold coordinates ``[n, 2]``,
labels of patches ``[n]`` (1 where a patch shows what the slide's label says) and labels of slides;
a CSV holds the official split (``bag_name``, ``split``). Nothing is extracted: each member is read
from the archive as it streams by. A member that is a link or whose path leaves the archive is
refused, and with it the archive.
"""

from __future__ import annotations

import csv
import math
import posixpath
import tarfile
import zlib
from typing import IO, TYPE_CHECKING

import numpy as np

from mil_bench.errors import MilBenchError
from mil_bench.intake.readers import RawBag
from mil_bench.intake.readers.interface import UNKNOWN_UNIT
from mil_bench.public.layouts.interface import Fetched, PublicBag, in_store_type

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

_MOST_EXPANSION = 100  # of a member, times the bytes of its archive
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def npy_tar(fetched: Fetched, written: Container[str]) -> Iterator[PublicBag]:
    """The slides of an archive of features."""
    coords, patch_labels, labels = (
        _all_arrays(fetched, what) for what in ("coords", "patch_labels", "labels")
    )
    split_of = _splits(fetched)
    for slide, features in _arrays(fetched, fetched.path, written):
        if features.ndim != 2 or features.dtype.kind != "f":
            raise fetched.unreadable(f"{slide} has shape {features.shape}, type {features.dtype}")
        raw = RawBag(
            in_store_type(features),
            coords=_beside(fetched, coords, slide, "coords", (len(features), 2)),
            coords_unit=UNKNOWN_UNIT if coords else "",
            instance_labels=_beside(fetched, patch_labels, slide, "patch_labels", (len(features),)),
        )
        label = _beside(fetched, labels, slide, "labels", (1,))
        name = "" if label is None else fetched.class_name(label[0])
        yield PublicBag(slide, raw, name, split_of.get(slide, fetched.file.split))


def _all_arrays(fetched: Fetched, what: str) -> dict[str, np.ndarray]:
    """The arrays of the small archives that hold something, by slide."""
    return {
        slide: array
        for path in fetched.beside.get(what, ())
        for slide, array in _arrays(fetched, path, ())
    }


def _beside(
    fetched: Fetched,
    arrays: dict[str, np.ndarray],
    slide: str,
    what: str,
    shape: tuple[int, ...],
) -> np.ndarray | None:
    """What belongs to a slide, None if the recipe has nothing of that kind.

    Raises:
        InputError: the slide has none, or one of another size.
    """
    if not arrays:
        return None
    array = arrays.get(slide)
    if array is None or array.size != math.prod(shape) or array.dtype.kind not in "biuf":
        found = "nothing" if array is None else f"shape {array.shape}, type {array.dtype}"
        raise fetched.unreadable(f"slide {slide} has {found} in {what}, expected shape {shape}")
    if what == "coords":
        return array.reshape(shape).astype(np.float64)
    if what == "patch_labels":
        if not np.isin(array, (0, 1)).all():
            raise fetched.unreadable(f"slide {slide} has {what} other than 0 and 1")
        return array.reshape(shape).astype(np.int16)
    return array.reshape(shape)


def _splits(fetched: Fetched) -> dict[str, str]:
    """Slide to official role."""
    roles = {}
    for path in fetched.beside.get("splits", ()):
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                if not row.get("bag_name") or row.get("split") not in ("train", "val", "test"):
                    raise fetched.unreadable(f"its splits have the row {row}")
                roles[row["bag_name"]] = row["split"]
    return roles


def _arrays(
    fetched: Fetched, path: Path, written: Container[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Slide and array of each member of an archive."""
    most = _MOST_EXPANSION * path.stat().st_size
    seen: set[str] = set()
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = posixpath.basename(member.name)
                _refuse_unsafe(fetched, member)
                if member.isdir() or name.startswith(".") or not name.endswith(".npy"):
                    continue
                slide = name.removesuffix(".npy")
                if slide in seen:
                    raise fetched.unreadable(f"{slide} is in it twice")
                seen.add(slide)
                stream = None if slide in written else archive.extractfile(member)
                if stream is not None:
                    yield slide, _array(stream, min(member.size, most))
    except MilBenchError:
        raise
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise fetched.unreadable(f"{type(error).__name__}: {error}") from error


def _refuse_unsafe(fetched: Fetched, member: tarfile.TarInfo) -> None:
    """Refuse what no archive of arrays holds: links, devices, paths that lead out of it."""
    leaves = member.name.startswith("/") or ".." in member.name.split("/")
    if leaves or not (member.isreg() or member.isdir()):
        what = "a path that leaves it" if leaves else "neither a file nor a folder"
        raise fetched.unreadable(f"its member {member.name!r} is {what}")


def _array(stream: IO[bytes], most: int) -> np.ndarray:
    """The array of a ``.npy`` file, read once and without pickles.

    Raises:
        ValueError: it is not one, or declares more bytes than ``most``.
    """
    try:
        shape, by_columns, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # a header is Python text, which can be wrong in any way
        raise ValueError(f"not a NumPy array ({error})") from error
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or size > most:
        raise ValueError(f"an array of shape {shape}, type {dtype}, in {most:,} bytes")
    array = np.empty(math.prod(shape), dtype)
    memory, first = array.view(np.uint8).data if size else memoryview(b""), 0
    while first < size:
        count = stream.readinto(memory[first:])  # type: ignore[attr-defined]  # IO lacks it
        if not count:
            raise ValueError(f"{first:,} of {size:,} bytes of an array")
        first += count
    return array.reshape(shape, order="F" if by_columns else "C")
