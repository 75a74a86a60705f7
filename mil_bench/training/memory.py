"""A training process keeps the memory that it frees.

Every step frees tens of megabytes and allocates them again. Glibc returns blocks of that size to
the system at once, which then clears each page anew: 1,250 page faults per step of a plain ABMIL on
a bag of 500 rows, a fifth of the step's time (measured). The top of the heap must not be returned
either, whatever its size: a step of HMIL on 64 bags of 3,000 rows takes 4 GB, and with a limit of
1 GB it took a fifth longer (measured when it took 5). The next step uses the memory again, so the
peak does not grow.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt (malloc.h)
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**26}  # -1: never trim
_USUAL = {_MMAP_MAX: 2**16, _TRIM_THRESHOLD: 2**17, _TOP_PAD: 2**17}


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside the block this process keeps the memory it frees; without glibc, nothing changes."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    for name, value in _KEEPING.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
