"""HMIL's published splits: ``{train,val,test}_splits_{k}.pkl``.

They are pickled lists of [slide id, label, path].
Source: src/datasets in HMIL's repository (af6f85a). A pickle is a program: these are read as data,
by an unpickler that knows lists, texts and numbers and refuses everything else.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from typing import TYPE_CHECKING, Any, NoReturn

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.errors import InputError
from mil_bench.split_files.formats.interface import FileStart, SplitFormat, fold_of
from mil_bench.splits.lists import SplitLists

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAME = re.compile(r"^(train|val|test)_splits_(\d+)\.\w+$")
_MOST_BYTES = 16 * 2**20
"""A list of 33,520 slides has 5 MiB."""
_PLAIN_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "SHORT_BINUNICODE", "BINUNICODE"),
    *("BININT", "BININT1", "BININT2", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every class, and every object that is not in the pickle itself."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to an object that is not in it, {pid!r:.40}")


def _matches(start: FileStart) -> bool:
    return start.content[:1] == b"\x80" and start.content[1:2] <= bytes([pickle.HIGHEST_PROTOCOL])


def _plain_value(path: Path) -> Any:
    """What a pickle of lists, texts and numbers holds.

    Raises:
        ValueError: it holds anything else, is cut short or too large.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(
            f"{size:,} bytes are too many for a list of slides (at most {_MOST_BYTES:,})"
        )
    content = path.read_bytes()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name not in _PLAIN_OPCODES:
                raise pickle.UnpicklingError(
                    "it holds more than lists of texts and numbers "
                    f"(pickle opcode {opcode.name}); nothing was run"
                )
            # The unpickler would reserve memory for so many objects.
            if "PUT" in opcode.name and (argument or 0) > size:
                raise pickle.UnpicklingError(
                    f"it numbers an object {argument}, more than it has bytes"
                )
        return _PlainUnpickler(io.BytesIO(content)).load()
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error
    except (
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        MemoryError,
    ) as error:
        raise ValueError(f"it is broken: {error}") from error


def _rows(path: Path) -> list[tuple[str, str]]:
    """The (slide, label) pairs of a file.

    Raises:
        ValueError: it does not hold such pairs.
        OSError: it cannot be read.
    """
    value = _plain_value(path)
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else type(value).__name__
        raise ValueError(f"it holds {what}, not a list of slides")
    rows = []
    for i, row in enumerate(value):
        plain = isinstance(row, list | tuple) and len(row) == 3
        if (
            not plain
            or not isinstance(row[0], str)
            or not isinstance(row[1], str | int)
            or not row[0].strip()
        ):
            raise ValueError(f"entry {i} is not [slide id, label, path]")
        rows.append((without_ending(row[0].strip()), str(row[1]).strip()))
    return rows


def _read(files: Sequence[Path]) -> SplitLists:
    parts: dict[int, dict[str, list[str]]] = {}
    labels: dict[str, set[str]] = {}
    problems = []
    for path in files:
        match = _NAME.match(path.name)
        if match is None:
            problems.append(f"{path.name}: the name is not {{train,val,test}}_splits_{{k}}.pkl")
            continue
        try:
            rows = _rows(path)
        except (ValueError, OSError) as error:
            problems.append(f"{path.name}: {error}")
            continue
        parts.setdefault(int(match[2]), {})[match[1]] = [slide for slide, _ in rows]
        for slide, label in rows:
            labels.setdefault(slide, set()).add(label)
    folder = files[0].resolve().parent
    if problems:
        raise InputError(
            f"splits {folder}", problems, "Fetch these files again from HMIL's repository."
        )
    numbers = tuple(sorted(parts))
    folds = tuple(fold_of(parts[k]) for k in numbers)
    named = {slide: frozenset(texts) for slide, texts in labels.items()}
    return SplitLists(f"HMIL's pickles in {folder.name}", folds, numbers, named)


HMIL = SplitFormat("HMIL's {train,val,test}_splits_{k}.pkl", _NAME.pattern, _matches, _read)
