"""K folds of one architecture as one: parameters ``[K, ...]``, one pass for all folds.

``torch.func`` maps a method's loss over the folds; the batch is read and stored once. Results equal
those of a fold trained alone up to rounding (see ``tests/training/test_fold_stack.py``), but not
bit for bit, since the matrix products of several folds are one batched product.
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
        """The steps in order, all folds at once; see ``Stack``."""
        return torch.stack([self._step(step, progress) for step in steps])

    def _step(self, step: Step, progress: float) -> Tensor:
        """One optimizer step of the folds that have a bag in the batch; the losses ``[K]``."""
        bags, weight, number = step
        moved = (weight > 0).any(1).nonzero()[:, 0]
        losses = bags.features.new_full((len(self),), torch.nan)
        if not len(moved):
            return losses
        self._loss.train()
        everyone = len(moved) == len(self)
        folds = moved.to(losses.device)
        values = self._values if everyone else self._values[folds]

        def loss_of(row: Tensor, bag_weight: Tensor) -> Tensor:
            parameters = self._unpacked(row, "method.")
            return functional_call(self._loss, parameters, (bags, bag_weight, progress))

        # Also around the backward pass, since gradients written by hand compute matrix products.
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
        """Store fold k's weights as its best."""
        self._best[k] = self._values[k]

    def restore(self) -> None:
        """Load every fold's best weights."""
        self._values.copy_(self._best)

    def _unpacked(self, row: Tensor, prefix: str = "") -> dict[str, Tensor]:
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
    """On a GPU, products in bfloat16, and softmax, logarithms and losses in float32.

    On a CPU everything is in float32. Its attention kernel cannot be mapped over folds, so
    attention is computed as matrix products.
    """
    return bfloat16_products(device) if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)


def bfloat16_products(device: torch.device) -> contextlib.AbstractContextManager:
    """Matrix products of a device in bfloat16 inside the block."""
    return torch.autocast(device.type, torch.bfloat16)
