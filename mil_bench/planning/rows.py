"""A method with its settings: one row of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mil_bench.errors import InputError
from mil_bench.wording import split_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class MethodRow:
    """A method, and the settings that differ from its defaults.

    Args:
        method: registered name.
        settings: constructor parameters and fields of the recipe, as values or as text.
        label: name of the row in tables; made from method and settings if empty.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            problem = f"MethodRow.method is {self.method!r:.80}, not a name"
            raise InputError("methods", [problem], "mil-bench methods list shows the names.")
        if not self.label:
            text = ",".join(f"{name}={_written(value)}" for name, value in self.settings.items())
            object.__setattr__(self, "label", f"{self.method}:{text}" if text else self.method)

    def __str__(self) -> str:
        return self.label

    @classmethod
    def parse(cls, text: str) -> MethodRow:
        """A row from ``name`` or ``name:setting=value,...``.

        Raises:
            InputError: a setting has no value.
        """
        method, settings = split_settings(text)
        problems = [f"'{name}' has no value" for name, value in settings.items() if not value]
        if problems:
            remedy = "Write it as name:setting=value,setting=value."
            raise InputError(f"method '{text}'", problems, remedy)
        return cls(method, settings)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
