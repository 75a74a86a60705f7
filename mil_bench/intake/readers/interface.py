"""What a reader is, and what it gives: a feature file whose shape is known before its rows."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
LEVEL_0 = "level-0 pixels"
MICROMETRES = "micrometres"
UNKNOWN_UNIT = "unknown unit"
FEATURE_KEYS = ("features", "feats", "patch_embeddings")
"""Names under which the tools store features: CLAM and TRIDENT, STAMP, STAMP's other spelling."""

_HARMLESS = 2**26  # bytes: below them no expansion does harm
EXTRACT_AGAIN = "Extract this slide's features again, or take the file out of the folder."


@dataclass(frozen=True)
class Reading:
    """How feature files are to be read.

    Args:
        key: name of the features in a file, "" for one of ``FEATURE_KEYS``.
        most_expansion: a file whose values take more than so many times its own bytes is refused.
    """

    key: str = ""
    most_expansion: float = 100.0

    @property
    def keys(self) -> tuple[str, ...]:
        """Names under which features are looked for."""
        return (self.key,) if self.key else FEATURE_KEYS


AS_USUAL = Reading()
_READING: ContextVar[Reading] = ContextVar("reading", default=AS_USUAL)
# A context variable, since readers of packages are called with a path and a slide only.


def reading() -> Reading:
    """How the file that is open now is to be read."""
    return _READING.get()


@contextlib.contextmanager
def read_as(how: Reading) -> Iterator[None]:
    """Read files in this way inside the block."""
    token = _READING.set(how)
    try:
        yield
    finally:
        _READING.reset(token)


def check_expansion(path: Path, stored: int, declared: int) -> None:
    """Refuse values that take many times the bytes of their file, as a compressed bomb does.

    Args:
        path: the file.
        stored: bytes in the file.
        declared: bytes of the values in memory.

    Raises:
        InputError: they take more than ``Reading.most_expansion`` times as many.
    """
    most = reading().most_expansion
    if declared > max(_HARMLESS, most * stored):
        times = f"{declared / max(1, stored):,.0f} times as many"
        raise broken(
            path,
            f"holds {stored:,} bytes that unpack to {declared:,}, {times}, so it was not read",
            f"If that is right, allow it with --max-expansion (now {most:g}).",
        )


