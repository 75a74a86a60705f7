"""Opening files that users name, but no pipe or device, which might block."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path


def open_regular(path: Path) -> BinaryIO:
    """A file, opened for reading.

    Raises:
        OSError: it cannot be opened, or is a pipe or a device; ``strerror`` says which.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is not a file (a pipe or a device)", str(path))
    return path.open("rb")
