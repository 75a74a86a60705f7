"""The network on the mean of a bag."""

from __future__ import annotations

import torch
from conftest import random_batch
from mil_bench.baselines.simple.mean_mlp import MeanMLP

from mil_bench.hierarchy import LabelHierarchy


def test_it_classifies_the_mean_of_each_bag() -> None:
    bags = random_batch([1, 4, 9], 6, 3)
    method = MeanMLP(6, LabelHierarchy.flat("abc"), hidden=8).eval()
    first, last = method.layers[0], method.layers[-1]
    for b, rows in enumerate(bags.features.split(bags.lengths)):
        hidden = (rows.mean(0) @ first.weight.T + first.bias).clamp(min=0)
        expected = hidden @ last.weight.T + last.bias
        torch.testing.assert_close(method(bags).fine[b], expected)
