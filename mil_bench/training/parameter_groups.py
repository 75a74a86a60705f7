"""Which parameters a recipe clips together, and which have learning rates of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from mil_bench.methods import Recipe

CLIP_EPSILON = 1e-6  # torch's, added to the norm


def clipped_groups(names: Iterable[str], recipe: Recipe) -> list[list[str]]:
    """Names of the parameters that share a norm, one list per norm.

    Args:
        names: of all parameters.
        recipe: its ``clip_norm`` and ``clip_modules``.

    Raises:
        InputError: a prefix names no parameter, or a parameter has two of them.
    """
    if recipe.clip_norm is None:
        return []
    names = list(names)
    if not recipe.clip_modules:
        return [names]
    return _by_prefix("clip_modules", names, recipe.clip_modules)


def rate_factors(names: Iterable[str], recipe: Recipe) -> list[float]:
    """What multiplies the learning rate of each parameter, from the recipe's ``rates``.

    Args:
        names: of all parameters.
        recipe: its ``rates``.

    Raises:
        InputError: a prefix names no parameter, or a parameter has two of them.
    """
    names = list(names)
    groups = _by_prefix("rates", names, recipe.rates)
    factors = zip(groups, recipe.rates.values(), strict=True)
    chosen = {name: factor for group, factor in factors for name in group}
    return [chosen.get(name, 1.0) for name in names]


def parameters_by_rate(module: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """A module's parameters as parameter groups of torch, one per ``factor`` of the rate."""
    named = dict(module.named_parameters())
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, factor in zip(named.values(), rate_factors(named, recipe), strict=True):
        groups.setdefault(factor, []).append(parameter)
    return [{"params": params, "factor": factor} for factor, params in groups.items()]


def _by_prefix(field: str, names: list[str], prefixes: Iterable[str]) -> list[list[str]]:
    groups, problems = [], []
    for prefix in prefixes:
        groups.append([name for name in names if starts(name, prefix)])
        if not groups[-1]:
            problems.append(f"'{prefix}' is the start of no parameter's name")
    chosen = [name for group in groups for name in group]
    problems += [f"'{name}' is in two of them" for name in names if chosen.count(name) > 1]
    if problems:
        remedy = f"The method's parameters are {', '.join(names)}."
        raise InputError(f"{field} of the recipe", problems, remedy)
    return groups


def starts(name: str, prefix: str) -> bool:
    """Whether a parameter is the one called ``prefix`` or belongs to the module of that name."""
    return name == prefix or name.startswith(f"{prefix}.")
