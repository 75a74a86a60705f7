"""K folds of one architecture as one: parameters ``[K, ...]``, one pass for all folds.

``torch.func`` maps a method's loss over the folds; the batch is read and stored once. Results equal
those of a fold trained alone up to rounding (see ``tests/training/test_fold_stack.py``), but not
bit for bit, since the matrix products of several folds are one batched product.

All folds see the same batch, so a method in which bags of weight 0 count would take one fold's test
slides into its training. ``mil_bench.training.trial`` looks for that before the first step. A
method that fails the trial is trained fold after fold, each on its own bags alone.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mil_bench import devices, seeds
from mil_bench.training.averages import StackedAverage
from mil_bench.training.stack import (
    Identity,
    LoopedStack,
    Step,
    mean_weight,
    one_a_fold,
    take_losses,
)
from mil_bench.training.stacked_optim import RULES
from mil_bench.training.trial import why_looped

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence

    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods import Method, Output, Recipe


class FoldStack:
    """K folds, seeds or settings of one architecture, trained in one pass over the data.

    All weights of a fold are one row of a matrix ``[K, P]``, and so are its optimizer's moments: a
    step is a few passes over matrices, whatever the number of layers. Folds without a bag in a
    batch take no part in the step.

    On a GPU, matrix products run in bfloat16 and everything else in float32.

    Args:
        methods: a newly built method per fold, equal except for their weights.
        recipe: how to train them; one per fold if learning rates or weight decays differ.
        identities: one per fold; together they seed dropout, which is independent between folds.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        recipe: Recipe | Sequence[Recipe],
        identities: Sequence[Identity],
    ) -> None:
        self._recipes = one_a_fold(recipe, len(methods))
        take_losses(methods, self._recipes)
        self._seed = seeds.derive(
            *(str(part) for identity in identities for part in identity), "steps"
        )
        self._mapped = MappedFolds(methods)
        self._values = self._mapped.values  # [K, P]
        self._best = self._values.clone()
        first = self._recipes[0]
        self._average: StackedAverage | None = None
        if first.ema:
            self._average = StackedAverage(self._values, first.ema)
            self._mapped.shown = self._average.values
        self._sums = torch.zeros_like(self._values) if first.accumulate > 1 else None
        self._counts = torch.zeros(len(methods), dtype=torch.int64)  # batches in the sums
        named = dict(methods[0].named_parameters())
        self._rule = RULES[self._recipes[0].optimizer](self._values, named, self._recipes)
        device = self._values.device
        # The same folds are moved together again and again: their numbers stay on the device.
        self._numbers = functools.lru_cache(1024)(
            lambda folds: devices.send(torch.tensor(folds), device)
        )
        self._untried: Sequence[Method] = methods
        self._identities = identities
        self._loop: LoopedStack | None = None
        self.why_looped = ""
        """Why the folds are trained one after another; "" as long as they are computed as one."""

    def __len__(self) -> int:
        return len(self._values)

    def train(self, steps: Sequence[Step], progress: float) -> Tensor:
        """The steps in order, all folds at once; see ``Stack``."""
        if self._untried:
            self._try(steps, progress)
        if self._loop:
            return self._loop.train(steps, progress)
        return torch.stack([self._step(step, progress) for step in steps])

    def _try(self, steps: Sequence[Step], progress: float) -> None:
        """Before the first step that moves a fold: decide between one pass and a loop."""
        bags = next((_used(step)[0] for step in steps if (step.weight > 0).any()), None)
        if bags is None:
            return
        methods, self._untried = self._untried, ()

        def two_folds() -> MappedFolds:
            return MappedFolds([copy.deepcopy(methods[0]), copy.deepcopy(methods[-1])])

        self.why_looped = why_looped(two_folds, bags, methods[0], progress)
        if self.why_looped:
            self._loop = LoopedStack(methods, self._recipes, self._identities)

    def _step(self, step: Step, progress: float) -> Tensor:
        """One optimizer step of the folds that have a bag in the batch; the losses ``[K]``."""
        moved = (step.weight > 0).any(1).nonzero()[:, 0]
        losses = step.bags.features.new_full((len(self),), torch.nan)
        if not len(moved):
            return losses
        bags, weight = _used(step)
        folds = None if len(moved) == len(self) else self._on_device(moved)
        weight = weight if folds is None else weight[folds]
        seed = seeds.of_step(self._seed, step.number)
        self._mapped.set_mode(training=True)
        gradients, values = self._mapped.step(bags, weight, progress, seed, folds)
        share = mean_weight(self._recipes[0], weight)
        if share is not None:
            share = share.to(gradients)
            gradients, values = gradients * share, values * share[:, 0]
        losses[slice(None) if folds is None else folds] = values
        self._move(gradients, moved, progress)
        return losses

    def _on_device(self, folds: Tensor) -> Tensor:
        """Numbers of folds on the device."""
        return self._numbers(tuple(folds.tolist()))

    def _move(self, gradients: Tensor, moved: Tensor, progress: float) -> None:
        """A step of the optimizer for the folds that have all their batches.

        Args:
            gradients: of a batch ``[F, P]``.
            moved: numbers of the F folds ``[F]``, on the CPU.
            progress: share of the training that is over.
        """
        if self._sums is not None:
            batches = self._recipes[0].accumulate
            self._sums.index_add_(0, self._on_device(moved), gradients / batches)
            self._counts[moved] += 1
            moved = (self._counts == batches).nonzero()[:, 0]
            if not len(moved):
                return
            rows = self._on_device(moved)
            gradients = self._sums[rows]
            self._sums.index_fill_(0, rows, 0)
            self._counts[moved] = 0
        folds = None if len(moved) == len(self) else self._on_device(moved)
        self._rule.step(gradients, folds, progress)
        if self._average:
            self._average.update(folds)

    @torch.no_grad()
    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode, without gradients."""
        return self._loop.forward(k, bags) if self._loop else self._mapped.forward(k, bags)

    def state(self, k: int) -> dict[str, Tensor]:
        """A copy of fold k's weights."""
        return self._loop.state(k) if self._loop else self._mapped.state(k)

    def scale_rate(self, k: int, scale: float) -> None:
        """From now on, fold k's learning rate is the recipe's times ``scale``."""
        if self._loop:
            self._loop.scale_rate(k, scale)
        else:
            self._rule.scale_rate(k, scale)

    def keep(self, k: int) -> None:
        """Store fold k's weights as its best."""
        if self._loop:
            self._loop.keep(k)
        else:
            self._best[k] = self._mapped.shown[k]

    def restore(self) -> None:
        """Load every fold's best weights."""
        if self._loop:
            self._loop.restore()
        else:
            self._values.copy_(self._best)
            self._mapped.shown.copy_(self._best)


