"""The bare matrix products that training must do, and nothing else: what no program on this machine can undercut.

Counted are products of rows by weights: forward, gradients of the weights, gradients of the inputs
except for the features. For DSMIL, HMIL and TransMIL they are the fewest and fastest we know
(gradients of the instance classifier from the critical rows alone; maps without an activation
between them multiplied first; equal landmarks counted once; only the class token's row behind the
second layer), fewer than the authors' code has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from mil_bench.benchmarks.speed.loops import WIDTH
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Product = tuple[int, int, int, int]
"""A product ``[m, k] x [k, n]``, and how often."""


def _layer(rows: int, width: int, out: int, to_input: bool = True) -> list[Product]:
    """A linear layer: forward, gradient of its weights, of its input."""
    back = [(rows, out, width, 1)] if to_input else []
    return [(rows, width, out, 1), (out, rows, width, 1), *back]


def _abmil(rows: int) -> list[Product]:
    return [*_layer(rows, WIDTH, 500, False), *_layer(rows, 500, 128)]


def _clam(rows: int) -> list[Product]:
    return [*_layer(rows, WIDTH, 512, False), *_layer(rows, 512, 256), *_layer(rows, 512, 256)]


def _dsmil(rows: int, classes: int = 7) -> list[Product]:
    # Thin products with the rows as columns, the faster way round; instance logits, pooling,
    # gradient of attention.
    thin = [(classes, WIDTH, rows, 2), (classes, rows, WIDTH, 1)]
    return [*_layer(rows, WIDTH, 128, False), *_layer(rows, 128, 128), *thin]


def _hmil(rows: int) -> list[Product]:
    joined = [
        (256, 1024, 256, 9)
    ]  # three maps times the second layer, and the gradients of both factors
    gates = [part for width in (256, 256, 64, 64) for part in _layer(rows, 256, width)]
    return [*_layer(rows, WIDTH, 256, False), *gates, *joined]


def _transmil(rows: int, width: int = 512) -> list[Product]:
    n = math.ceil(math.sqrt(rows)) ** 2 + 1
    padded = -(-n // 256) * 256
    marks = min(256, 256 - (padded - n) // (padded // 256) + 1)
    done = [*_layer(rows, WIDTH, width, False)]
    for kept in (n, 1):
        done += [*_layer(n, width, 3 * width), *_layer(kept, width, width)]
        inverse = [(marks, marks, marks, 8 * 3 * 24)]
        attended = [(marks, 64, padded, 8 * 3), (marks, padded, 64, 8 * 3)]
        done += [
            *inverse,
            *attended,
            (kept, 64, marks, 8 * 3),
            (kept, marks, 64, 8 * 3),
            (marks, marks, 64, 8 * 3),
        ]
    return done


_SHAPES = {"abmil": _abmil, "clam-sb": _clam, "dsmil": _dsmil, "hmil": _hmil, "transmil": _transmil}


def _operands(
    shapes: Sequence[Product], like: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """Factors and results; equal shapes share their memory, as a bag's rows serve forward and backward pass."""
    held: dict[tuple[str, int, int], Tensor] = {}

    def matrix(role: str, rows: int, columns: int) -> Tensor:
        if (role, rows, columns) not in held:
            held[role, rows, columns] = like.new_ones(rows, columns)
        return held[role, rows, columns]

    for m, k, n, times in shapes:
        yield matrix("factor", m, k), matrix("factor", k, n), matrix("result", m, n), times


_READY: dict[tuple[str, int], list[tuple[Tensor, Tensor, Tensor, int]]] = {}


def products(method: str, bags: Sequence[Tensor]) -> Callable[[], None]:
    """One step of one fold on these bags, as products of matrices of the right shapes."""
    rows = sum(map(len, bags))
    if (method, rows) not in _READY:
        _READY[method, rows] = list(_operands(_SHAPES[method](rows), bags[0]))

    def run() -> None:
        for left, right, out, times in _READY[method, rows]:
            for _ in range(times):
                torch.mm(left, right, out=out)

    return run
