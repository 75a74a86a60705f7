"""The contract of a method as checks, for ``mil-bench methods check NAME`` and a plugin's tests.

    import pytest
    from mil_bench.methods.conformance import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_it_keeps_the_contract(check):
        check(MyMethod)

A check raises ``AssertionError`` with the reason. Each fails for one kind of fault; a method that
cannot be built at all fails ``builds`` and every check that has to build it. Faults that show in
training only are looked for in training mode, and through some steps of both kinds of stacks. A
method that fits itself is fitted before it is checked; checks of steps and gradients do not apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.methods.conformance.building import builds, same_seed, search_ranges
from mil_bench.methods.conformance.check import Check, CheckResult
from mil_bench.methods.conformance.outputs import (
    bag_alone,
    bag_sizes,
    half_precision,
    instance_order,
    output,
    widths_and_classes,
)
from mil_bench.methods.conformance.stacking import stacks
from mil_bench.methods.conformance.training import gradients, learns
from mil_bench.methods.conformance.weights import all_weights_zero, bag_order, weight_zero
from mil_bench.methods.output import OutputFormError
from mil_bench.running.faults import place_in_method, reason_of

if TYPE_CHECKING:
    from mil_bench.methods.method import Method

__all__ = ["CHECKS", "Check", "CheckResult", "check_method"]

_OWN_BAGS = (
    "the method fits itself: it takes no steps, and fit is handed the bags of its own fold only, "
    "in the order of the store"
)
CHECKS = (
    Check("builds", "can be built from sizes and defaults alone, and pickled", builds),
    Check("search-ranges", "each search range is of a setting, with its default", search_ranges),
    Check("output", "finite logits of the right shapes; attention sums to 1 per bag", output),
    Check("bag-alone", "a bag gives the same output alone as in a batch", bag_alone),
    Check("bag-order", "the order of the bags in a batch does not matter", bag_order, _OWN_BAGS),
    Check(
        "instance-order", "the order of instances does not matter, or is declared", instance_order
    ),
    Check(
        "weight-zero",
        "a bag of weight 0 affects neither loss nor gradients",
        weight_zero,
        _OWN_BAGS,
    ),
    Check(
        "all-weights-zero",
        "weights of 0 give a finite loss and no gradient",
        all_weights_zero,
        _OWN_BAGS,
    ),
    Check(
        "gradients",
        "backward gives the loss and gradients that autograd gives",
        gradients,
        "the method fits itself and needs no gradients",
    ),
    Check("bag-sizes", "accepts bags of 1 and of 50,000 instances", bag_sizes),
    Check(
        "widths-and-classes", "accepts other feature widths, and 2 to 7 classes", widths_and_classes
    ),
    Check("half-precision", "large half-precision features give finite numbers", half_precision),
    Check("same-seed", "the same seed gives the same weights and the same step", same_seed),
    Check(
        "stacks",
        "folds stack under vmap, or it says no; none sees another's bags",
        stacks,
        _OWN_BAGS,
    ),
    Check("learns", "beats chance on simple bags with known witnesses", learns),
)
"""All checks, in the order in which they are reported."""


def check_method(method: type[Method]) -> list[CheckResult]:
    """Run all checks; a check that fails does not stop the others.

    If ``forward`` or ``loss`` returns something of another form, that is the fault of the check
    "output", and the others that meet it say nothing.
    """
    other = {check: check.not_applicable(method) for check in CHECKS}
    errors = {check: _error_of(check, method) for check in CHECKS}
    explained = any(check.name == "output" and _is_form(error) for check, error in errors.items())
    return [
        CheckResult(check, "", "forward or loss returns something else; see output")
        if explained and _is_form(error) and check.name != "output"
        else CheckResult(check, _reason(error), other[check])
        for check, error in errors.items()
    ]


def _error_of(check: Check, method: type[Method]) -> BaseException | None:
    try:
        check(method)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a method under test may raise anything, or leave
        return error
    return None


def _is_form(error: BaseException | None) -> bool:
    """Whether a method has returned something of another form."""
    return any(isinstance(e, OutputFormError) for e in (error, getattr(error, "__cause__", None)))


def _reason(error: BaseException | None) -> str:
    if error is None:
        return ""
    if isinstance(error, AssertionError) and not place_in_method(error):
        return str(error) or "failed"
    return reason_of(error)
