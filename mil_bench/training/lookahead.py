"""Lookahead around rectified Adam, as TransMIL's authors train.

M. Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, NeurIPS 2019; L. Liu et al., On
the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020; released code szc19990412/TransMIL
(MyOptimizer). Torch's rectified Adam with decoupled weight decay is the release's, formula by
formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import RAdam

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD, PULL = 6, 0.5  # steps between synchronisations, and the share of the way to go: the release


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay acts on a parameter: on tensors of two or more dimensions that are no bias."""
    return parameter.ndim > 1 and not name.endswith(".bias")


class LookaheadRAdam(RAdam):
    """Rectified Adam whose weights every 6 steps go halfway back to where they were at the last synchronisation.

    As released, the slow weights are taken at the first synchronisation instead of at the start:
    step 6 changes nothing, and step 12 is the first to pull.

    Args:
        module: what to train. Weight decay acts where ``decays`` says so, which leaves out
            normalisations.
        lr: step size.
        betas: decay rates of the moments.
        weight_decay: decoupled, ``p -= lr * weight_decay * p``.
    """

    def __init__(
        self, module: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        kept, decayed = [], []
        for name, parameter in module.named_parameters():
            (decayed if decays(name, parameter) else kept).append(parameter)
        groups = [{"params": kept, "weight_decay": 0.0}, {"params": decayed}]
        groups = [{**group, "steps": 0, "slow": []} for group in groups if group["params"]]
        super().__init__(
            groups, lr, betas, weight_decay=weight_decay, decoupled_weight_decay=True, foreach=True
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step of rectified Adam, and a synchronisation after every sixth."""
        loss = super().step(closure)
        for group in self.param_groups:
            group["steps"] += 1
            if group["steps"] % PERIOD:
                continue
            if not group["slow"]:
                group["slow"] = [p.clone() for p in group["params"]]
            torch._foreach_lerp_(group["slow"], group["params"], PULL)
            torch._foreach_copy_(group["params"], group["slow"])
        return loss
