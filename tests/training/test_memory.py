"""Freed memory is kept inside the block, and given back after it."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest

from mil_bench.training.memory import freed_memory_kept


def faults_of(times: int) -> int:
    """Page faults of taking and freeing 8 MB so often."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.empty(2**20)[::512] = 1.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is told")
def test_memory_taken_again_inside_the_block_makes_no_page_faults() -> None:
    with freed_memory_kept():
        faults_of(2)
        assert faults_of(20) < 100
