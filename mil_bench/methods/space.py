"""Search ranges of settings as plain values; tuning draws its trials from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Float:
    """A real number in ``[low, high]``, on a logarithmic scale if ``log``."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Int:
    """A whole number in ``[low, high]``."""

    low: int
    high: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    options: tuple[str | int | float | bool | None, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.options


Range = Float | Int | Choice
_KINDS: Mapping[str, Callable[..., Range]] = {kind.__name__: kind for kind in (Float, Int, Choice)}


def space_to_json(space: Mapping[str, Range]) -> dict[str, Any]:
    """Ranges by setting, as a value that JSON can hold."""
    return {name: [type(values).__name__, asdict(values)] for name, values in space.items()}


def space_from_json(stored: Mapping[str, Any]) -> dict[str, Range]:
    """Ranges by setting, from what ``space_to_json`` gave.

    Raises:
        KeyError: there is no such kind of range.
        TypeError: the fields of a range are others.
        ValueError: an entry is not a kind with its fields.
    """
    return {
        name: _KINDS[kind](
            **{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        )
        for name, (kind, fields) in stored.items()
    }
