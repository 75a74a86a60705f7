"""K folds of one architecture as one: parameters ``[K, ...]``, one forward and one backward pass for all.

``torch.func`` maps a method's loss over the folds; the batch is read and stored once. What a fold's
products are made of differs from a fold trained alone by rounding only (see
``tests/training/test_fold_stack.py``), but it does differ: products of several folds are one
batched product.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mil_bench import seeds
from mil_bench.training.stack import Identity, Step, one_a_fold
from mil_bench.training.stacked_optim import RULES

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping, Sequence

    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods import Method, Output, Recipe


class FoldStack:
    """K folds, seeds or settings of one architecture, trained in one pass over the data.

    All weights of a fold lie in one row of a matrix ``[K, P]``, and so do its optimizer's moments:
    a step is a few passes over matrices, whatever the number of layers. Folds that have no bag in a
    batch are left out of them.

    On a GPU products run in bfloat16, everything after them in float32.

    Args:
        methods: one freshly built method a fold, equal but for their weights.
        recipe: how to train them; one a fold where learning rate or weight decay differ.
        identities: one identity a fold; together they seed dropout, which is independent between
            folds.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        recipe: Recipe | Sequence[Recipe],
        identities: Sequence[Identity],
    ) -> None:
        self._recipes = one_a_fold(recipe, len(methods))
        self._seed = seeds.derive(
            *(str(part) for identity in identities for part in identity), "steps"
        )
        self._loss = _Loss(copy.deepcopy(methods[0]))
        named = dict(methods[0].named_parameters())
        self._names, self._shapes = list(named), [p.shape for p in named.values()]
        self._lengths = [p.numel() for p in named.values()]
        rows = [
            torch.cat([p.detach().flatten() for p in method.parameters()]) for method in methods
        ]
        self._values = torch.stack(rows)  # [K, P]
        self._best = self._values.clone()
        self._rule = RULES[self._recipes[0].optimizer](self._values, named, self._recipes)

    def __len__(self) -> int:
        return len(self._values)

    def train(self, steps: Sequence[Step], progress: float) -> Tensor:
        """Step after step, all folds at once; see ``Stack``."""
        return torch.stack([self._step(step, progress) for step in steps])

    def _step(self, step: Step, progress: float) -> Tensor:
        """Move the folds that have a bag in the batch; the losses ``[K]``."""
        bags, weight, number = step
        moved = (weight > 0).any(1).nonzero()[:, 0]
        losses = bags.features.new_full((len(self),), torch.nan)
        if not len(moved):
            return losses
        self._loss.train()
        everyone = len(moved) == len(self)
        folds = moved.to(losses.device)
        values = self._values if everyone else self._values[folds]

        def loss_of(row: Tensor, own: Tensor) -> Tensor:
            return functional_call(
                self._loss, self._unpacked(row, "method."), (bags, own, progress)
            )

        # Around the backward pass as well: gradients written by hand have products of their own.
        with seeds.torch_kept() as seed, _arithmetic(losses.device):
            seed(seeds.of_step(self._seed, number))
            mapped = vmap(grad_and_value(loss_of), randomness="different")
            gradients, losses[folds] = mapped(values, weight[moved].to(bags.features))
        self._rule.step(gradients, None if everyone else folds, progress)
        return losses

    @torch.no_grad()
    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode, without gradients."""
        with _arithmetic(bags.features.device):
            out = functional_call(
                self._loss.method.eval(), self._unpacked(self._values[k]), (bags,)
            )
        return out._replace(fine=out.fine.float() if out.fine.dtype == torch.bfloat16 else out.fine)

    def state(self, k: int) -> dict[str, Tensor]:
        """A copy of fold k's weights."""
        constants = {
            name: b.clone()
            for name, b in self._loss.method.state_dict().items()
            if name not in self._names
        }
        return constants | {
            name: value.clone() for name, value in self._unpacked(self._values[k]).items()
        }

    def keep(self, k: int) -> None:
        """Remember fold k's weights as its best."""
        self._best[k] = self._values[k]

    def restore(self) -> None:
        """Put every fold back to its best weights."""
        self._values.copy_(self._best)

    def _unpacked(self, row: Tensor, prefix: str = "") -> Mapping[str, Tensor]:
        """A fold's parameters by name, from its row ``[P]``."""
        parts = zip(self._names, row.split(self._lengths), self._shapes, strict=True)
        return {prefix + name: part.view(shape) for name, part, shape in parts}


class _Loss(nn.Module):
    """A method's loss as a module, so that ``functional_call`` reaches it."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return self.method.loss(self.method(bags), bags, weight, progress)


def _arithmetic(device: torch.device) -> contextlib.AbstractContextManager:
    """Products in bfloat16 on a GPU; softmax, logarithms and losses stay in float32 there, and all on a CPU.

    The CPU's own attention kernel cannot be mapped over folds, so attention is left to its
    products.
    """
    return bfloat16_products(device) if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)


def bfloat16_products(device: torch.device) -> contextlib.AbstractContextManager:
    """Matrix products of a device in bfloat16 inside the block."""
    return torch.autocast(device.type, torch.bfloat16)
