"""Numbers that are nearly 0 are 0 while a process trains."""

from __future__ import annotations

import pytest
import torch

from mil_bench.running.denormals import are_zero, denormals_as_zero

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this CPU cannot treat denormal numbers as 0"
)


def test_denormals_are_zero_inside_the_block_only() -> None:
    assert not are_zero()
    with denormals_as_zero():
        assert are_zero()
        with denormals_as_zero():
            pass
        assert are_zero()
    assert not are_zero()


def test_an_error_ends_the_block_too() -> None:
    with pytest.raises(ValueError, match="stop"), denormals_as_zero():
        raise ValueError("stop")
    assert not are_zero()


def test_small_moments_change_no_weight() -> None:
    """Steps of Adam with gradients whose squares are denormal."""
    ends = []
    for block in (denormals_as_zero, torch.no_grad):
        weight = torch.nn.Parameter(torch.ones(4))
        optimizer = torch.optim.Adam([weight], 1e-3)
        with block():
            for _ in range(20):
                weight.grad = torch.full((4,), 1e-21)
                optimizer.step()
        ends.append(weight.detach().clone())
    assert torch.equal(*ends)
