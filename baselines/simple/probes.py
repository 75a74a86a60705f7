"""Probes: simple classifiers of the mean of a bag, which measure the features more than a method.

They fit themselves and choose their one setting on the fold's validation part, so they have no
search ranges. For slide vectors, which are bags of one row, the mean is the vector itself. Both
standardise the means by the training part, so that one range of settings suits every encoder.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mil_bench.bags.segments import segment_mean
from mil_bench.methods import Fit, InstanceMap, Method, Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_NEIGHBOURS = (1, 2, 3, 5, 10, 20, 50)
# The class frequencies count as one neighbour more, so that a class without one is not impossible.
_PRIOR_WEIGHT = 1.0
# Of a column's mean: what is less is rounding in float32, and the column is constant.
_LEAST_SPREAD = 1e-6
# Logit of a class that the training part lacks: finite, and its probability is exactly 0.
_LOWEST = -1e4


class _Vectors(NamedTuple):
    """Standardised means of bags, in float64 on the CPU."""

    values: Tensor  # [B, D]
    labels: Tensor  # [B]


class _MeanProbe(Method):
    """The part that both probes share."""

    recipe = Fit()
    stackable = False  # there are no steps to take together
    centre: Tensor
    scale: Tensor

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy) -> None:
        super().__init__(in_dim, hierarchy)
        self.register_buffer("centre", torch.zeros(in_dim))
        self.register_buffer("scale", torch.ones(in_dim))

    def forward(self, bags: BagBatch) -> Output:
        """Logarithms of the probabilities."""
        means = segment_mean(bags.features, bags)
        return Output(fine=self._log_probabilities((means - self.centre) / self.scale))

    def fit(
        self, train: Iterable[tuple[BagBatch, Tensor]], validation: Iterable[BagBatch]
    ) -> float:
        """Fit for every setting, and take that with the lowest validation cross-entropy.

        Returns:
            The cross-entropy of the training bags.
        """
        parts = [(segment_mean(b.features, b), b.labels, weight) for b, weight in train]
        means, labels, weight = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
        means, weight = means.double(), weight.double()
        centre, spread = means.mean(0), means.std(0, correction=0)
        scale = torch.where(spread > _LEAST_SPREAD * centre.abs(), spread, 1.0)
        val = [(segment_mean(b.features, b).double().cpu(), b.labels.cpu()) for b in validation]
        val_means, val_labels = (torch.cat(column) for column in zip(*val, strict=True))
        self.centre.copy_(centre)
        self.scale.copy_(scale)
        vectors = _Vectors((means - centre) / scale, labels)
        self._fit(vectors, weight, _Vectors((val_means - centre) / scale, val_labels))
        fitted = self._log_probabilities(vectors.values.to(self.centre))
        losses = F.cross_entropy(fitted, labels.to(fitted.device), reduction="none")
        return (losses.double().cpu() @ weight / weight.sum()).item()

    @abstractmethod
    def _fit(self, train: _Vectors, weight: Tensor, val: _Vectors) -> None:
        """Learn from standardised means, of which each counts by its weight ``[B]``."""

    @abstractmethod
    def _log_probabilities(self, vectors: Tensor) -> Tensor:
        """Of standardised means: ``[B, D]`` -> ``[B, C]``."""


class LinearProbe(_MeanProbe):
    """Linear probe: logistic regression on the mean of a bag's features.

    scikit-learn fits it with an L2 penalty for every C of a range, and the fold's validation part
    chooses C; of equal ones the smallest.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
    """

    map_meaning = "instance score: the logit of the class; the slide's is their mean"
    coefficients: Tensor
    intercepts: Tensor

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy) -> None:
        super().__init__(in_dim, hierarchy)
        self.register_buffer("coefficients", torch.zeros(hierarchy.n_fine, in_dim))
        self.register_buffer("intercepts", torch.zeros(hierarchy.n_fine))

    def _fit(self, train: _Vectors, weight: Tensor, val: _Vectors) -> None:
        classes, lowest = self.hierarchy.n_fine, torch.inf
        for strength in _STRENGTHS:
            coefficients, intercepts = _regression(train, weight, strength, classes)
            logits = _linear(val.values, coefficients, intercepts)
            loss = F.cross_entropy(logits, val.labels).item()
            if loss < lowest:
                lowest = loss
                self.coefficients.copy_(coefficients)
                self.intercepts.copy_(intercepts)

    def _log_probabilities(self, vectors: Tensor) -> Tensor:
        return _linear(vectors, self.coefficients, self.intercepts)

    def instance_map(self, bags: BagBatch) -> InstanceMap | None:
        """Logits of every instance ``[N, C]``, as the regression is linear in the mean."""
        weight = self.coefficients / self.scale
        constant = self.intercepts - weight @ self.centre
        logits = F.linear(bags.features, weight, constant.clamp(min=_LOWEST))
        return InstanceMap(logits, tuple(range(self.hierarchy.n_fine)))


def _linear(vectors: Tensor, coefficients: Tensor, intercepts: Tensor) -> Tensor:
    return F.linear(vectors, coefficients, intercepts).log_softmax(1).clamp(min=_LOWEST)


def _regression(
    train: _Vectors, weight: Tensor, strength: float, classes: int
) -> tuple[Tensor, Tensor]:
    """Coefficients ``[C, D]`` and intercepts ``[C]``, -inf for a class that ``train`` lacks."""
    from sklearn.exceptions import ConvergenceWarning  # a plan of the probes needs neither
    from sklearn.linear_model import LogisticRegression

    coefficients = torch.zeros(classes, train.values.shape[1], dtype=torch.float64)
    intercepts = torch.full((classes,), -torch.inf, dtype=torch.float64)
    present = train.labels.unique()
    intercepts[present] = 0.0
    if len(present) > 1:
        model = LogisticRegression(C=strength, max_iter=1000)
        with warnings.catch_warnings():  # the validation part judges what the iterations reached
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train.values.numpy(), train.labels.numpy(), weight.numpy())
        # Of two classes, scikit-learn has a row for the second only.
        rows = present[-len(model.coef_) :]
        coefficients[rows] = torch.from_numpy(model.coef_)
        intercepts[rows] = torch.from_numpy(model.intercept_)
    return coefficients, intercepts


class KNNProbe(_MeanProbe):
    """k-NN probe: the classes of the training slides with the nearest means vote.

    The fold's validation part chooses k from a range; of equal ones the smallest. The class
    frequencies of the training part count as one neighbour more. The distance is Euclidean. The
    training loss counts every slide among its own neighbours.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
    """

    without_map = "compares means of slides with each other, so no instance has a value"
    vectors: Tensor
    labels: Tensor
    weights: Tensor
    neighbours: Tensor

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy) -> None:
        super().__init__(in_dim, hierarchy)
        classes = hierarchy.n_fine  # until it is fitted, one vector per class: all are as probable
        self.register_buffer("vectors", torch.zeros(classes, in_dim))
        self.register_buffer("labels", torch.arange(classes))
        self.register_buffer("weights", torch.ones(classes))
        self.register_buffer("neighbours", torch.tensor(classes))

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **named: Any) -> Any:
        """As in torch; the number of training slides is that of ``state_dict``."""
        for name in ("vectors", "labels", "weights"):
            if isinstance(stored := state_dict.get(name), Tensor):
                own = getattr(self, name)
                setattr(self, name, own.new_empty((len(stored), *own.shape[1:])))
        return super().load_state_dict(state_dict, *args, **named)

    def _fit(self, train: _Vectors, weight: Tensor, val: _Vectors) -> None:
        self.vectors = train.values.to(self.centre)
        self.labels = train.labels.to(self.labels)
        self.weights = weight.to(self.centre)
        order = _nearest_first(val.values.to(self.centre), self.vectors)
        lowest = torch.inf
        for count in _NEIGHBOURS:
            if count <= len(train.values):
                logits = self._votes(order[:, :count]).double().cpu()
                loss = F.cross_entropy(logits, val.labels).item()
                if loss < lowest:
                    lowest = loss
                    self.neighbours.fill_(count)

    def _log_probabilities(self, vectors: Tensor) -> Tensor:
        return self._votes(_nearest_first(vectors, self.vectors)[:, : int(self.neighbours)])

    def _votes(self, nearest: Tensor) -> Tensor:
        """Logarithms of the probabilities ``[B, C]``, from positions in the training part."""
        empty = self.weights.new_zeros(self.hierarchy.n_fine)
        frequencies = empty.index_add(0, self.labels, self.weights) / self.weights.sum()
        votes = empty.expand(len(nearest), -1).scatter_add(
            1, self.labels[nearest], self.weights[nearest]
        )
        counts = votes + _PRIOR_WEIGHT * frequencies
        return (counts / counts.sum(1, keepdim=True)).log().clamp(min=_LOWEST)


def _nearest_first(vectors: Tensor, others: Tensor) -> Tensor:
    """Positions in ``others`` by distance: ``[B, D]``, ``[T, D]`` -> ``[B, T]``."""
    # Without products of matrices, whose rounding depends on the number of vectors.
    distances = torch.cdist(vectors, others, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argsort(stable=True, dim=1)