@dataclass(frozen=True, eq=False)
class RawBag:
    """One file's content.

    Args:
        features: ``[n, D]`` float16, float32 or float64, as stored (bfloat16 becomes float32,
            which is exact).
        coords: ``[n, 2]`` float64, x and y of a patch's top left corner, or None.
        coords_unit: "level-0 pixels", "micrometres", "unknown unit" if the file does not say, ""
            without coords.
        patch_size: side of a patch in that unit, None if the file does not say.
        instance_labels: ``[n]`` int16, 0 or 1 as torchmil stores them, or None.
    """

    features: np.ndarray
    coords: np.ndarray | None = None
    coords_unit: str = ""
    patch_size: float | None = None
    instance_labels: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureFile(ABC):
    """One slide's features on disk.

    Args:
        path: the file.
        slide: slide id, what labels refer to.
        format: name of the format, for messages.
        rows: number of instances, n.
        width: feature width, D.
        dtype: "float16" or "float32", the type of the rows as ``read`` gives them; a reader's own
            may be "float64".
        encoder: name of the encoder, "" if the file does not say.
        coords_unit: unit of the coordinates as in :class:`RawBag`, "" if there are none.
        has_instance_labels: whether labels of the instances come with the features.
        how: how it is read; ``open_features`` sets it.
        is_double: whether the file holds float64, of which ``read`` makes float32;
            ``open_features`` sets it.
    """

    path: Path
    slide: str
    format: str
    rows: int
    width: int
    dtype: str
    encoder: str = ""
    coords_unit: str = ""
    has_instance_labels: bool = False
    how: Reading = AS_USUAL
    is_double: bool = False

    @property
    def has_coords(self) -> bool:
        """Whether coordinates come with the features."""
        return bool(self.coords_unit)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The file, and others that are read with it."""
        return tuple(value for value in vars(self).values() if isinstance(value, Path))

    def read(self) -> RawBag:
        """All rows in their stored type.

        Raises:
            InputError: the file is broken, or is no longer what it was when it was opened.
        """
        try:
            with read_as(self.how):
                bag = self.load()
        except OSError as error:
            raise broken(
                Path(error.filename or self.path), f"cannot be read: {error.strerror}"
            ) from error
        if self.is_double and bag.features.dtype == np.float64:
            with np.errstate(over="ignore"):  # what overflows is reported as infinite
                bag = replace(bag, features=bag.features.astype(np.float32))
        now = (*bag.features.shape, bag.features.dtype.name, bag.coords_unit)
        if now != (self.rows, self.width, self.dtype, self.coords_unit):
            raise broken(
                self.path, "changed while it was read", "Wait until it is written, and try again."
            )
        return bag

    @abstractmethod
    def load(self) -> RawBag:
        """What the file holds now; ``read`` compares its shape with the one at opening."""


@dataclass(frozen=True)
class FileStart:
    """What readers recognise their files by.

    Args:
        path: the file.
        content: at most its first 4 KiB; empty if the file is empty.
    """

    path: Path
    content: bytes

    @property
    def is_hdf5(self) -> bool:
        """Whether it is an HDF5 file."""
        return self.content.startswith(HDF5_SIGNATURE)

    @cached_property
    def datasets(self) -> dict[str, frozenset[str]]:
        """What the root of an HDF5 file holds: name to the names of its attributes.

        Empty for other files and for damaged ones. A link to another place is not followed and
        has no attributes here.
        """
        if not self.is_hdf5:
            return {}
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                return {name: _attributes(file, name) for name in file}
        except Exception:  # a damaged file makes HDF5 raise almost anything
            return {}


def _attributes(file: h5py.File, name: str) -> frozenset[str]:
    is_here = isinstance(file.get(name, getlink=True), h5py.HardLink)
    return frozenset(file[name].attrs) if is_here else frozenset()


@dataclass(frozen=True)
class Reader:
    """A format of feature files.

    Args:
        title: whose files they are, as messages name them ("STAMP's .h5").
        endings: endings of their names in lower case (".h5"); every file of a folder that has one
            is opened.
        matches: whether a file is in this format, according to its content; must not raise.
        open: opens the file of a slide (path, slide id) with its shape read; raises ``InputError``
            if the file is broken.
    """

    title: str
    endings: tuple[str, ...]
    matches: Callable[[FileStart], bool]
    open: Callable[[Path, str], FeatureFile]


def broken(path: Path, problem: str, remedy: str = EXTRACT_AGAIN) -> InputError:
    """The error of a feature file, with its path as it was given.

    Args:
        path: the file.
        problem: what is wrong, as the rest of a sentence that begins with the path.
        remedy: what to do, one sentence.
    """
    return InputError(f"feature file {path}", [f"{path} {problem}"], remedy)


def problem_lines(error: InputError) -> tuple[str, ...]:
    """What is wrong with a file, for a list of many files.

    The remedy is part of it unless it is the usual one.
    """
    return error.problems if error.remedy == EXTRACT_AGAIN else error.advised()


def bag_shape(path: Path, shape: tuple[int, ...], what: str) -> tuple[int, int]:
    """Instances and width of a stored array.

    A leading axis of length 1, which third-party files have, is dropped; TRIDENT writes ``(0,)``
    for a slide without tissue. Nothing else is squeezed, so a bag of one instance stays a bag.

    Args:
        path: the file, for messages.
        shape: shape as stored.
        what: what has the shape, as the middle of a sentence ("holds a tensor").

    Raises:
        InputError: any other shape.
    """
    inner = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if inner == (0,):
        return 0, 0
    if len(inner) != 2:
        hint = "; one vector for a whole slide is not a bag of patches" if len(inner) == 1 else ""
        raise broken(path, f"{what} of shape {tuple(shape)}, expected (instances, width){hint}")
    return inner[0], inner[1]


def feature_type(path: Path, name: str, rows: int) -> str:
    """The name of a features' number type; without rows, any type is accepted.

    Raises:
        InputError: none of float16, float32 and float64.
    """
    if rows and name not in ("float16", "float32", "float64"):
        raise broken(
            path,
            f"has features of type {name}, expected float16, float32 or float64",
            "Save the features as float32.",
        )
    return name


def coordinates(path: Path, values: np.ndarray, rows: int) -> np.ndarray:
    """Coordinates ``[n, 2]`` as float64, which holds every pixel position exactly.

    Raises:
        InputError: not two numbers for each instance.
    """
    if rows == values.size == 0:
        return np.empty((0, 2))  # a slide without tissue, whatever the shape and type
    if values.dtype.kind not in "iuf":
        raise broken(path, f"has coordinates that are {values.dtype.name}, expected numbers")
    if values.shape not in ((rows, 2), (1, rows, 2)):
        raise broken(path, f"has {rows} instances but coordinates of shape {values.shape}")
    return np.asarray(values, dtype=np.float64).reshape(rows, 2)


def patch_side(path: Path, name: str, value: object) -> float | None:
    """The side of a patch from an attribute, None if it is missing or TRIDENT's word None.

    Raises:
        InputError: the attribute is not a positive number.
    """
    if value is None or (isinstance(value, str) and value == "None"):
        return None
    try:
        side = float(np.asarray(value).item())
    except (TypeError, ValueError):
        side = math.nan
    if not 0 < side < math.inf:
        raise broken(path, f"has a {name} that is not a positive number: {value!r}")
    return side
