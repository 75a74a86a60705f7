"""Former name of ``mil_bench.hierarchy``, for plugins written for mil-bench 0.1."""

from mil_bench.hierarchy import LabelHierarchy

__all__ = ["LabelHierarchy"]
