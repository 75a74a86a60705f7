"""The contract of a method.

    Build from sizes and parameters; map a batch of bags to logits; return one scalar loss in which
    each bag counts by its weight. **A bag of weight 0 influences neither loss nor gradient.**

This rule allows all folds of a cross-validation to be trained in one pass over the data: every fold
sees the same batch and gives weight 1 to its training bags and 0 to all others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.errors import InputError
from mil_bench.methods.ordinal import soft_labels
from mil_bench.methods.output import InstanceMap, Output, require_output, require_scalar
from mil_bench.methods.recipe import ORDINAL_LOSS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.methods.recipe import Fit, Recipe
    from mil_bench.methods.space import Range


class Method(nn.Module, ABC):
    """Base of all methods.

    A subclass takes ``(in_dim, hierarchy, **params)`` and returns an ``Output`` from ``forward``.
    Every parameter has a default, and the docstring says where it comes from. Randomness comes from
    torch's global generator alone, which the trainer seeds.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
    """

    paper: ClassVar[str] = ""
    """Who described it, where and when: "Ilse et al., ICML 2018". It and ``link`` are texts in the
    source, since reports read them without importing the method."""
    link: ClassVar[str] = ""
    """Address of the paper or, if there is none, of the authors' code."""
    recipe: ClassVar[Recipe | Fit]
    """How an optimizer trains it, or ``Fit()`` if it fits itself."""
    search_space: ClassVar[Mapping[str, Range]] = {}
    newer_settings: ClassVar[frozenset[str]] = frozenset()
    """Constructor parameters without search ranges that came after results had been stored. Jobs
    leave them out at their default, so that the keys of older results stay."""
    needs_instance_labels: ClassVar[bool] = False
    """Whether the loss reads ``bags.instance_labels``; data without them omit the method."""
    min_rows: ClassVar[int] = 1
    """The fewest instances of a bag that the method accepts; a run with smaller bags is refused."""
    max_rows: ClassVar[int | None] = None
    """The most instances of a bag that the method accepts, None for any number."""
    order_matters: ClassVar[bool] = False
    """Whether the order of a bag's instances may change its output."""
    stackable: ClassVar[bool] = True
    """Whether ``forward`` and ``loss`` run under ``torch.func.vmap`` over stacked parameters."""
    has_own_loss: ClassVar[bool] = False
    """Whether ``loss`` is another than the weighted mean of ``cross_entropy``. Overriding ``loss``
    sets it, unless the class itself sets it to False because its loss adds to ``cross_entropy``."""
    without_hierarchy: ClassVar[str] = ""
    """One clause: what the method does if a dataset has no coarse classes; shown with such runs."""
    map_meaning: str = "attention: the weight of the instance among those of its slide"
    """One clause: what the values of ``instance_map`` are, for the legend of maps."""
    without_map: str = ""
    """One sentence without its subject: why there are no values of instances; "" if there are."""
    official_names: ClassVar[Mapping[str, str]] = {}
    """Prefixes of parameter names in the authors' checkpoints, with their names here."""
    version: ClassVar[int] = 1
    """Raise it if a change alters results; stored results of the older code are then not used."""

    _parent: Tensor
    _soft_labels: Tensor | None

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy) -> None:
        super().__init__()
        self.in_dim, self.hierarchy = in_dim, hierarchy
        self.register_buffer("_parent", torch.tensor(hierarchy.parent), persistent=False)
        self.register_buffer("_soft_labels", None, persistent=False)

    def __call__(self, bags: BagBatch) -> Output:
        """``forward``, whose result must have the form that everything after it relies on.

        Raises:
            OutputFormError: says what ``forward`` returned and what it has to return.
        """
        out = super().__call__(bags)
        require_output(out, bags, self.hierarchy)
        return out

    @abstractmethod
    def forward(self, bags: BagBatch) -> Output:
        """Logits of a batch of bags."""

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:  # noqa: ARG002  # for overrides
        """The loss to minimise, a scalar; weighted cross-entropy of the fine classes by default.

        Args:
            out: what ``forward`` returned for ``bags``.
            bags: the batch.
            weight: ``[B]``, >= 0; how much each bag counts.
            progress: share of the training that is over, in [0, 1]; for schedules.
        """
        return weighted_mean(self.cross_entropy(out, bags), weight)

    def cross_entropy(self, out: Output, bags: BagBatch) -> Tensor:
        """Cross-entropy of the fine logits with each bag's label ``[B]``.

        After ``take_loss("ordinal")``, with the soft labels of ``methods.ordinal`` instead.
        """
        if self._soft_labels is None:
            return F.cross_entropy(out.fine, bags.labels, reduction="none")
        # Logits in bfloat16 must not round the targets.
        dtype = torch.promote_types(out.fine.dtype, torch.float32)
        targets = self._soft_labels[bags.labels].to(dtype)
        return F.cross_entropy(out.fine, targets, reduction="none")

    def take_loss(self, loss: str) -> None:
        """Train with the loss that a recipe names.

        Args:
            loss: one of ``recipe.LOSSES``.

        Raises:
            InputError: "ordinal", and the method has a loss of its own.
        """
        if loss == ORDINAL_LOSS and self.has_own_loss:
            name = type(self).__name__
            problem = f"{name} has a loss of its own, which has no soft labels"
            raise InputError(f"loss={loss}", [problem], "Leave out loss.")
        is_ordinal = loss == ORDINAL_LOSS
        classes, device = self.hierarchy.n_fine, self._parent.device
        self._soft_labels = soft_labels(classes).to(device) if is_ordinal else None

    def backward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss of a batch; its gradients are added to those that the parameters hold.

        Autograd computes them. A method may override this if gradients written by hand are faster.
        They must be those of ``loss``, with random numbers drawn in the same order, as the check
        "gradients" tests. An override is not inherited, since a subclass may compute something
        else: a subclass uses autograd unless it sets ``backward = Parent.backward``. Trainings with
        ``loss=ordinal`` use autograd, too.

        Args:
            bags: the batch.
            weight: as in ``loss``.
            progress: as in ``loss``.

        Returns:
            The loss, a scalar without a graph.
        """
        loss = self.training_loss(bags, weight, progress)
        loss.backward()
        return loss.detach()

    def training_loss(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """``loss`` of what ``forward`` returns for a batch.

        Raises:
            OutputFormError: ``loss`` returned no scalar.
        """
        loss = self.loss(self(bags), bags, weight, progress)
        require_scalar(loss)
        return loss

    def fit(
        self, train: Iterable[tuple[BagBatch, Tensor]], validation: Iterable[BagBatch]
    ) -> float:
        """Train without an optimizer; only for methods whose recipe is ``Fit()``.

        It is called once per fold, on a newly built method. What it learns has to be in parameters
        or buffers, which are stored. Settings that it chooses, it chooses on ``validation``.

        Args:
            train: the training bags of the fold in batches, each with the weights of its bags
                ``[B]``, > 0. Can be gone through once.
            validation: its validation bags in batches. Can be gone through once.

        Returns:
            The loss on the training bags.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no fit(train, validation), which the recipe Fit() calls"
        )

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """The value of every instance, as maps of slides show it; None if there is none.

        By default the attention that ``forward`` returns: a column per fine class if there are as
        many columns as classes, otherwise the mean of its columns.

        Args:
            bags: the batch.
        """
        attention = self(bags).attention
        if attention is None:
            return None
        if attention.shape[1] == self.hierarchy.n_fine:
            return InstanceMap(attention, tuple(range(self.hierarchy.n_fine)))
        return InstanceMap(attention.mean(1, keepdim=True))

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "backward" not in vars(cls):
            cls.backward = Method.backward  # type: ignore[method-assign]  # see backward
        if "loss" in vars(cls) and "has_own_loss" not in vars(cls):
            cls.has_own_loss = True

    def load_official_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a checkpoint that has the authors' parameter names.

        Args:
            state: a state dict, as the authors' code saves it.

        Raises:
            InputError: names every parameter that is missing, left over, or of another shape.
        """
        try:
            translated = self.from_official(dict(state))
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            problem = (
                f"its parameters are not those of the method ({type(error).__name__}: {error})"
            )
            remedy = "Give a checkpoint of the method that --method names."
            raise InputError(f"checkpoint for {type(self).__name__}", [problem], remedy) from error
        expected = self.state_dict()
        problems = [f"{name} is missing" for name in expected if name not in translated]
        problems += [
            f"{name} is no parameter of this method" for name in translated if name not in expected
        ]
        problems += [
            f"{name} has the shape {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            for name, value in translated.items()
            if name in expected and value.shape != expected[name].shape
        ]
        if problems:
            remedy = "Build the method with the parameters the checkpoint was trained with."
            raise InputError(f"checkpoint for {type(self).__name__}", problems, remedy)
        self.load_state_dict(translated)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint with our parameter names; override it if more than prefixes differ.

        Args:
            state: a state dict with the authors' names; the method may change it.
        """
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
    """Weighted mean of one value per bag; 0, with a gradient of 0, if all weights are 0.

    Args:
        values: ``[B]``.
        weight: ``[B]``.
    """
    counted = torch.where(weight > 0, values, 0.0)  # 0 times an infinite loss would not be 0
    if len(values) == 1:
        return counted[0]  # the usual batch of recipes; its weight cancels out
    return (weight * counted).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def add_gradients(gradients: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Add gradients to those that parameters hold; frozen parameters get none.

    Args:
        gradients: pairs of parameter and gradient.
    """
    for parameter, gradient in gradients:
        if parameter.requires_grad:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
