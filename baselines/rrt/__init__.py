"""RRT-MIL, see ``model``."""

from mil_bench.baselines.rrt.model import RRT

__all__ = ["RRT"]
