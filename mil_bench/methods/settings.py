"""Settings given as text, converted to the types of the defaults they replace."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from mil_bench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping


def defaults_of(method: Any) -> dict[str, Any]:
    """Constructor parameters after (in_dim, hierarchy), with their defaults."""
    parameters = list(inspect.signature(method).parameters.values())[2:]
    return {p.name: p.default for p in parameters}


def recipe_of(method: Any) -> dict[str, Any]:
    """Fields of the method's recipe that are single values."""
    return {
        name: value
        for name, value in dataclasses.asdict(method.recipe).items()
        if not isinstance(value, tuple)
    }


def parse_settings(
    method: str, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings as values.

    Args:
        method: name of the method, for messages.
        given: texts or values by name.
        defaults: all settings, with their defaults.

    Raises:
        UnknownNameError: there is no such setting.
        InputError: a value does not fit the type of the default.
    """
    values, problems = {}, []
    for name, value in given.items():
        if name not in defaults:
            raise UnknownNameError(f"setting of {method}", name, defaults)
        try:
            values[name] = _fitted(value, defaults[name])
        except (ValueError, KeyError):
            kind = "int" if defaults[name] is None else type(defaults[name]).__name__
            problems.append(f"'{name}={value}': {name} takes a value of type {kind}")
    if problems:
        raise InputError(f"settings of {method}", problems, "Write them as name=value.")
    return values


def _fitted(value: Any, default: Any) -> Any:
    if isinstance(value, str):
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if default is None:
            return None if value.lower() == "none" else int(value)
        return type(default)(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not (int if default is None else type(default)):
        raise ValueError
    return value
