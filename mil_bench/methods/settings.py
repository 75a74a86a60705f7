"""Settings given as text, converted to the types of the defaults they replace."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
from typing import TYPE_CHECKING, Any

from mil_bench.errors import InputError, MilBenchError, UnknownNameError
from mil_bench.methods.recipe import LOSSES, OPTIONAL_NUMBERS, ORDINAL_LOSS, OWN_LOSS, takes_steps
from mil_bench.methods.space import Choice, Float, Int

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.methods.method import Method
    from mil_bench.methods.space import Range


def defaults_of(method: Any) -> dict[str, Any]:
    """Constructor parameters after (in_dim, hierarchy), with their defaults."""
    parameters = list(inspect.signature(method).parameters.values())[2:]
    return {p.name: p.default for p in parameters}


def stored_params(method: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor parameters as jobs store them: newer ones only if they differ from the default.

    Args:
        method: its class.
        params: all of them.
    """
    defaults, newer = defaults_of(method), method.newer_settings
    return {n: value for n, value in params.items() if n not in newer or value != defaults[n]}


def recipe_of(method: Any) -> dict[str, Any]:
    """Fields of the method's recipe, or of its ``Fit``, that are single values."""
    return {
        name: value
        for name, value in dataclasses.asdict(method.recipe).items()
        if not isinstance(value, tuple | dict)
    }


def settings_of(method: Any) -> dict[str, Any]:
    """All settings of a method with their defaults; a parameter hides a field of the recipe."""
    return recipe_of(method) | defaults_of(method)


def tuned_ranges(method: Any, ordered: bool) -> dict[str, Range]:
    """The search range of every setting that tuning chooses.

    Args:
        method: its class.
        ordered: whether the classes are grades; then the loss is chosen, too, if there is a choice.
    """
    ranges = dict(method.search_space)
    if ordered and not _why_no_ordinal_loss(method, ordered) and "loss" not in defaults_of(method):
        ranges.setdefault("loss", Choice(LOSSES))
    return ranges


def require_loss(label: str, method: Any, recipe: Mapping[str, Any], ordered: bool) -> None:
    """Refuse the ordinal loss where it makes no sense.

    Args:
        label: of the row, for messages.
        method: its class.
        recipe: the recipe as it is stored, with the row's settings.
        ordered: whether the classes are grades.

    Raises:
        InputError: the classes have no order, or the method has a loss of its own.
    """
    if recipe.get("loss", OWN_LOSS) != ORDINAL_LOSS:
        return
    if reason := _why_no_ordinal_loss(method, ordered):
        remedy = f"Leave it out, or write loss={OWN_LOSS}. Nothing was trained."
        raise InputError(f"settings of {label}", [f"'loss={ORDINAL_LOSS}': {reason}"], remedy)


def _why_no_ordinal_loss(method: Any, ordered: bool) -> str:
    """Why a method cannot have the ordinal loss, "" if it can."""
    if not takes_steps(method.recipe.to_json()):
        return "the method fits itself, without a loss that could be replaced"
    if method.has_own_loss:
        return "the method has a loss of its own; only the plain cross-entropy can be replaced"
    if not ordered:
        return "the classes have no order; the card of a dataset of grades says ordered = true"
    return ""


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
            values[name] = _fitted(value, defaults[name], OPTIONAL_NUMBERS.get(name))
        except (ValueError, KeyError):
            default = 0 if defaults[name] is None else defaults[name]
            kind = OPTIONAL_NUMBERS.get(name, type(default)).__name__
            problems.append(f"'{name}={value}': {name} takes a value of type {kind}")
    if problems:
        raise InputError(f"settings of {method}", problems, "Write them as name=value.")
    return values


def _fitted(value: Any, default: Any, number: type | None = None) -> Any:
    """A value in the type of its default; ``number`` is the type of one that may also be None."""
    if number is not None:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        default = number(0)
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


def require_ranges(label: str, method: Any, settings: Mapping[str, Any]) -> None:
    """Refuse values of constructor parameters that make no sense, whatever the method would do.

    What is allowed follows from the kind of the search range: one of the texts of a ``Choice``; a
    share from 0 to 1 if the range lies there; a positive number if the range is positive. Within
    that, values outside the search range are allowed.

    Args:
        label: of the row, for messages.
        method: its class.
        settings: values that differ from the defaults.

    Raises:
        InputError: names the setting, its value and what is allowed.
    """
    defaults, problems = defaults_of(method), []
    for name, value in settings.items():
        if name not in defaults or value is None or isinstance(value, bool):
            continue
        fits, words = _allowed(name, defaults[name], method.search_space.get(name), value)
        if not fits:
            problems.append(f"'{name}={value}': {name} is {words}")
    if problems:
        raise InputError(f"settings of {label}", problems, "Nothing was trained.")


def _allowed(name: str, default: Any, values: Any, value: Any) -> tuple[bool, str]:
    """Whether a value makes sense for a setting, and what does, in words."""
    options = values.options if isinstance(values, Choice) else ()
    if options and all(isinstance(option, str) for option in options):
        return value in options, " or ".join(map(str, options))
    if isinstance(value, str):
        return True, ""
    if "dropout" in name:
        return 0 <= value < 1, "a number from 0 on and less than 1"
    if isinstance(values, Float) and values.low >= 0 and values.high <= 1 and not values.log:
        return 0 <= value <= 1, "a number from 0 to 1"
    numbers = [option for option in options if isinstance(option, int | float)]
    lowest = min(numbers, default=values.low if isinstance(values, Float | Int) else None)
    if lowest is None:
        is_share_or_size = isinstance(default, int | float) and default > 0
        lowest = 0 if is_share_or_size else -math.inf
        return lowest <= value < math.inf and value > -math.inf, (
            "a number from 0 on" if is_share_or_size else "a finite number"
        )
    if isinstance(value, int) and lowest >= 1:
        return value >= 1, "a whole number from 1 on"
    if lowest > 0:
        return 0 < value < math.inf, "a number greater than 0"
    return (0 if lowest == 0 else -math.inf) <= value < math.inf, (
        "a number from 0 on" if lowest == 0 else "a finite number"
    )


def try_to_build(
    label: str, method: type[Method], in_dim: int, hierarchy: LabelHierarchy, params: Mapping
) -> None:
    """Build a method once, so that what it refuses is refused before anything is trained.

    Args:
        label: of the row, for messages.
        method: its class.
        in_dim: feature width D.
        hierarchy: the classes.
        params: all constructor parameters.

    Raises:
        InputError: the method cannot be built with these settings, or not in this machine's memory.
    """
    import torch

    try:
        with torch.device("meta"):  # without memory for the weights
            count = sum(p.numel() for p in method(in_dim, hierarchy, **params).parameters())
        needed, there = 16 * count, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except Exception:  # some methods cannot be built there; the next line says what others refuse
        needed, there = 0, 0
    problem = ""
    if needed > there:
        problem = (
            f"{count:,} parameters need {needed / 1e9:,.0f} GB with gradients and moments; this "
            f"machine has {there / 1e9:,.0f} GB"
        )
    else:
        try:
            method(in_dim, hierarchy, **params)
        except MilBenchError:
            raise
        except Exception as error:  # a method may raise anything
            problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if problem:
        given = ", ".join(f"{name}={value}" for name, value in params.items())
        raise InputError(
            f"settings of {label}", [f"the method cannot be built: {problem}"], f"It got {given}."
        )
