"""Former name of ``mil_bench.bags.batch``, for plugins written for mil-bench 0.1."""

from mil_bench.bags.batch import BagBatch

__all__ = ["BagBatch"]
