"""Which parameters a recipe clips together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    groups = [[n for n in names if starts(n, prefix)] for prefix in recipe.clip_modules]
    problems = [
        f"'{prefix}' is the start of no parameter's name"
        for prefix, group in zip(recipe.clip_modules, groups, strict=True)
        if not group
    ]
    chosen = [name for group in groups for name in group]
    problems += [f"'{name}' is in two of them" for name in names if chosen.count(name) > 1]
    if problems:
        remedy = f"The method's parameters are {', '.join(names)}."
        raise InputError("clip_modules of the recipe", problems, remedy)
    return groups


def starts(name: str, prefix: str) -> bool:
    """Whether a parameter is the one called ``prefix`` or belongs to the module of that name."""
    return name == prefix or name.startswith(f"{prefix}.")
