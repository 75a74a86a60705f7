"""The optimizers of ``optim.MAKERS`` for K folds at once, over matrices ``[K, P]``.

Each fold has its own step count, learning rate and weight decay. A step changes only the folds that
it names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mil_bench import devices
from mil_bench.training.lookahead import PERIOD, PULL, decays
from mil_bench.training.parameter_groups import CLIP_EPSILON, clipped_groups, rate_factors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.methods import Recipe

_EPSILON = 1e-8  # torch's default for all of them


class _Clip:
    """Scales the gradients of each fold down to the recipe's norms."""

    def __init__(self, values: Tensor, named: Mapping[str, Tensor], recipe: Recipe) -> None:
        self._largest = recipe.clip_norm
        ends = dict(zip(named, accumulate(p.numel() for p in named.values()), strict=True))
        self._columns: list[Tensor] = []
        """Of every group ``[P']``; none if the only group is everything."""
        for group in clipped_groups(named, recipe):
            parts = [torch.arange(ends[n] - named[n].numel(), ends[n]) for n in group]
            if len(group) < len(named):
                self._columns.append(torch.cat(parts).to(values.device))

    def __call__(self, gradients: Tensor) -> None:
        """Change the gradients ``[F, P]`` in place."""
        if self._largest is None:
            return
        if not self._columns:
            gradients.mul_(self._factor(gradients))
        for columns in self._columns:
            part = gradients[:, columns]
            gradients[:, columns] = part * self._factor(part)

    def _factor(self, gradients: Tensor) -> Tensor:
        assert self._largest is not None
        norm = gradients.norm(dim=1, keepdim=True)
        return (self._largest / (norm + CLIP_EPSILON)).clamp(max=1)


