"""Whether two computations give the same outputs and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods.method import Method, Output

_CLOSE = 1e-9  # relative and absolute, in float64: only the rounding of reordered sums


def assert_close(actual: Tensor, expected: Tensor, what: str, remedy: str = "") -> None:
    """Two tensors are equal up to rounding."""
    difference = (actual - expected).abs().max().item() if actual.numel() else 0.0
    close = torch.allclose(actual, expected, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
    assert close, f"{what}: differs by {difference:.1e}" + (f". {remedy}" if remedy else "")


def assert_same_output(actual: Output, expected: Output, what: str, remedy: str = "") -> None:
    """Logits are equal up to rounding."""
    assert_close(actual.fine, expected.fine, what, remedy)
    if expected.coarse is not None:
        assert actual.coarse is not None, f"{what}: the coarse logits are missing"
        assert_close(actual.coarse, expected.coarse, what, remedy)


def assert_same_gradients(
    actual: dict[str, Tensor], expected: dict[str, Tensor], what: str, remedy: str = ""
) -> None:
    """All entries of ``expected`` are equal up to rounding."""
    for name in expected:
        assert_close(actual[name], expected[name], f"{what}, {name}", remedy)


def loss_and_gradients(
    method: Method, bags: BagBatch, weight: Tensor, progress: float
) -> dict[str, Tensor]:
    """The loss, as "loss", and the gradient of every parameter, by autograd."""
    method.zero_grad()
    loss = method.training_loss(bags, weight, progress)
    loss.backward()
    return stored_gradients(method) | {"loss": loss.detach()}


def stored_gradients(method: Method) -> dict[str, Tensor]:
    """The gradients that the parameters hold; 0 for parameters without one."""
    return {
        n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for n, p in method.named_parameters()
    }
