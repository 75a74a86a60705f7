"""What a method's class has to offer before it sees a bag."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import fields
from typing import TYPE_CHECKING

import torch

from mil_bench.methods.conformance.bags import build, random_bags
from mil_bench.methods.conformance.repeating import assert_repeatable
from mil_bench.methods.method import Method
from mil_bench.methods.recipe import Fit, Recipe

if TYPE_CHECKING:
    from typing import Any


def builds(method: type[Method]) -> None:
    """Trainings build it in processes of their own, from sizes and settings."""
    assert inspect.isclass(method), "it is not a class"
    assert issubclass(method, Method), "it is not a subclass of mil_bench.methods.Method"
    assert isinstance(getattr(method, "recipe", None), Recipe | Fit), "it has no recipe"
    parameters = list(inspect.signature(method).parameters.values())
    assert [p.name for p in parameters[:2]] == ["in_dim", "hierarchy"], (
        "its first parameters are not in_dim, hierarchy"
    )
    required = [p.name for p in parameters[2:] if p.default is inspect.Parameter.empty]
    assert not required, f"parameters without a default: {', '.join(required)}"
    restored = pickle.loads(pickle.dumps(build(method)))
    assert restored(random_bags(method)).fine is not None


def search_ranges(method: type[Method]) -> None:
    """Tuning draws settings from these ranges, and its first trial takes the defaults."""
    defaults: dict[str, Any] = {
        field.name: getattr(method.recipe, field.name) for field in fields(method.recipe)
    }
    defaults |= {
        name: parameter.default for name, parameter in inspect.signature(method).parameters.items()
    }
    assert not method.newer_settings & set(method.search_space), (
        f"newer_settings with search ranges: {', '.join(method.newer_settings)}"
    )
    for name, values in method.search_space.items():
        assert name in defaults, f"'{name}' is neither a parameter nor part of the recipe"
        assert defaults[name] in values, (
            f"the default of '{name}', {defaults[name]}, is outside its range"
        )


def same_seed(method: type[Method]) -> None:
    """Randomness comes from torch's global generator alone, so a training can be repeated."""
    first, second = build(method).state_dict(), build(method).state_dict()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, f"weights differ under one seed: {', '.join(different[:3])}"
    if not isinstance(method.recipe, Fit):
        assert_repeatable(method)
