"""All randomness comes from seeds that identify its purpose, never from what ran before.

A seed is a hash of an identity such as ``(base seed, dataset, method, fold, purpose)``. A fold of a
method therefore starts from the same weights and sees the bags in the same order whether it is
trained first, last, alone, together with others, or after a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch


def derive(*identity: str | int) -> int:
    """A 63-bit seed from an identity; stable across processes, platforms and Python versions."""
    text = json.dumps(identity, separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*identity: str | int) -> np.random.Generator:
    """A NumPy generator seeded by an identity."""
    return np.random.default_rng(derive(*identity))


def torch_generator(*identity: str | int) -> torch.Generator:
    """A generator of torch's on the CPU, seeded by an identity."""
    import torch

    return torch.Generator().manual_seed(derive(*identity))


@contextlib.contextmanager
def torch_seeded(*identity: str | int) -> Iterator[None]:
    """Seeds torch's global generators by an identity; their states are restored after the block."""
    with torch_kept() as seed:
        seed(derive(*identity))
        yield


@contextlib.contextmanager
def torch_kept() -> Iterator[Callable[[int], None]]:
    """A function that seeds torch's global generators; their states are restored afterwards."""
    import torch

    # torch.manual_seed walks the call stack for CUDA, which takes longer than a step.
    on_gpu = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    generators = [torch.default_generator, *on_gpu]
    states = [each.get_state() for each in generators]

    def seed(value: int) -> None:
        for each in generators:
            each.manual_seed(value)

    try:
        yield seed
    finally:
        for each, state in zip(generators, states, strict=True):
            each.set_state(state)


def of_step(base: int, step: int) -> int:
    """A 63-bit seed of a step, by splitmix64, which is faster than ``derive``.

    Args:
        base: the derived seed of the training.
        step: its number.
    """
    z = (base + (step + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) >> 1
