"""What a forward pass returns, and what is said of one that returns something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from mil_bench.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


class Output(NamedTuple):
    """What a forward pass returns.

    Args:
        fine: logits of the fine classes ``[B, C]``.
        coarse: logits of a coarse head ``[B, G]``, or None; coarse probabilities are then sums of
            fine ones.
        attention: ``[N, A]``, each column summing to 1 over each bag, or None.
        extras: whatever the method's own loss needs.
    """

    fine: Tensor
    coarse: Tensor | None = None
    attention: Tensor | None = None
    extras: Mapping[str, Tensor] = {}


class InstanceMap(NamedTuple):
    """What a method shows of every instance of a batch, for maps of slides.

    Args:
        values: ``[N, K]``; in each column, the instances that count most have the largest values.
        classes: index of the fine class of each column; () for one column that holds for all
            classes.
    """

    values: Tensor
    classes: tuple[int, ...] = ()


class OutputFormError(PluginError):
    """``forward`` or ``loss`` of a method returned something that training cannot use."""


def require_output(out: Any, bags: BagBatch, hierarchy: LabelHierarchy) -> None:
    """Refuse what is no ``Output``, or one whose tensors have other shapes.

    Args:
        out: what ``forward`` returned.
        bags: the batch that it got.
        hierarchy: the classes.

    Raises:
        OutputFormError: says what was returned and what has to be.
    """
    if not isinstance(out, Output):
        raise OutputFormError(
            f"forward returned {_kind(out)}; return mil_bench.methods.Output(fine=logits)"
        )
    rows, n_bags = len(bags.features), bags.n_bags
    fine, coarse, attention = out[:3]
    if not isinstance(fine, Tensor) or fine.shape != (n_bags, hierarchy.n_fine):
        _refuse("fine", fine, f"the logits [bags, classes], here ({n_bags}, {hierarchy.n_fine})")
    if coarse is not None and (
        not isinstance(coarse, Tensor) or coarse.shape != (n_bags, hierarchy.n_coarse)
    ):
        shape = f"({n_bags}, {hierarchy.n_coarse})"
        _refuse("coarse", coarse, f"the logits [bags, coarse classes], here {shape}, or None")
    if attention is not None and (
        not isinstance(attention, Tensor) or attention.ndim != 2 or len(attention) != rows
    ):
        _refuse("attention", attention, f"weights [rows, A], here ({rows}, A), or None")
    if not fine.is_floating_point():
        raise OutputFormError(f"Output.fine has the type {fine.dtype}; logits are real numbers")


def require_scalar(loss: Any) -> None:
    """Refuse a loss that is not one number in a tensor.

    Raises:
        OutputFormError: says what was returned.
    """
    if not isinstance(loss, Tensor) or loss.ndim:
        raise OutputFormError(f"loss returned {_kind(loss)}; return a tensor with one number")


def _refuse(name: str, value: Any, wanted: str) -> None:
    raise OutputFormError(
        f"forward returned {_kind(value)} as Output.{name}; it has to be {wanted}"
    )


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of the shape {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