class StackedRule(ABC):
    """Moments and step counts of K folds.

    Args:
        values: the parameters ``[K, P]``, changed in place by ``step``.
        named: a fold's parameters by name, in the order in which ``values`` has them.
        recipes: one per fold; betas are those of the first.
    """

    def __init__(
        self,
        values: Tensor,
        named: Mapping[str, Tensor],  # for rules that treat parameters differently
        recipes: Sequence[Recipe],
    ) -> None:
        self._values, self._recipes, self._betas = values, recipes, recipes[0].betas
        self._first, self._second = torch.zeros_like(values), torch.zeros_like(values)
        self._steps = values.new_zeros((len(values), 1), dtype=torch.float64)
        self._decay = values.new_tensor([[r.weight_decay] for r in recipes])  # [K, 1]
        self._progress = -1.0
        self._scales = [1.0] * len(values)
        self._clip = _Clip(values, named, recipes[0])
        self._factors: Tensor | None = None  # of the learning rates [P], None for 1
        if recipes[0].rates:
            lengths = torch.tensor([p.numel() for p in named.values()])
            factors = values.new_tensor(rate_factors(named, recipes[0]))
            self._factors = factors.repeat_interleave(lengths.to(values.device))

    def step(self, gradients: Tensor, folds: Tensor | None, progress: float) -> None:
        """One step of some folds.

        Args:
            gradients: ``[F, P]``, may be overwritten.
            folds: numbers of the F folds ``[F]``, or None for all folds.
            progress: share of the training that is over; sets the learning rates.
        """
        if progress != self._progress:  # one transfer per epoch
            pairs = zip(self._scales, self._recipes, strict=True)
            rates = [[scale * recipe.learning_rate_at(progress)] for scale, recipe in pairs]
            there = torch.tensor(rates, dtype=self._values.dtype)
            self._rates = devices.send(there, self._values.device)
            self._progress = progress
        state = [self._values, self._first, self._second, self._steps, *self._more()]
        own = state if folds is None else [each[folds] for each in state]
        rate, decay = (
            each if folds is None else each[folds] for each in (self._rates, self._decay)
        )
        if self._factors is not None:
            rate = rate * self._factors
        self._clip(gradients)
        own[3] += 1
        self._move(gradients, own, rate, decay)
        if folds is not None:
            for each, moved in zip(state, own, strict=True):
                each[folds] = moved

    def scale_rate(self, k: int, scale: float) -> None:
        """From now on, fold k's learning rate is the recipe's times ``scale``."""
        self._scales[k] = scale
        self._progress = -1.0

    def _more(self) -> list[Tensor]:
        """Further state ``[K, ...]``, handed to ``_move`` after values, moments and steps."""
        return []

    @abstractmethod
    def _move(self, gradients: Tensor, own: list[Tensor], rate: Tensor, decay: Tensor) -> None:
        """Change ``own`` in place.

        Args:
            gradients: ``[F, P]``.
            own: values and both moments ``[F, P]``, steps ``[F, 1]``, and what ``_more`` adds.
            rate: learning rates ``[F, 1]``, or ``[F, P]`` if parameters differ.
            decay: weight decays ``[F, 1]``.
        """

    def _moments(self, gradients: Tensor, own: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Both moments after these gradients."""
        beta1, beta2 = self._betas
        own[1].lerp_(gradients, 1 - beta1)
        own[2].mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        return own[1], own[2]

    def _corrections(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Adam's bias corrections of both moments after these steps ``[F, 1]``."""
        beta1, beta2 = self._betas
        return 1 - beta1**steps, 1 - beta2**steps


class StackedAdam(StackedRule):
    """Adam; weight decay is added to the gradients."""

    def _move(self, gradients: Tensor, own: list[Tensor], rate: Tensor, decay: Tensor) -> None:
        self._adam(gradients.addcmul_(own[0], decay), own, rate)

    def _adam(self, gradients: Tensor, own: list[Tensor], rate: Tensor) -> None:
        first, second = self._moments(gradients, own)
        short1, short2 = self._corrections(own[3])
        root = second.sqrt().div_(short2.sqrt().to(second)).add_(_EPSILON)
        own[0].sub_(root.reciprocal_().mul_(first).mul_((rate / short1).to(root)))


class StackedAdamW(StackedAdam):
    """Adam with decoupled weight decay."""

    def _move(self, gradients: Tensor, own: list[Tensor], rate: Tensor, decay: Tensor) -> None:
        own[0].mul_(1 - rate * decay)
        self._adam(gradients, own, rate)


class StackedLookaheadRAdam(StackedRule):
    """Rectified Adam with decoupled weight decay and Lookahead; see ``lookahead``."""

    def __init__(
        self, values: Tensor, named: Mapping[str, Tensor], recipes: Sequence[Recipe]
    ) -> None:
        super().__init__(values, named, recipes)
        self._slow = torch.zeros_like(values)
        lengths = torch.tensor([p.numel() for p in named.values()])
        decayed = torch.tensor([float(decays(name, p)) for name, p in named.items()])
        self._decayed = decayed.repeat_interleave(lengths).to(values)  # [P]

    def _more(self) -> list[Tensor]:
        return [self._slow]

    def _move(self, gradients: Tensor, own: list[Tensor], rate: Tensor, decay: Tensor) -> None:
        values, steps, slow = own[0], own[3], own[4]
        values.mul_(1 - rate * decay * self._decayed)
        first, second = self._moments(gradients, own)
        short1, short2 = self._corrections(steps)
        scale = self._rectified(steps, short2).to(values) / second.sqrt().add_(_EPSILON)
        scale = torch.where(scale > 0, scale, 1.0)  # not rectified in the first steps
        values.sub_(scale.mul_(first).mul_((rate / short1).to(values)))
        self._look_ahead(values, steps, slow)

    def _rectified(self, steps: Tensor, short2: Tensor) -> Tensor:
        """Torch's rectification times the second moment's correction ``[F, 1]``; 0 at first."""
        beta2 = self._betas[1]
        most = 2 / (1 - beta2) - 1
        now = most - 2 * steps * beta2**steps / short2
        share = (now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now)
        return torch.where(now > 5, share.clamp(min=0).sqrt() * short2.sqrt(), 0.0)

    def _look_ahead(self, values: Tensor, steps: Tensor, slow: Tensor) -> None:
        """Every sixth step, values go halfway back to the slow weights, except the first time."""
        pulled = torch.where(steps == PERIOD, values, torch.lerp(slow, values, PULL))
        due = steps % PERIOD == 0
        slow.copy_(torch.where(due, pulled, slow))
        values.copy_(torch.where(due, pulled, values))


class StackedSGD(StackedRule):
    """SGD with momentum; weight decay is added to the gradients.

    Torch's momentum buffer begins as the first gradient: from a buffer of 0, the same.
    """

    def _move(self, gradients: Tensor, own: list[Tensor], rate: Tensor, decay: Tensor) -> None:
        gradients.addcmul_(own[0], decay)
        own[0].sub_(own[1].mul_(self._recipes[0].momentum).add_(gradients).mul(rate))


RULES: Mapping[str, type[StackedRule]] = {
    "adam": StackedAdam,
    "adamw": StackedAdamW,
    "lookahead-radam": StackedLookaheadRAdam,
    "sgd": StackedSGD,
}
"""By the names that recipes use."""
