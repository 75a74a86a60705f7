"""Shared layers: hand-written gradients are the true ones, dropout drops as often as it says."""

from __future__ import annotations

import pytest
import torch

from mil_bench import seeds
from mil_bench.data.batch import BagBatch
from mil_bench.data.segments import attention_pool, segment_softmax
from mil_bench.methods.layers import Dropout, drop, gate, gated_tanh


def random(*shape: int) -> torch.Tensor:
    with seeds.torch_seeded("layers", *shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_the_gate_is_tanh_times_sigmoid_and_its_gradient_is_true() -> None:
    rows, a, b = random(6, 5), (random(4, 5), random(4)), (random(4, 5), random(4, 1).squeeze(1))
    expected = torch.tanh(rows @ a[0].T + a[1]) * torch.sigmoid(rows @ b[0].T + b[1])
    assert torch.allclose(gated_tanh(rows, *a, *b), expected, atol=1e-12)
    assert torch.autograd.gradcheck(gated_tanh, (rows, *a, *b))


@pytest.mark.parametrize("sizes", [(7,), (3, 1, 5)])
def test_softmax_and_pooling_over_bags_have_true_gradients(sizes: tuple[int, ...]) -> None:
    n = sum(sizes)
    bags = BagBatch.pack(torch.zeros(n, 1), torch.tensor(sizes), torch.zeros(len(sizes), dtype=torch.int64))
    assert torch.autograd.gradcheck(lambda s: segment_softmax(s, bags), (random(n, 2),))
    assert torch.autograd.gradcheck(lambda a, e: attention_pool(a, e, bags), (random(n, 2), random(n, 3)))


def test_the_attention_of_a_single_row_has_no_gradient_at_all() -> None:
    bags = BagBatch.pack(torch.zeros(4, 1), torch.tensor([1, 3]), torch.zeros(2, dtype=torch.int64))
    scores = random(4, 2)
    (segment_softmax(scores, bags) * random(4, 2).detach()).sum().backward()
    assert not scores.grad[0].any()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_dropout_drops_as_often_as_it_says_and_keeps_the_mean(rate: float) -> None:
    ones = torch.ones(400, 501)
    with seeds.torch_seeded("layers", "dropout"):
        dropped = Dropout(rate).train()(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
    assert len(dropped.unique()) <= 2
    assert dropped.mean().item() == pytest.approx(1.0 if rate < 1 else 0.0, abs=0.01)
    assert torch.equal(Dropout(rate).eval()(ones), ones)


def test_neighbours_are_dropped_independently() -> None:
    with seeds.torch_seeded("layers", "neighbours"):
        kept = drop(torch.ones(100_000), 0.5) > 0
    for distance in (1, 2, 3, 4, 8):
        assert (kept[:-distance] == kept[distance:]).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_one_dropout_of_the_gate_stands_for_that_of_both_factors() -> None:
    tanh, sigmoid = (torch.nn.Sequential(torch.nn.Linear(3, 200)) for _ in range(2))
    with seeds.torch_seeded("layers", "gate"):
        gated = gate(torch.ones(500, 3), tanh, sigmoid, 0.25)
    assert (gated == 0).float().mean().item() == pytest.approx(1 - 0.75**2, abs=0.01)
