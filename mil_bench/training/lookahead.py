"""Lookahead around rectified Adam, as TransMIL's authors train.

M. Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, NeurIPS 2019; L. Liu et al., On
the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020; released code szc19990412/TransMIL
(MyOptimizer). Torch's rectified Adam with decoupled weight decay is the release's, formula by
formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import RAdam

if TYPE_CHECKING:
    from collections.abc import Sequence

PERIOD, PULL = 6, 0.5  # steps between synchronisations, and the share of the way to go: the release


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay acts on a parameter: it has two or more dimensions and is no bias."""
    return parameter.ndim > 1 and not name.endswith(".bias")


class LookaheadRAdam(RAdam):
    """Rectified Adam whose weights go halfway back to the slow weights after every sixth step.

    The slow weights are those of the last synchronisation. As released, they are first taken at
    step 6 instead of at the start: step 6 changes nothing, and step 12 is the first to pull.

    Args:
        module: what to train. Weight decay acts on the parameters that ``decays`` selects, which
            excludes normalisations.
        lr: learning rate.
        betas: decay rates of the moments.
        weight_decay: decoupled, ``p -= lr * weight_decay * p``.
        factors: of the learning rate of every parameter, () for 1.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        factors: Sequence[float] = (),
    ) -> None:
        named = list(module.named_parameters())
        chosen: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for (name, parameter), factor in zip(named, factors or [1.0] * len(named), strict=True):
            chosen.setdefault((decays(name, parameter), factor), []).append(parameter)
        groups: list[dict[str, Any]] = [
            {
                "params": parameters,
                "weight_decay": weight_decay if decayed else 0.0,
                "factor": factor,
                "steps": 0,
                "slow": [],
            }
            for (decayed, factor), parameters in sorted(chosen.items(), key=lambda pair: pair[0])
        ]
        super().__init__(
            groups, lr, betas, weight_decay=weight_decay, decoupled_weight_decay=True, foreach=True
        )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # training has no closure
        """One step of rectified Adam, and a synchronisation after every sixth."""
        super().step()
        for group in self.param_groups:
            group["steps"] += 1
            if group["steps"] % PERIOD:
                continue
            if not group["slow"]:
                group["slow"] = [p.clone() for p in group["params"]]
            torch._foreach_lerp_(group["slow"], group["params"], PULL)
            torch._foreach_copy_(group["params"], group["slow"])
