"""The training loops of the authors' scripts: a model per fold, fold after fold, one bag at a time.

They were written from descriptions, in plain torch as such scripts use it: modules, autograd, the
default optimizer, ``loss.item()`` after every step. Work that a loop does not need is left out:
nothing is printed, and bags are ready in memory unless reading is measured. The models are in
``core_models``, ``pooling_models`` and ``token_models``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from mil_bench.benchmarks.speed.race.core_models import ABMIL, CLAM, DSMIL, HMIL, TransMIL
from mil_bench.benchmarks.speed.race.pooling_models import ACMIL, DTFD, SimpleMIL, WiKG
from mil_bench.benchmarks.speed.race.token_models import ILRA, RRT, Transformer
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OfBags: TypeAlias = ABMIL | CLAM | DSMIL | TransMIL | DTFD | ACMIL | ILRA | WiKG | RRT
"""Their loss is that of a bag."""
OfBatches: TypeAlias = HMIL | Transformer | SimpleMIL
"""Their loss is that of several bags."""


@dataclass(frozen=True)
class Loop:
    """How a script trains one fold for one epoch.

    Args:
        build: makes a new model, given the coarse class of every fine class.
        optimizer: makes the script's optimizer.
        accumulate: number of bags whose gradients are added up before a step.
        batch: number of bags whose loss is computed together.
        clip_norm: the largest norm of the gradients of each direct part of the model; None for no
            clipping.
    """

    build: Callable[[Sequence[int]], OfBags | OfBatches]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    accumulate: int = 1
    batch: int = 1
    clip_norm: float | None = None

    def epoch(
        self,
        model: OfBags | OfBatches,
        optimizer: torch.optim.Optimizer,
        bags: int,
        bag: Callable[[int], tuple[Tensor, Tensor]],
    ) -> float:
        """Train on all bags once; the mean loss.

        Args:
            model: trained in place.
            optimizer: of the model.
            bags: their number.
            bag: gives features ``[n, D]`` and label ``[1]`` of a bag when it is needed.
        """
        total = 0.0
        for start in range(0, bags, self.batch):
            part = [bag(i) for i in range(start, min(start + self.batch, bags))]
            if isinstance(model, OfBatches):
                labels = torch.cat([label for _, label in part])
                loss = model.batch_loss([x for x, _ in part], labels)
            else:
                loss = model.loss(*part[0])
            loss.backward()
            total += loss.item()
            if (start + 1) % self.accumulate == 0 or self.batch > 1:
                if self.clip_norm is not None:
                    for module in model.children():
                        clip_grad_norm_(module.parameters(), self.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
        return total / bags


def _adam(rate: float, decay: float, betas: tuple[float, float] = (0.9, 0.999)) -> Callable:
    return lambda model: torch.optim.Adam(
        model.parameters(), lr=rate, weight_decay=decay, betas=betas
    )


def _adamw(rate: float, decay: float) -> Callable:
    return lambda model: torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)


def _radam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.RAdam(
        model.parameters(), lr=2e-4, weight_decay=1e-5, decoupled_weight_decay=True
    )


def _but_biases(model: nn.Module) -> torch.optim.Optimizer:
    """SimpleMIL's: no decay of what has fewer than two axes."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-4)


LOOPS: Mapping[str, Loop] = {
    "abmil": Loop(lambda parent: ABMIL(len(parent)), _adam(5e-4, 1e-4)),
    "clam-sb": Loop(lambda parent: CLAM(len(parent)), _adam(2e-4, 1e-5)),
    "dsmil": Loop(lambda parent: DSMIL(len(parent)), _adam(1e-4, 1e-3, (0.5, 0.9))),
    "transmil": Loop(lambda parent: TransMIL(len(parent)), _radam, accumulate=2),
    "hmil": Loop(HMIL, _adam(1e-4, 0.0), batch=64),
    "dtfd": Loop(lambda parent: DTFD(len(parent)), _adam(1e-4, 1e-4), clip_norm=5.0),
    "acmil": Loop(lambda parent: ACMIL(len(parent)), _adamw(1e-4, 1e-5)),
    "ilra": Loop(lambda parent: ILRA(len(parent)), _adam(1e-4, 0.0)),
    "wikg": Loop(lambda parent: WiKG(len(parent)), _adam(1e-4, 1e-5)),
    "rrt": Loop(lambda parent: RRT(len(parent)), _adam(2e-4, 1e-5)),
    "transformer": Loop(lambda parent: Transformer(len(parent)), _adamw(1e-4, 0.01), batch=64),
    "simple-mil": Loop(lambda parent: SimpleMIL(len(parent)), _but_biases, batch=16),
}
"""By the names of our methods; without TransMIL's Lookahead, which takes little time."""
