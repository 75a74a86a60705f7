"""Pieces that several methods share, written for speed: the same numbers with fewer passes over the rows of a bag.

All of them run under ``torch.func.vmap``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """Dropout whose random numbers cost a quarter of torch's on a CPU (there measured: 12 ns an element).

    Every element takes 16 bits of a random word, so the rate is rounded to a multiple of 1 / 65536, and elements that
    stay are scaled by exactly that rate.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Values of which some are 0 and the others larger, in training; else the values."""
        if not self.training or self.p == 0:
            return values
        return drop(values, self.p)


def drop(values: Tensor, rate: float) -> Tensor:
    """Dropout at a rate in [0, 1]: each element is 0 with this probability, else divided by what is left of 1."""
    if values.is_cuda:
        return F.dropout(values, rate)
    dropped = round(rate * 2**16)
    if dropped == 2**16:  # a limit that 16 bits do not hold
        return values * 0
    words = torch.randint(-(2**63), 2**63 - 1, (values.numel() // 4 + 1,), dtype=torch.int64)
    uniform = words.view(torch.int16)[: values.numel()].view(values.shape)
    stays = (uniform >= dropped - 2**15).to(values.dtype)
    return values * stays.mul_(2**16 / (2**16 - dropped))


def gate(rows: Tensor, tanh: nn.Sequential, sigmoid: nn.Sequential, dropout: float) -> Tensor:
    """``dropout(tanh(A h + a)) * dropout(sigmoid(B h + b))`` of every row h: ``[N, M]`` -> ``[N, L]``.

    Args:
        rows: ``[N, M]``.
        tanh: its first layer is the linear map by A and a.
        sigmoid: the same for B and b.
        dropout: rate on both factors, 0 outside training. Two independent ones of rate p are one of rate
            ``1 - (1 - p)^2`` on the product.
    """
    gated = gated_tanh(rows, tanh[0].weight, tanh[0].bias, sigmoid[0].weight, sigmoid[0].bias)
    return drop(gated, 1 - (1 - dropout) ** 2) if dropout else gated


def gated_tanh(rows: Tensor, a_weight: Tensor, a_bias: Tensor, b_weight: Tensor, b_bias: Tensor) -> Tensor:
    """``tanh(A h + a) * sigmoid(B h + b)`` of every row h: ``[N, M]``, ``[L, M]``, ``[L]`` twice -> ``[N, L]``."""
    return _GatedTanh.apply(rows, a_weight, a_bias, b_weight, b_bias)[0]


class _GatedTanh(torch.autograd.Function):
    """Forward and backward in place, and the gradient of both branches added within the second product."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        rows: Tensor, a_weight: Tensor, a_bias: Tensor, b_weight: Tensor, b_bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        a = F.linear(rows, a_weight, a_bias).tanh_()
        b = F.linear(rows, b_weight, b_bias).sigmoid_()
        return a * b, a, b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        rows, a_weight, _, b_weight, _ = inputs
        _, a, b = output
        ctx.mark_non_differentiable(a, b)
        ctx.save_for_backward(rows, a_weight, b_weight, a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        rows, a_weight, b_weight, a, b = ctx.saved_tensors
        to_b = gradient * b
        to_a = torch.addcmul(to_b, to_b, a * a, value=-1)  # g b (1 - a^2)
        to_b = to_b.mul_(a)
        to_b = torch.addcmul(to_b, to_b, b, value=-1)  # g a b (1 - b)
        to_rows = None
        if ctx.needs_input_grad[0]:
            to_rows = torch.addmm(to_a @ a_weight, to_b, b_weight)
        return to_rows, to_a.T @ rows, to_a.sum(0), to_b.T @ rows, to_b.sum(0)
