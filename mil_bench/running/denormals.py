"""Numbers that are nearly 0 are 0 while a process trains.

A float32 between 0 and 1e-38 ("denormal") takes a CPU up to a hundred times as long as another
number. Parameters whose gradient is 0 or nearly 0 have second moments of this size after some
thousand steps of Adam. Adam adds 1e-8 to their root, so they change no weight.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_DENORMAL = 1e-40


def are_zero() -> bool:
    """Whether the calling thread treats denormal numbers as 0."""
    return not (torch.tensor(_DENORMAL) * 1).item()


@contextlib.contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Inside the block the calling thread treats denormal numbers as 0, if the CPU can."""
    were_zero = are_zero()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_zero)
