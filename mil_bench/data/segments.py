"""Former name of ``mil_bench.bags.segments``, for plugins written for mil-bench 0.1."""

from mil_bench.bags.segments import (
    attention_pool,
    extreme_rows,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)

__all__ = [
    "attention_pool",
    "extreme_rows",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
]
