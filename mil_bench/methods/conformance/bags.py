"""Small bags for the checks, and methods built for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from mil_bench import seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods.recipe import Fit

if TYPE_CHECKING:
    from torch import Tensor

    from mil_bench.methods.method import Method

SIZES = (5, 1, 9, 30, 2, 7, 16, 3)
TRAINING_SIZES = (5, 4, 9, 30, 2, 7, 16, 3)  # "bag-sizes" tries a single instance
WIDTH = 12
HIERARCHY = LabelHierarchy.from_groups(
    {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]}
)

APART = (
    "Those bags may be test slides. Let a bag with a weight use only bags with a weight, and "
    "normalise each bag by itself (LayerNorm, not BatchNorm). Or set stackable = False: a fold is "
    "then trained by itself and handed only its own bags"
)
"""What to do about bags of weight 0 that count in training."""


def build(
    method: type[Method], hierarchy: LabelHierarchy = HIERARCHY, in_dim: int = WIDTH
) -> Method:
    """A method with its default parameters, in float64 and evaluation mode.

    One that fits itself is fitted on random bags.
    """
    with seeds.torch_seeded("conformance", "weights"):
        built = method(in_dim, hierarchy).double()
    if isinstance(method.recipe, Fit):
        fit(built, random_bags(method, TRAINING_SIZES, in_dim, hierarchy.n_fine))
    return built.eval()


def fit(method: Method, train: BagBatch, validation: BagBatch | None = None) -> float:
    """Let a method fit itself on a batch, and choose its settings on another; the same if None."""
    weight = torch.ones(train.n_bags, dtype=train.features.dtype)
    with seeds.torch_seeded("conformance", "fit"):
        return method.fit(iter([(train, weight)]), iter([validation or train]))


def random_bags(
    method: type[Method], sizes: tuple[int, ...] = SIZES, width: int = WIDTH, classes: int = 7
) -> BagBatch:
    """Normal features in float64, labels in turn; instances show some class or background.

    Sizes that the method does not accept become the nearest ones that it does.
    """
    sizes = tuple(_accepted(method, size) for size in sizes)
    features = seeds.generator("conformance", "bags").standard_normal((sum(sizes), width))
    labels = torch.arange(len(sizes)) % classes
    shown = torch.arange(sum(sizes)) % (classes + 1) - 1  # -1 for background
    return BagBatch.pack(
        torch.from_numpy(features), torch.tensor(sizes), labels, instance_labels=shown
    )


def _accepted(method: type[Method], size: int) -> int:
    return max(method.min_rows, size if method.max_rows is None else min(size, method.max_rows))


def others_changed(bags: BagBatch, weight: Tensor) -> BagBatch:
    """The batch with other features and labels in all bags of weight 0."""
    other = weight == 0  # [B]
    rows = other[bags.bag_of]  # [N]
    shown = bags.instance_labels
    return replace(
        bags,
        features=torch.where(rows[:, None], 3 - 5 * bags.features, bags.features),
        labels=torch.where(other, (bags.labels + 1) % 7, bags.labels),
        instance_labels=None if shown is None else torch.where(rows, (shown + 2) % 8 - 1, shown),
    )


def learnable_bags(method: type[Method], count: int, rng: np.random.Generator) -> BagBatch:
    """Bags of eight instances in float32; every other bag has two clear witnesses of class 1."""
    size = _accepted(method, 8)
    features = rng.standard_normal((count, size, WIDTH))
    labels = np.arange(count) % 2
    features[labels == 1, :2, :3] += 4.0
    flat = torch.from_numpy(features.reshape(-1, WIDTH).astype(np.float32))
    shown = torch.full((count, size), -1)
    shown[labels == 1, :2] = 1
    sizes, of_bags = torch.full((count,), size), torch.from_numpy(labels)
    return BagBatch.pack(flat, sizes, of_bags, instance_labels=shown.flatten())
