"""Search ranges of settings as plain values; tuning draws its trials from them."""

from __future__ import annotations

from dataclasses import dataclass


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
