"""The memory of a training process: it keeps what it frees, and trains what fits at a time.

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
import gc
import sys
from typing import TYPE_CHECKING, TypeVar

from mil_bench import devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

Fold = TypeVar("Fold")
Result = TypeVar("Result")

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


def in_parts_that_fit(
    folds: Sequence[Fold],
    train: Callable[[Sequence[Fold], bool], Sequence[Result]],
    device: torch.device,
    say: Callable[[str], None],
) -> list[Result]:
    """Train folds together, or fewer of them at a time if they need more memory than there is.

    Each time the memory is used up, half as many folds are trained together. If a single fold does
    not fit either, its features no longer stay on the device. Results that were already there are
    kept.

    Args:
        folds: what is to be trained.
        train: trains folds together, given them and whether all features may stay on the device.
        device: whose memory it is.
        say: is told, before the training goes on, what is done differently.

    Raises:
        Exception: what ``train`` raises, so also if one fold alone needs more memory than there is.
    """
    results: list[Result] = []
    together, may_stay = len(folds), True
    while missing := folds[len(results) :]:
        parts = -(-len(missing) // together)
        size = -(-len(missing) // parts)  # parts of nearly equal size
        try:
            results += train(missing[:size], may_stay)
            continue
        except Exception as error:
            has_way_out = size > 1 or (may_stay and not devices.is_cpu(device))
            if not (has_way_out and devices.is_out_of_memory(error)):
                raise
        # Out here, nothing refers any longer to the tensors of what failed.
        gc.collect()
        devices.release_memory(device)
        if size > 1:
            together = -(-size // 2)
            say(
                f"{size} folds together need more memory than there is; at most {together} are "
                "trained together"
            )
        else:
            may_stay = False
            say("one fold and all features need more memory than there is; features are streamed")
    return results
