"""The matrix products that training must compute and nothing else: a lower bound of its time.

These are products of rows and weights: the forward pass, gradients of the weights, and gradients of
the inputs except for the features. For DSMIL, HMIL and TransMIL they are the fewest and fastest we
know, fewer than in the authors' code: gradients of the instance classifier from the critical rows
alone; maps without an activation between them multiplied first; equal landmarks counted once; only
the class token's row after the second layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from mil_bench.benchmarks.speed.race.core_models import WIDTH
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Product = tuple[int, int, int, int]
"""m, k, n of a product ``[m, k] x [k, n]``, and how often it is computed."""


def _layer(rows: int, width: int, out: int, to_input: bool = True) -> list[Product]:
    """A linear layer: the forward pass, the gradient of its weights, and that of its input."""
    back = [(rows, out, width, 1)] if to_input else []
    return [(rows, width, out, 1), (out, rows, width, 1), *back]


def _abmil(rows: int) -> list[Product]:
    return [*_layer(rows, WIDTH, 500, False), *_layer(rows, 500, 128)]


def _clam(rows: int) -> list[Product]:
    return [*_layer(rows, WIDTH, 512, False), *_layer(rows, 512, 256), *_layer(rows, 512, 256)]


def _dsmil(rows: int, classes: int = 7) -> list[Product]:
    # Thin products are faster with the rows as columns: instance logits, pooling, and the gradient
    # of attention.
    thin = [(classes, WIDTH, rows, 2), (classes, rows, WIDTH, 1)]
    return [*_layer(rows, WIDTH, 128, False), *_layer(rows, 128, 128), *thin]


def _hmil(rows: int) -> list[Product]:
    # Three maps times the second layer, and the gradients of both factors.
    joined = [(256, 1024, 256, 9)]
    gates = [part for width in (256, 256, 64, 64) for part in _layer(rows, 256, width)]
    return [*_layer(rows, WIDTH, 256, False), *gates, *joined]


def _transmil(rows: int, width: int = 512) -> list[Product]:
    n = math.ceil(math.sqrt(rows)) ** 2 + 1
    padded = -(-n // 256) * 256
    marks = min(256, 256 - (padded - n) // (padded // 256) + 1)
    shapes = [*_layer(rows, WIDTH, width, False)]
    for kept in (n, 1):
        shapes += [*_layer(n, width, 3 * width), *_layer(kept, width, width)]
        inverse = [(marks, marks, marks, 8 * 3 * 24)]
        attended = [(marks, 64, padded, 8 * 3), (marks, padded, 64, 8 * 3)]
        mixed = [(kept, 64, marks, 8 * 3), (kept, marks, 64, 8 * 3), (marks, marks, 64, 8 * 3)]
        shapes += [*inverse, *attended, *mixed]
    return shapes


SHAPES: Mapping[str, Callable[[int], list[Product]]] = {
    "abmil": _abmil,
    "clam-sb": _clam,
    "dsmil": _dsmil,
    "hmil": _hmil,
    "transmil": _transmil,
}
"""The products of a step by method and rows; the floor of other methods was not worked out."""


def _operands(
    shapes: Sequence[Product], like: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """Factors and results; equal shapes share memory, as the rows of a bag do in a training."""
    held: dict[tuple[str, int, int], Tensor] = {}

    def matrix(role: str, rows: int, columns: int) -> Tensor:
        if (role, rows, columns) not in held:
            held[role, rows, columns] = like.new_ones(rows, columns)
        return held[role, rows, columns]

    for m, k, n, times in shapes:
        yield matrix("factor", m, k), matrix("factor", k, n), matrix("result", m, n), times


_READY: dict[tuple[str, int], list[tuple[Tensor, Tensor, Tensor, int]]] = {}


def products(method: str, bags: Sequence[Tensor]) -> Callable[[], None]:
    """One step of one fold on these bags, as matrix products of the right shapes."""
    rows = sum(map(len, bags))
    if (method, rows) not in _READY:
        _READY[method, rows] = list(_operands(SHAPES[method](rows), bags[0]))

    def run() -> None:
        for left, right, out, times in _READY[method, rows]:
            for _ in range(times):
                torch.mm(left, right, out=out)

    return run
