"""Freed memory is kept inside the block, and given back after it."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest
from conftest import slow

from mil_bench.training.memory import freed_memory_kept


def faults_of(times: int, megabytes: int) -> int:
    """Page faults of taking, touching and freeing so much memory so often."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.empty(megabytes * 2**17)[::512] = 1.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
@pytest.mark.parametrize("megabytes", slow([8, 1200], 1200))
def test_memory_taken_again_inside_the_block_makes_no_page_faults(megabytes: int) -> None:
    with freed_memory_kept():
        faults_of(2, megabytes)
        assert faults_of(5, megabytes) < 100
