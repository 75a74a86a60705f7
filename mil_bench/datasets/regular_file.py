"""Opening files that users name, but no pipe or device, which might block; TOML among them."""

from __future__ import annotations

import errno
import stat
import tomllib
from typing import TYPE_CHECKING, Any, BinaryIO

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 2**20  # of a file of TOML


def open_regular(path: Path) -> BinaryIO:
    """A file, opened for reading.

    Raises:
        OSError: it cannot be opened, or is a pipe or a device; ``strerror`` says which.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is not a file (a pipe or a device)", str(path))
    return path.open("rb")


def read_toml(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """The content of a TOML file that a user wrote.

    Args:
        path: of the file.
        what: the file, as messages call it.
        remedy: what to do if it cannot be read, one sentence.

    Raises:
        InputError: it cannot be read, is no TOML, or is larger than anybody writes by hand.
    """
    try:
        with open_regular(path) as file:
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise InputError(what, [f"it has more than {_MOST_BYTES:,} bytes"], remedy)
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # what TOML and decoding raise
        reason = getattr(error, "strerror", None) or error
        problem = f"it cannot be read as TOML in UTF-8: {reason}"
        raise InputError(what, [problem], remedy) from error
