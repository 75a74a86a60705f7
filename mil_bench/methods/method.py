"""The contract of a method.

    Build from sizes and parameters; map a batch of bags to logits; return one scalar loss in which
    each bag counts by its weight. **A bag of weight 0 influences neither loss nor gradient.**

That sentence is what lets all folds of a cross-validation be trained in one pass over the data:
every fold sees the same batch and gives weight 1 to its training bags and 0 to all others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.methods.recipe import Recipe
    from mil_bench.methods.space import Range


class Output(NamedTuple):
    """What a forward pass returns.

    Args:
        fine: logits of the fine classes ``[B, C]``.
        coarse: logits of a coarse head ``[B, G]``, or None; coarse probabilities are then lifted
            from fine ones.
        attention: ``[N, A]``, each column summing to 1 over each bag, or None.
        extras: whatever the method's own loss needs.
    """

    fine: Tensor
    coarse: Tensor | None = None
    attention: Tensor | None = None
    extras: Mapping[str, Tensor] = {}


class Method(nn.Module, ABC):
    """Base of all methods.

    A subclass takes ``(in_dim, hierarchy, **params)``, where every parameter has a default that
    says where its number comes from, and returns an ``Output`` from ``forward``. Randomness comes
    from torch's global generator alone, which the trainer seeds.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
    """

    recipe: ClassVar[Recipe]
    search_space: ClassVar[Mapping[str, Range]] = {}
    needs_instance_labels: ClassVar[bool] = False
    """Whether the loss reads ``bags.instance_labels``; on data without them the method is left out with that reason."""
    order_matters: ClassVar[bool] = False
    """Whether the order of a bag's instances may change its output."""
    stackable: ClassVar[bool] = True
    """Whether ``forward`` and ``loss`` run under ``torch.func.vmap`` over stacked parameters."""
    without_hierarchy: ClassVar[str] = ""
    """What a method that uses coarse classes does where there are none, one clause; every run on such data says it."""
    official_names: ClassVar[Mapping[str, str]] = {}
    """Prefixes of parameter names in the authors' checkpoints, and what they are called here."""
    version: ClassVar[int] = 1
    """Raise it when a change alters results, so that stored results of the older code are not mixed in."""

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy) -> None:
        super().__init__()
        self.in_dim, self.hierarchy = in_dim, hierarchy
        self.register_buffer("_parent", torch.tensor(hierarchy.parent), persistent=False)

    @abstractmethod
    def forward(self, bags: BagBatch) -> Output:
        """Logits of a batch of bags."""

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss to minimise, a scalar: weighted cross-entropy of the fine classes unless overridden.

        Args:
            out: what ``forward`` returned for ``bags``.
            bags: the batch.
            weight: ``[B]``, >= 0; how much each bag counts.
            progress: share of the training that is over, in [0, 1]; for schedules.
        """
        return weighted_mean(F.cross_entropy(out.fine, bags.labels, reduction="none"), weight)

    def backward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss of a batch, without its graph; the parameters' gradients are added to what ``grad`` holds.

        Autograd finds them. A method may override this where gradients written by hand are faster;
        they are those of ``loss`` (the check "gradients" holds it to that), and random numbers are
        drawn as by autograd. It is not inherited, since a subclass may compute something else:
        there it is autograd's again, unless the class says so (``backward = Parent.backward``).

        Args:
            bags: the batch.
            weight: as in ``loss``.
            progress: as in ``loss``.
        """
        loss = self.loss(self(bags), bags, weight, progress)
        loss.backward()
        return loss.detach()

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "backward" not in vars(cls):
            cls.backward = Method.backward

    def load_official_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint that has the authors' parameter names.

        Args:
            state: a state dict, as the authors' code saves it.

        Raises:
            InputError: names every parameter that is missing, left over, or of another shape.
        """
        translated = self.from_official(dict(state))
        own = self.state_dict()
        problems = [f"{name} is missing" for name in own if name not in translated]
        problems += [
            f"{name} has no place in this method" for name in translated if name not in own
        ]
        problems += [
            f"{name} has the shape {tuple(value.shape)}, expected {tuple(own[name].shape)}"
            for name, value in translated.items()
            if name in own and value.shape != own[name].shape
        ]
        if problems:
            remedy = "Build the method with the parameters the checkpoint was trained with."
            raise InputError(f"checkpoint for {type(self).__name__}", problems, remedy)
        self.load_state_dict(translated)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint with the authors' names under ours; override where more than prefixes differ."""
        renamed = {}
        for name, value in state.items():
            theirs = max(
                (t for t in self.official_names if name.startswith(t)), key=len, default=""
            )
            renamed[self.official_names.get(theirs, "") + name.removeprefix(theirs)] = value
        return renamed

    def coarse_labels(self, bags: BagBatch) -> Tensor:
        """Coarse class of each bag ``[B]``."""
        return self._parent[bags.labels]


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of one value a bag ``[B]`` by weight ``[B]``; 0 (with zero gradient) where all weights are 0."""
    counted = torch.where(weight > 0, values, 0.0)  # 0 times a loss of infinity would not be 0
    if len(values) == 1:
        return counted[0]  # the recipes' usual batch; its weight cancels out
    return (weight * counted).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def add_gradients(gradients: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
    """Hand over gradients that were written by hand: they add to what is there, and frozen parameters get none."""
    for parameter, gradient in gradients:
        if parameter.requires_grad:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
