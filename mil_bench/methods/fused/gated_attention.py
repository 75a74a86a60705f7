"""Scores of gated attention, with a gradient written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mil_bench.methods.fused.dropout import dropout_factors
from mil_bench.methods.fused.linear import blocks, tanh_

if TYPE_CHECKING:
    from mil_bench.methods.fused.linear import Affine


def gated_scores(
    rows: Tensor, tanh: Affine, sigmoid: Affine, scores: Affine, dropout: float
) -> Tensor:
    """Scores ``C (tanh(A h + a) * sigmoid(B h + b)) + c`` of every row h.

    Args:
        rows: ``[N, M]``.
        tanh: A ``[L, M]`` and a ``[L]``.
        sigmoid: B and b, likewise.
        scores: C ``[K, L]`` and c ``[K]``.
        dropout: rate on both factors, 0 outside training. Two independent dropouts of rate p equal
            one of rate ``1 - (1 - p)^2`` on the product.

    Returns:
        ``[N, K]``.
    """
    factors = (
        dropout_factors(rows.new_empty(len(rows), len(tanh[1])), 1 - (1 - dropout) ** 2)
        if dropout
        else None
    )
    result: tuple[Tensor, ...] = _GatedScores.apply(rows, factors, *tanh, *sigmoid, *scores)
    return result[0]


class _GatedScores(torch.autograd.Function):
    """Goes through the rows in blocks, so that all but the products stays in the processor's cache.

    The gradient written by hand takes fewer passes than autograd's, and its only tensor of N rows
    is the gradient of the rows. A GPU takes all rows as one block.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        rows: Tensor,
        factors: Tensor | None,
        a_weight: Tensor,
        a_bias: Tensor,
        b_weight: Tensor,
        b_bias: Tensor,
        c_weight: Tensor,
        c_bias: Tensor,
    ) -> tuple[Tensor, ...]:
        def of(block: slice) -> tuple[Tensor, Tensor, Tensor]:
            a = tanh_(F.linear(rows[block], a_weight, a_bias))
            b = F.linear(rows[block], b_weight, b_bias).sigmoid_()
            gated = a * b if factors is None else (a * b).mul_(factors[block])
            return F.linear(gated, c_weight, c_bias), a, b

        parts = blocks(rows)
        if len(parts) == 1:
            return of(parts[0])
        # Allocated like a weight: under vmap each fold has its own, while rows may be shared.
        whole = tuple(a_weight.new_empty(len(rows), len(bias)) for bias in (c_bias, a_bias, b_bias))
        for block in parts:
            for column, part in zip(whole, of(block), strict=True):
                column[block] = part
        return whole

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, ...]
    ) -> None:
        rows, factors, a_weight, _, b_weight, _, c_weight, _ = inputs
        _, a, b = output
        ctx.mark_non_differentiable(a, b)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rows, factors, a_weight, b_weight, c_weight, a, b)

    @staticmethod
    def backward(ctx: Any, to_scores: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if to_scores is None:  # whatever used the scores has no gradient
            return (None,) * 8
        rows, factors, a_weight, b_weight, c_weight, a_all, b_all = ctx.saved_tensors

        def of(block: slice) -> tuple[Tensor | None, list[Tensor]]:
            h, a, b = rows[block], a_all[block], b_all[block]
            to_gated, gated = to_scores[block] @ c_weight, a * b
            if factors is not None:
                to_gated, gated = to_gated.mul_(factors[block]), gated.mul_(factors[block])
            to_c = to_scores[block].T @ gated
            to_a = to_gated.mul_(b)  # g b
            to_b = to_a * a  # g a b
            to_a = torch.addcmul(to_a, to_b, a, value=-1)  # g b (1 - a^2)
            to_b = torch.addcmul(to_b, to_b, b, value=-1)  # g a b (1 - b)
            to_rows = (
                torch.addmm(to_a @ a_weight, to_b, b_weight) if ctx.needs_input_grad[0] else None
            )
            return to_rows, [to_a.T @ h, to_a.sum(0), to_b.T @ h, to_b.sum(0), to_c]

        first, *others = blocks(rows)
        to_rows, to_weights = of(first)
        if others and to_rows is not None:
            part, to_rows = to_rows, torch.empty_like(rows)
            to_rows[first] = part
        for block in others:
            of_rows, of_weights = of(block)
            if to_rows is not None and of_rows is not None:
                to_rows[block] = of_rows
            to_weights = [
                total.add_(more) for total, more in zip(to_weights, of_weights, strict=True)
            ]
        return to_rows, None, *to_weights, to_scores.sum(0)
