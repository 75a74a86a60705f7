"""A check, and what running one gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.methods.recipe import Fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.methods.method import Method


@dataclass(frozen=True)
class Check:
    """One clause of the contract; calling it tests a method class.

    Args:
        name: short, for the command line.
        clause: what the contract asks, in one line.
        run: raises ``AssertionError`` with the reason if a method breaks the clause.
        without_steps: why it says nothing of a method that fits itself; "" if it does.
    """

    name: str
    clause: str
    run: Callable[[type[Method]], None]
    without_steps: str = ""

    def __call__(self, method: type[Method]) -> None:
        """Test a method to which the clause applies.

        Raises:
            AssertionError: the method breaks the clause; the text is the reason.
        """
        if not self.not_applicable(method):
            self.run(method)

    def not_applicable(self, method: type[Method]) -> str:
        """Why the clause does not apply to a method; "" if it does."""
        return self.without_steps if isinstance(getattr(method, "recipe", None), Fit) else ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class CheckResult:
    """A check of a method.

    Args:
        check: the check.
        reason: why it failed, "" if it did not.
        skipped: why it says nothing, "" if it does: what it needs is the fault of another check,
            or the clause does not apply to the method.
    """

    check: Check
    reason: str
    skipped: str = ""
