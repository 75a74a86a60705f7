"""Folds of a method that fits itself: no optimizer, no steps.

Fold after fold, a method is handed its training bags and its validation bags, and nothing else. A
fit counts as one epoch: the trainer validates it as it validates an epoch of other methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mil_bench import seeds
from mil_bench.training.trainer import FoldHistory, FoldRoles, close_epoch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mil_bench.bags.batch import BagBatch
    from mil_bench.bags.feed import Feed
    from mil_bench.methods import Method, Output
    from mil_bench.training.stack import Identity


class FittedFolds:
    """K methods that fit themselves, as models that predict.

    Args:
        methods: a newly built method per fold.
        identities: one per fold; each seeds the randomness of its fold's fit.
    """

    def __init__(self, methods: Sequence[Method], identities: Sequence[Identity]) -> None:
        self._methods, self._identities = list(methods), list(identities)

    def fit(
        self,
        feed: Feed,
        roles: Sequence[FoldRoles],
        on_epoch: Callable[[int, list[FoldHistory]], None],
    ) -> list[FoldHistory]:
        """Let every fold fit itself, and validate it.

        Args:
            feed: reads batches.
            roles: one entry per fold.
            on_epoch: called once all folds are fitted, with 0 and the histories.

        Raises:
            TrainingError: a fold's loss is not finite.
        """
        histories = [FoldHistory() for _ in roles]
        for k, (method, own) in enumerate(zip(self._methods, roles, strict=True)):
            seeded = seeds.torch_seeded(*self._identities[k], "fit")
            with seeded, threadpool_limits(1, "blas"):  # of sums, which depend on the threads
                loss = method.fit(_weighted(feed, own), feed.ahead(feed.by_rows(own.val)))
            close_epoch(self, feed, own.val, histories[k], float(loss), k)
            histories[k].pruned = histories[k].is_over(own.limits)
        on_epoch(0, histories)
        return histories

    @torch.no_grad()
    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode."""
        return self._methods[k].eval()(bags)

    def state(self, k: int) -> dict[str, torch.Tensor]:
        """A copy of what fold k has learned."""
        return {name: value.clone() for name, value in self._methods[k].state_dict().items()}


def _weighted(feed: Feed, roles: FoldRoles) -> Iterator[tuple[BagBatch, torch.Tensor]]:
    """The training bags of a fold in batches, each with the weights of its bags."""
    worth = np.ones(len(roles.train)) if roles.worth is None else roles.worth
    start = 0
    for batch in feed.ahead(feed.by_rows(roles.train)):
        part = worth[start : start + batch.n_bags].astype(np.float32)
        yield batch, torch.from_numpy(part).to(batch.features.device)
        start += batch.n_bags
