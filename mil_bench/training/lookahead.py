"""Lookahead around rectified Adam, as TransMIL's authors train.

M. Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, NeurIPS 2019; L. Liu et al., On
the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020; released code szc19990412/TransMIL
(MyOptimizer). Torch's rectified Adam with decoupled weight decay is the release's, formula by
formula.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import RAdam
from torch.optim.adamw import adamw

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
        super().__init__(groups, lr, betas, weight_decay=weight_decay, decoupled_weight_decay=True)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # training has no closure
        """One step of rectified Adam, and a synchronisation after every sixth."""
        for group in self.param_groups:
            for number, states in self._by_number(group).items():
                self._move(group, number, states)
            group["steps"] += 1
            if group["steps"] % PERIOD:
                continue
            if not group["slow"]:
                group["slow"] = [p.clone() for p in group["params"]]
            torch._foreach_lerp_(group["slow"], group["params"], PULL)
            torch._foreach_copy_(group["params"], group["slow"])

    def _by_number(self, group: dict[str, Any]) -> dict[int, list[nn.Parameter]]:
        """The parameters that have a gradient, by the number of their step, from 1 on."""
        found: dict[int, list[nn.Parameter]] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["count"], state["step"] = 0, torch.zeros((), device=p.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["count"] += 1
            found.setdefault(state["count"], []).append(p)
        return found

    def _move(self, group: dict[str, Any], number: int, parameters: list[nn.Parameter]) -> None:
        """Step ``number`` of parameters.

        A rectified step is a step of AdamW with another learning rate, decay and epsilon. Torch's
        AdamW has a fused form, which takes a sixth of the time of its rectified Adam (measured).
        """
        states = [self.state[p] for p in parameters]
        first, second, steps = (
            [state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step")
        )
        gradients = [p.grad for p in parameters if p.grad is not None]
        values: list[Tensor] = list(parameters)
        (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
        rectification = _rectification(number, beta2)
        if not rectification:
            torch._foreach_add_(steps, 1)
            torch._foreach_mul_(values, 1 - lr * decay)
            torch._foreach_lerp_(first, gradients, 1 - beta1)
            torch._foreach_mul_(second, beta2)
            torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
            torch._foreach_add_(values, first, alpha=-lr / (1 - beta1**number))
            return
        adamw(
            values,
            gradients,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr * rectification,
            weight_decay=decay / rectification,
            eps=group["eps"] / math.sqrt(1 - beta2**number),
        )


def _rectification(number: int, beta2: float) -> float:
    """The factor of step ``number``; 0 as long as the second moment is too uncertain."""
    most = 2 / (1 - beta2) - 1
    now = most - 2 * number * beta2**number / (1 - beta2**number)
    if now <= 5:
        return 0.0
    return math.sqrt((now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now))
