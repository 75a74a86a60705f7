"""Linear maps over the rows of a bag, block by block."""

from __future__ import annotations

from torch import Tensor, nn

from mil_bench.devices import is_cpu

Affine = tuple[Tensor, Tensor]
"""Weight ``[out, in, ...]`` and bias ``[out]`` of a linear map."""

_ROWS = 1024  # per block: with 256 columns, each of its tensors takes a megabyte


def affine(layer: nn.Module) -> Affine:
    """Weight and bias of a layer, or of the one that a sequence of layers begins with.

    Raises:
        TypeError: the layer is neither linear nor a convolution, or has no bias.
    """
    while isinstance(layer, nn.Sequential):
        layer = layer[0]
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) or layer.bias is None:
        raise TypeError(f"{layer} is not a linear layer with a bias")
    return layer.weight, layer.bias


def blocks(rows: Tensor) -> list[slice]:
    """The rows ``[N, ...]`` in blocks that fit into the processor's cache; one block on a GPU."""
    step = _ROWS if is_cpu(rows) else len(rows)
    return [slice(start, start + step) for start in range(0, len(rows), step)]


def tanh_(values: Tensor) -> Tensor:
    """Hyperbolic tangent in place.

    On a CPU it is ``2 sigmoid(2 x) - 1``, which takes a quarter of the time of torch's (measured).
    In float32 it differs from the true value by at most 2e-7; floats next to 1 are 1.2e-7 apart.
    """
    return values.mul_(2).sigmoid_().mul_(2).sub_(1) if is_cpu(values) else values.tanh_()


class AffineGradient:
    """The gradient of a linear map's weight and bias, summed over blocks of rows."""

    def __init__(self, layer: Affine) -> None:
        self._layer = layer
        self._sums: Affine | None = None

    def add(self, to_out: Tensor, rows: Tensor) -> None:
        """Add a block's share.

        Args:
            to_out: gradient of what the map returned for the block ``[n, out]``.
            rows: what it was given ``[n, in]``.
        """
        if self._sums is None:
            self._sums = to_out.T @ rows, to_out.sum(0)
        else:
            weight, bias = self._sums
            weight.addmm_(to_out.T, rows)
            bias.add_(to_out.sum(0))

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias, each with its gradient; none before the first block."""
        return [] if self._sums is None else list(zip(self._layer, self._sums, strict=True))
