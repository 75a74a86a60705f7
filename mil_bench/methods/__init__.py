"""What a method is: its contract, its recipe and its search ranges.

``Method`` and its functions import torch, so they are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.methods.recipe import Fit, Recipe
from mil_bench.methods.space import Choice, Float, Int

if TYPE_CHECKING:
    from mil_bench.methods.adapter import BagByBag, bag_by_bag
    from mil_bench.methods.method import (
        InstanceMap,
        Method,
        Output,
        add_gradients,
        weighted_mean,
    )

__all__ = [
    "BagByBag",
    "Choice",
    "Fit",
    "Float",
    "InstanceMap",
    "Int",
    "Method",
    "Output",
    "Recipe",
    "add_gradients",
    "bag_by_bag",
    "weighted_mean",
]


def __getattr__(name: str) -> Any:
    if name in ("BagByBag", "bag_by_bag"):
        from mil_bench.methods import adapter

        return getattr(adapter, name)
    if name in __all__:
        from mil_bench.methods import method

        return getattr(method, name)
    raise AttributeError(f"module 'mil_bench.methods' has no attribute '{name}'")
