"""What a method is: the contract, its recipe and its search ranges."""

from mil_bench.methods.method import Method, Output, weighted_mean
from mil_bench.methods.recipe import Recipe
from mil_bench.methods.space import Choice, Float, Int

__all__ = ["Choice", "Float", "Int", "Method", "Output", "Recipe", "weighted_mean"]
