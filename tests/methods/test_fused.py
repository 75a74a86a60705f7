"""Fused layers: hand-written gradients are the true ones, dropout drops as often as it says."""

from __future__ import annotations

import pytest
import torch

from mil_bench import seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.methods.fused import large_bags, linear
from mil_bench.methods.fused.dropout import Dropout, drop
from mil_bench.methods.fused.gated_attention import gated_scores
from mil_bench.methods.fused.linear import affine, tanh_


def random(*shape: int) -> torch.Tensor:
    with seeds.torch_seeded("layers", *shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("block", [2, 4, 100])
def test_gated_scores_are_those_of_the_formula_and_their_gradient_is_true(
    block: int, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_ROWS", block)
    rows, a, b = random(6, 5), (random(4, 5), random(4)), (random(4, 5), random(4, 1).squeeze(1))
    c = (random(3, 4), random(3))

    def scores(*leaves: torch.Tensor) -> torch.Tensor:
        with seeds.torch_seeded("layers", "gated"):
            return gated_scores(leaves[0], leaves[1:3], leaves[3:5], leaves[5:], dropout)

    with seeds.torch_seeded("layers", "gated"):
        kept = drop(torch.ones(6, 4, dtype=torch.float64), 1 - (1 - dropout) ** 2)
    gated = torch.tanh(rows @ a[0].T + a[1]) * torch.sigmoid(rows @ b[0].T + b[1]) * kept
    assert torch.allclose(scores(rows, *a, *b, *c), gated @ c[0].T + c[1], atol=1e-12)
    assert torch.autograd.gradcheck(scores, (rows, *a, *b, *c))


def test_tanh_is_exact_to_two_roundings_of_a_value_next_to_1() -> None:
    values = torch.cat(
        [
            torch.linspace(-12, 12, 100_001),
            torch.tensor([0.0, 1e-5, torch.inf, -torch.inf, torch.nan]),
        ]
    )
    exact, found = values.double().tanh(), tanh_(values.clone())
    assert (found - exact)[:-1].abs().max() < 2e-7
    assert found[-5:].tolist() == pytest.approx(
        [0.0, 1e-5, 1.0, -1.0, torch.nan], abs=2e-7, nan_ok=True
    )
    assert found[-5] == 0


@pytest.mark.parametrize("sizes", [(7,), (3, 1, 5)])
def test_softmax_and_pooling_over_bags_have_true_gradients(sizes: tuple[int, ...]) -> None:
    n = sum(sizes)
    bags = BagBatch.pack(
        torch.zeros(n, 1), torch.tensor(sizes), torch.zeros(len(sizes), dtype=torch.int64)
    )
    assert torch.autograd.gradcheck(lambda s: segment_softmax(s, bags), (random(n, 2),))
    assert torch.autograd.gradcheck(
        lambda a, e: attention_pool(a, e, bags), (random(n, 2), random(n, 3))
    )


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
        assert (kept[:-distance] == kept[distance:]).float().mean().item() == pytest.approx(
            0.5, abs=0.01
        )


def test_only_layers_with_a_bias_are_affine_maps() -> None:
    layer = torch.nn.Linear(2, 3)
    assert affine(torch.nn.Sequential(torch.nn.Sequential(layer), torch.nn.ReLU())) == (
        layer.weight,
        layer.bias,
    )
    for other in (torch.nn.Linear(2, 3, bias=False), torch.nn.ReLU()):
        with pytest.raises(TypeError, match="is not a linear layer with a bias"):
            affine(other)


def test_one_dropout_of_the_gate_equals_that_of_both_factors() -> None:
    gates = (torch.ones(200, 3), torch.ones(200))
    with seeds.torch_seeded("layers", "gate"):
        gated = gated_scores(
            torch.ones(500, 3), gates, gates, (torch.eye(200), torch.zeros(200)), 0.25
        )
    assert (gated == 0).float().mean().item() == pytest.approx(1 - 0.75**2, abs=0.01)


def test_a_bag_is_large_in_evaluation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bags, "ROWS", 4)
    layer = torch.nn.Linear(3, 2)
    bags = BagBatch.pack(torch.randn(7, 3), torch.tensor([2, 5]), torch.zeros(2).long())
    few = bags.select(torch.tensor([0, 0, 0]))  # more rows together
    assert not large_bags.has_large_bag(bags, layer.eval())
    with torch.no_grad():
        assert large_bags.has_large_bag(bags, layer)
        assert not large_bags.has_large_bag(few, layer)
        assert not large_bags.has_large_bag(bags, layer.train())
        torch.testing.assert_close(large_bags.in_blocks(layer, bags.features), layer(bags.features))
