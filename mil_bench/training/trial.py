"""Whether the folds of a method can be computed as one, found out by two steps on few instances.

The conformance checks say it before a training, to an author who runs them. This trial is the
second lock: it is made at the start of every stacked training, on bags of that training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from mil_bench.bags.batch import BagBatch
from mil_bench.devices import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.methods import Method

_MOST_BAGS, _MOST_ROWS = 4, 64  # so that the trial costs less than a step
_SHARE = 1e-3  # of the largest gradient; far above rounding in bfloat16, far below mixed bags
_NOISE = 10  # times what a repetition differs by: sums on a GPU come in any order


class Folds(Protocol):
    """Two newly built folds as one."""

    def gradients(self, bags: BagBatch, weight: Tensor, progress: float, seed: int) -> Tensor:
        """``[K, P]`` in training mode; ``weight`` is ``[K, B]`` on the CPU."""
        ...

    def buffers(self) -> dict[str, Tensor]:
        """Copies of the method's buffers, those that differ by fold ``[K, ...]``."""
        ...


class _Steps(NamedTuple):
    first: Tensor  # [P], the gradient of fold 0
    second: Tensor
    changed: list[str]  # buffers


def why_looped(make: Callable[[], Folds], bags: BagBatch, method: Method, progress: float) -> str:
    """Why the folds have to be trained one after another; "" if they can be computed as one.

    Fold 0 trains on some bags, fold 1 on copies of them with other features and labels. If those
    change, nothing of fold 0 may move: neither this step's gradient nor, through something that the
    method remembers, the next one's.

    Args:
        make: two folds, new at every call.
        bags: a batch on which some fold trains.
        method: one of the folds, for the number of its classes and the sizes of bags it accepts.
        progress: share of the training that is over.
    """
    own, classes = _few(bags, method.min_rows), method.hierarchy.n_fine
    with_others = [_joined(own, _other(own, classes, times)) for times in (1, 2)]
    weight = torch.zeros(2, 2 * own.n_bags)
    weight[0, : own.n_bags] = weight[1, own.n_bags :] = 1
    try:
        once, again, moved = (
            _two_steps(make(), (with_others[i], with_others[0]), weight, progress)
            for i in (0, 0, 1)
        )
    except Exception as error:  # a method may raise anything here
        if is_out_of_memory(error):  # says nothing about the method
            raise
        text = str(error).strip().partition("\n")[0].partition(". ")[0]
        return f"torch.func.vmap does not run its loss ({type(error).__name__}: {text})"
    if once.changed:
        return f"training changes its buffer {once.changed[0]}, of which a stack has one copy"
    for step in ("first", "second"):
        value, same, other = (getattr(steps, step) for steps in (once, again, moved))
        allowed = _SHARE * value.abs().max() + _NOISE * (same - value).abs().max()
        if not bool((other - value).abs().max() <= allowed):  # NaN is not <= anything
            return "bags of weight 0 change its gradients in training"
    return ""


def _two_steps(
    folds: Folds, batches: tuple[BagBatch, BagBatch], weight: Tensor, progress: float
) -> _Steps:
    before = folds.buffers()
    first, second = (
        folds.gradients(bags, weight, progress, seed)[0] for seed, bags in enumerate(batches)
    )
    after = folds.buffers()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    return _Steps(first, second, changed)


def _few(bags: BagBatch, least: int) -> BagBatch:
    """The first rows of the first bags, not fewer per bag than the method accepts."""
    lengths = [min(length, max(_MOST_ROWS, least)) for length in bags.lengths[:_MOST_BAGS]]
    starts = [0, *torch.tensor(bags.lengths).cumsum(0).tolist()]
    rows = torch.cat([torch.arange(a, a + n) for a, n in zip(starts, lengths, strict=False)])
    rows = rows.to(bags.features.device)

    def take(column: Tensor | None) -> Tensor | None:
        return None if column is None else column[rows]

    return BagBatch.pack(
        bags.features[rows],
        torch.tensor(lengths),
        bags.labels[: len(lengths)],
        take(bags.coords),
        take(bags.instance_labels),
    )


def _other(bags: BagBatch, classes: int, times: int) -> BagBatch:
    """Bags of the same sizes with other features and labels."""
    shown = bags.instance_labels
    return replace(
        bags,
        features=1 - (1 + times) * bags.features,
        labels=(bags.labels + times) % classes,
        instance_labels=None if shown is None else (shown + 1 + times) % (classes + 1) - 1,
    )


def _joined(one: BagBatch, other: BagBatch) -> BagBatch:
    def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.cat([a, b])

    return BagBatch.pack(
        torch.cat([one.features, other.features]),
        torch.tensor([*one.lengths, *other.lengths]),
        torch.cat([one.labels, other.labels]),
        both(one.coords, other.coords),
        both(one.instance_labels, other.instance_labels),
    )
