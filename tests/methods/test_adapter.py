"""A model of one bag becomes a method."""

from __future__ import annotations

import pickle

import pytest
import torch
from conftest import random_batch
from torch import Tensor, nn

from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import BagByBag, bag_by_bag
from mil_bench.methods.output import OutputFormError

CLASSES = LabelHierarchy.flat(["a", "b", "c"])


class Attentive(nn.Module):
    def __init__(self, in_dim: int, n_classes: int) -> None:
        super().__init__()
        self.score, self.head = nn.Linear(in_dim, 1), nn.Linear(in_dim, n_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.score(x).softmax(0)
        return self.head(weights.T @ x), weights


class Wrong(Attentive):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Normed(Attentive):
    def __init__(self, in_dim: int, n_classes: int) -> None:
        super().__init__(in_dim, n_classes)
        self.norm = nn.BatchNorm1d(in_dim)


class Mine(BagByBag):
    net = Attentive


@pytest.mark.parametrize("kind", [Mine, bag_by_bag(Attentive)])
def test_each_bag_gets_what_the_model_says_of_it(kind: type[BagByBag]) -> None:
    method, bags = kind(4, CLASSES), random_batch([1, 5], 4, 3)
    copy = pickle.loads(pickle.dumps(method))
    out = copy(bags)
    for b, rows in enumerate(bags.features.split(bags.lengths)):
        assert torch.equal(out.fine[b], method.model(rows)[0][0])
    assert out.attention.shape == (6, 1)


def test_an_output_of_another_shape_is_refused() -> None:
    with pytest.raises(OutputFormError, match=r"Wrong of Wrong returned shape \(5, 4\)"):
        bag_by_bag(Wrong)(4, CLASSES)(random_batch([5], 4, 3))


def test_a_model_with_batch_norm_is_refused() -> None:
    with pytest.raises(InputError, match="norm normalises over a batch"):
        bag_by_bag(Normed)(4, CLASSES)


def test_an_adapter_without_a_model_is_refused() -> None:
    with pytest.raises(InputError, match="it names no model"):
        BagByBag(4, CLASSES)
