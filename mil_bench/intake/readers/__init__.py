"""Readers of feature files, one module per format, chosen by a file's content, not by its name."""

from __future__ import annotations

import stat
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench import registry
from mil_bench.bags.reading_process import allow_computing
from mil_bench.datasets.slide_ids import TORCH_ENDINGS
from mil_bench.errors import PluginError
from mil_bench.intake.readers.clam import CLAM
from mil_bench.intake.readers.interface import (
    AS_USUAL,
    FeatureFile,
    FileStart,
    RawBag,
    Reader,
    Reading,
    broken,
    problem_lines,
    read_as,
)
from mil_bench.intake.readers.stamp import STAMP
from mil_bench.intake.readers.torchmil import TORCHMIL
from mil_bench.intake.readers.trident import TRIDENT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "AS_USUAL",
    "BUILT_IN",
    "FeatureFile",
    "FileStart",
    "RawBag",
    "Reader",
    "Reading",
    "open_features",
    "problem_lines",
    "readers",
]

_START_BYTES = 2**12
_TORCH_SIGNATURES = (b"PK\x03\x04", b"\x80\x02")  # the archive since torch 1.6, and the older form


def _open_torch(path: Path, slide: str) -> FeatureFile:
    if "torch" not in sys.modules:
        allow_computing(60)  # torch takes seconds to import
    from mil_bench.intake.readers.torch_pt import TorchFile

    return TorchFile.open(path, slide)


TORCH = Reader(
    title="CLAM's and TRIDENT's .pt, or a .pt with a tensor or a dict that holds one",
    endings=TORCH_ENDINGS,
    matches=lambda start: start.content.startswith(_TORCH_SIGNATURES),
    open=_open_torch,
)

BUILT_IN = (STAMP, TRIDENT, TORCHMIL, CLAM, TORCH)
"""In the order in which they are asked; CLAM's takes every HDF5 file that the others leave."""


def readers() -> tuple[Reader, ...]:
    """All readers in the order in which they are asked: those of installed packages come first.

    Raises:
        PluginError: a package's reader cannot be imported, or is not a ``Reader``.
    """
    offered = [(name, registry.readers.load(name)) for name in registry.readers.names()]
    for name, reader in offered:
        if not isinstance(reader, Reader):
            raise PluginError(
                f"The reader '{name}' of {registry.readers.origin(name)} is a "
                f"{type(reader).__name__}, expected a mil_bench.intake.readers.Reader."
            )
    return (*(reader for _, reader in offered), *BUILT_IN)


def open_features(path: Path, slide: str = "", how: Reading = AS_USUAL) -> FeatureFile:
    """Open a feature file with the reader that recognises it, and read its shape.

    Args:
        path: the file.
        slide: slide id; if empty, the file's name without its ending.
        how: how it is read.

    Raises:
        InputError: no reader recognises the file, or it is broken.
        PluginError: a package's reader cannot be used.
    """
    known = readers()
    start = FileStart(path, _content(path))
    with read_as(how):
        reader = next((reader for reader in known if reader.matches(start)), None)
        if reader is None:
            problem = "is in no known format" if start.content else "is empty"
            raise broken(path, problem, _known_formats(known))
        file = reader.open(path, slide or path.stem)
    if file.dtype == "float64":
        file = replace(file, dtype="float32", is_double=True)
    return replace(file, how=how)


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise broken(path, "is not a file (a pipe or a device)")
        with path.open("rb") as file:
            return file.read(_START_BYTES)
    except OSError as error:
        raise broken(path, f"cannot be read: {error.strerror}") from error


def _known_formats(known: tuple[Reader, ...]) -> str:
    return f"Known formats: {'; '.join(reader.title for reader in known)}."
