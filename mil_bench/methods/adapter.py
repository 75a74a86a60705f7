"""An adapter for a model that takes one bag, ``forward(x [N, D]) -> logits``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mil_bench.errors import InputError
from mil_bench.methods.method import Method
from mil_bench.methods.output import Output, OutputFormError
from mil_bench.methods.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


class BagByBag(Method):
    """A model of one bag as a method: set ``net`` to its class, or override ``build``.

    The model maps the rows of a bag ``[N, D]`` to logits ``[C]`` or ``[1, C]``, or to a pair of
    logits and attention with one weight per row, ``[N]``, ``[1, N]`` or ``[N, 1]``, that sums to 1.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.

    Raises:
        InputError: there is no model, or it normalises over a batch.
    """

    recipe = Recipe(learning_rate=1e-4, epochs=50)
    net: ClassVar[Callable[[int, int], nn.Module] | None] = None
    """Called with the feature width and the number of classes."""
    # The model is anybody's code, and goes through the bags in a loop.
    stackable = False

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy) -> None:
        super().__init__(in_dim, hierarchy)
        self.model = self.build(in_dim, hierarchy)
        batch_norms = [n for n, m in self.model.named_modules() if isinstance(m, _BatchNorm)]
        if batch_norms:
            problems = [f"{name} normalises over a batch" for name in batch_norms]
            remedy = "A bag of one row has no variance: use LayerNorm or GroupNorm."
            raise InputError(f"model of {type(self).__name__}", problems, remedy)

    def build(self, in_dim: int, hierarchy: LabelHierarchy) -> nn.Module:
        """The model; override it if ``net(in_dim, n_classes)`` does not build it."""
        make = type(self).net
        if make is None:
            remedy = "Set net to the class of your model, or override build(in_dim, hierarchy)."
            raise InputError(type(self).__name__, ["it names no model"], remedy)
        return make(in_dim, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits and attention ``[N, 1]``, if the model returns one."""
        logits, weights = [], []
        for rows in bags.features.split(bags.lengths):
            found, attention = self._taken_apart(self.model(rows))
            logits.append(self._logits(found))
            if attention is not None:
                weights.append(self._attention(attention, len(rows)))
        return Output(
            fine=torch.stack(logits), attention=torch.cat(weights)[:, None] if weights else None
        )

    def _taken_apart(self, found: Any) -> tuple[Any, Any]:
        if isinstance(found, tuple | list) and len(found) == 2:
            return found[0], found[1]
        return found, None

    def _logits(self, found: Any) -> Tensor:
        classes = self.hierarchy.n_fine
        if isinstance(found, Tensor) and found.shape in ((classes,), (1, classes)):
            return found.reshape(classes)
        return self._refuse(
            found, f"logits ({classes},) or (1, {classes}), alone or before an attention"
        )

    def _attention(self, found: Any, n: int) -> Tensor:
        if isinstance(found, Tensor) and found.shape in ((n,), (1, n), (n, 1)):
            return found.reshape(n)
        return self._refuse(
            found, f"an attention ({n},), (1, {n}) or ({n}, 1) for a bag of {n} rows"
        )

    def _refuse(self, found: Any, wanted: str) -> Any:
        kind = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        name = type(self.model).__name__
        raise OutputFormError(
            f"{name} of {type(self).__name__} returned {kind}; it has to be {wanted}"
        )


@cache
def bag_by_bag(net: Callable[[int, int], nn.Module]) -> type[BagByBag]:
    """A method made of a model of one bag; see ``BagByBag``.

    Args:
        net: class of the model, called with the feature width and the number of classes.
    """
    name = net.__name__
    named = {
        "net": staticmethod(net),
        "__doc__": f"{name}, bag by bag.",
        "__module__": net.__module__,
        "__reduce__": lambda self: (_unbuilt, (net,), self.__dict__),
    }
    return type(name, (BagByBag,), named)


def _unbuilt(net: Callable[[int, int], nn.Module]) -> BagByBag:
    """What unpickling fills: the class has no name under which it could be found."""
    kind = bag_by_bag(net)
    return kind.__new__(kind)