def _used(step: Step) -> tuple[BagBatch, Tensor]:
    """The bags on which some fold trains, and their weights there; a method sees no others."""
    used = (step.weight > 0).any(0)
    if used.all():
        return step.bags, step.weight_on_device()
    part = devices.send(step.weight[:, used], step.bags.features.device)
    return step.bags.select(used.nonzero()[:, 0]), part


class MappedFolds:
    """The losses and gradients of K folds in one pass, whatever the method does with other bags.

    Args:
        methods: a method per fold, equal except for their weights.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        self._loss = _Loss(copy.deepcopy(methods[0]))
        self._buffers = _different_buffers(methods)
        named = dict(methods[0].named_parameters())
        self._names, self._shapes = list(named), [p.shape for p in named.values()]
        self._lengths = [p.numel() for p in named.values()]
        rows = [
            torch.cat([p.detach().flatten() for p in method.parameters()]) for method in methods
        ]
        self.values = torch.stack(rows)
        """The parameters ``[K, P]``."""
        self.shown = self.values
        """What ``forward`` and ``state`` take for them, for instance their average."""

    def set_mode(self, *, training: bool) -> None:
        """Training or evaluation mode, for the next steps."""
        self._loss.train(training)

    def step(
        self,
        bags: BagBatch,
        weight: Tensor,
        progress: float,
        seed: int,
        folds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Gradients ``[F, P]`` and losses ``[F]``, in the mode that ``set_mode`` has set.

        Args:
            bags: the batch.
            weight: ``[F, B]``.
            progress: share of the training that is over.
            seed: of torch's generators during the step.
            folds: numbers of the F folds ``[F]``, None for all.
        """
        values = self.values if folds is None else self.values[folds]

        buffers = {
            f"method.{name}": value if folds is None else value[folds]
            for name, value in self._buffers.items()
        }

        def loss_of(row: Tensor, buffers: dict[str, Tensor], bag_weight: Tensor) -> Tensor:
            tensors = self._unpacked(row, "method.") | buffers
            return functional_call(self._loss, tensors, (bags, bag_weight, progress))

        # Also around the backward pass, since gradients written by hand compute matrix products.
        with seeds.torch_kept() as set_seed, _arithmetic(bags.features.device):
            set_seed(seed)
            mapped = vmap(grad_and_value(loss_of), randomness="different")
            return mapped(values, buffers, weight.to(bags.features))

    def gradients(self, bags: BagBatch, weight: Tensor, progress: float, seed: int) -> Tensor:
        """Of all folds ``[K, P]`` in training mode; see ``step``."""
        self.set_mode(training=True)
        return self.step(bags, weight, progress, seed)[0]

    def buffers(self) -> dict[str, Tensor]:
        """Copies of the method's buffers, those that differ by fold ``[K, ...]``."""
        shared = dict(self._loss.method.named_buffers())
        return {name: value.clone() for name, value in (shared | self._buffers).items()}

    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode."""
        with _arithmetic(bags.features.device):
            tensors = self._unpacked(self.shown[k]) | self._buffers_of(k)
            out = functional_call(self._loss.method.eval(), tensors, (bags,))
        return out._replace(fine=out.fine.float() if out.fine.dtype == torch.bfloat16 else out.fine)

    def state(self, k: int) -> dict[str, Tensor]:
        """A copy of fold k's weights, named as in ``Method.state_dict()``."""
        own = self._buffers_of(k)
        constants = {
            name: own.get(name, b).clone()
            for name, b in self._loss.method.state_dict().items()
            if name not in self._names
        }
        return constants | {
            name: value.clone() for name, value in self._unpacked(self.shown[k]).items()
        }

    def _buffers_of(self, k: int) -> dict[str, Tensor]:
        """Fold k's values of the buffers that differ by fold."""
        return {name: value[k] for name, value in self._buffers.items()}

    def _unpacked(self, row: Tensor, prefix: str = "") -> dict[str, Tensor]:
        """A fold's parameters by name, from its row ``[P]``."""
        parts = zip(self._names, row.split(self._lengths), self._shapes, strict=True)
        return {prefix + name: part.view(shape) for name, part, shape in parts}


def _different_buffers(methods: Sequence[Method]) -> dict[str, Tensor]:
    """The buffers that are not the same in every fold ``[K, ...]``; some are drawn at random."""
    named = [dict(method.named_buffers()) for method in methods]
    stacked = {name: [each[name] for each in named] for name in named[0]}
    return {
        name: torch.stack(values)
        for name, values in stacked.items()
        if not all(torch.equal(values[0], value) for value in values)
    }


class _Loss(nn.Module):
    """A method's loss as a module, so that ``functional_call`` reaches it."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return self.method.training_loss(bags, weight, progress)


def _arithmetic(device: torch.device) -> contextlib.AbstractContextManager:
    """On a GPU, products in bfloat16, and softmax, logarithms and losses in float32.

    On a CPU everything is in float32. Its attention kernel cannot be mapped over folds, so
    attention is computed as matrix products.
    """
    return (
        sdpa_kernel(SDPBackend.MATH)
        if devices.is_cpu(device)
        else devices.bfloat16_products(device)
    )
