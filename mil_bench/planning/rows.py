"""A method with settings of its own: one row of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class MethodRow:
    """A method, and what differs from its defaults.

    Args:
        method: registered name.
        settings: constructor parameters and fields of the recipe, as values or as text.
        label: how tables call it.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    def __post_init__(self) -> None:
        if not self.label:
            text = ",".join(f"{name}={_written(value)}" for name, value in self.settings.items())
            object.__setattr__(self, "label", f"{self.method}:{text}" if text else self.method)

    def __str__(self) -> str:
        return self.label

    @classmethod
    def parse(cls, text: str) -> MethodRow:
        """From ``name`` or ``name:setting=value,...``.

        Raises:
            InputError: a setting has no value.
        """
        method, _, settings = text.partition(":")
        pairs = [item.partition("=") for item in settings.split(",")] if settings else []
        faulty = [f"'{name}' has no value" for name, sign, value in pairs if not (sign and value)]
        if faulty:
            raise InputError(
                f"method '{text}'", faulty, "Write it as name:setting=value,setting=value."
            )
        return cls(method, {name.strip(): value.strip() for name, _, value in pairs})


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
