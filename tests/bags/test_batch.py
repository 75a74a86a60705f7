"""Packed batches and reductions over them, against one bag at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from mil_bench.bags.batch import BagBatch
from mil_bench.bags.segments import (
    attention_pool,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [3, 1, 5, 2, 1]
TOLERANCE = {"rtol": 0, "atol": 1e-12}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def parts() -> list[Tensor]:
    """One feature tensor a bag."""
    return [random(n, 4, seed=b) for b, n in enumerate(SIZES)]


@pytest.fixture
def bags(parts: list[Tensor]) -> BagBatch:
    rows = sum(SIZES)
    return BagBatch.pack(
        torch.cat(parts),
        torch.tensor(SIZES),
        torch.tensor([4, 0, 2, 2, 1]),
        coords=torch.arange(2 * rows).reshape(rows, 2),
        instance_labels=torch.arange(rows) % 3 - 1,
    )


def rows_of(bags: BagBatch, column: Tensor) -> list[Tensor]:
    """A column cut into bags by counting, not by the code under test."""
    cut, start = [], 0
    for n in SIZES:
        cut.append(column[start : start + n])
        start += n
    assert start == len(column) == len(bags.features)
    return cut


def test_packing_keeps_every_bag(bags: BagBatch, parts: list[Tensor]) -> None:
    assert bags.n_bags == 5
    assert bags.sizes.tolist() == SIZES
    assert bags.offsets.tolist() == [0, 3, 4, 9, 11, 12]
    assert bags.bag_of.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 3, 4]
    for b, part in enumerate(parts):
        assert torch.equal(bags.features[bags.offsets[b] : bags.offsets[b + 1]], part)


@pytest.mark.parametrize("chosen", [[0], [4, 2], [1, 1, 3], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]])
def test_selecting_equals_packing_the_chosen_bags_one_by_one(
    bags: BagBatch, chosen: list[int]
) -> None:
    selected = bags.select(torch.tensor(chosen))
    assert selected.sizes.tolist() == [SIZES[b] for b in chosen]
    assert selected.labels.tolist() == [[4, 0, 2, 2, 1][b] for b in chosen]
    assert selected.bag_of.tolist() == [
        place for place, b in enumerate(chosen) for _ in range(SIZES[b])
    ]
    for name in ("features", "coords", "instance_labels"):
        cut = rows_of(bags, getattr(bags, name))
        assert torch.equal(getattr(selected, name), torch.cat([cut[b] for b in chosen])), name


def test_selecting_keeps_absent_columns_absent(parts: list[Tensor]) -> None:
    bags = BagBatch.pack(torch.cat(parts), torch.tensor(SIZES), torch.zeros(5, dtype=torch.int64))
    selected = bags.select(torch.tensor([2, 0]))
    assert selected.coords is None
    assert selected.instance_labels is None


def test_moving_a_batch_keeps_its_values(bags: BagBatch) -> None:
    moved = bags.to(torch.device("cpu"))
    assert moved.lengths == bags.lengths
    for name, value in vars(bags).items():
        if name != "lengths":
            assert torch.equal(getattr(moved, name), value), name


@pytest.mark.parametrize("sizes", [[3, 0, 2], [0, 5], [5, 0], [6, -1]])
def test_an_empty_bag_is_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="no bag may be empty"):
        BagBatch.pack(random(5, 2), torch.tensor(sizes), torch.zeros(len(sizes), dtype=torch.int64))


@pytest.mark.parametrize("sizes", [[2, 2], [3, 3], [1]])
def test_sizes_that_do_not_add_up_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fit 5 rows"):
        BagBatch.pack(random(5, 2), torch.tensor(sizes), torch.zeros(len(sizes), dtype=torch.int64))


def loop_pool(attention: Tensor, embeddings: Tensor, bags: BagBatch) -> Tensor:
    pairs = zip(rows_of(bags, attention), rows_of(bags, embeddings), strict=True)
    return torch.stack([a.T @ e for a, e in pairs])


def loop(
    one: Callable[[Tensor], Tensor], join: Callable[[list[Tensor]], Tensor]
) -> Callable[..., Tensor]:
    return lambda values, bags: join([one(rows) for rows in rows_of(bags, values)])


REDUCTIONS = [
    pytest.param(segment_sum, loop(lambda rows: rows.sum(0), torch.stack), id="sum"),
    pytest.param(segment_mean, loop(lambda rows: rows.mean(0), torch.stack), id="mean"),
    pytest.param(segment_max, loop(lambda rows: rows.max(0).values, torch.stack), id="max"),
    pytest.param(segment_softmax, loop(lambda rows: rows.softmax(0), torch.cat), id="softmax"),
]


@pytest.mark.parametrize(("reduction", "naive"), REDUCTIONS)
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_a_reduction_equals_a_loop_over_bags(
    bags: BagBatch, reduction, naive, scale: float
) -> None:
    values = scale * random(sum(SIZES), 3, seed=7)
    found, expected = reduction(values, bags), naive(values, bags)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize(("reduction", "naive"), REDUCTIONS)
def test_the_gradient_of_a_reduction_equals_a_loop_over_bags(
    bags: BagBatch, reduction, naive
) -> None:
    values = random(sum(SIZES), 3, seed=7).requires_grad_()
    weights = random(*naive(values, bags).shape, seed=8)
    found, expected = (
        torch.autograd.grad((function(values, bags) * weights).sum(), values)[0]
        for function in (reduction, naive)
    )
    assert expected.abs().sum() > 0
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize(("reduction", "naive"), REDUCTIONS)
def test_a_reduction_runs_under_vmap(bags: BagBatch, reduction, naive) -> None:
    values = random(4, sum(SIZES), 3, seed=7)
    found = torch.func.vmap(lambda rows: reduction(rows, bags))(values)
    torch.testing.assert_close(
        found, torch.stack([naive(rows, bags) for rows in values]), **TOLERANCE
    )


@pytest.mark.parametrize(("reduction", "naive"), REDUCTIONS)
def test_the_gradient_of_a_reduction_runs_under_vmap(bags: BagBatch, reduction, naive) -> None:
    values = random(4, sum(SIZES), 3, seed=7)
    weights = random(*naive(values[0], bags).shape, seed=8)
    found = torch.func.vmap(torch.func.grad(lambda rows: (reduction(rows, bags) * weights).sum()))(
        values
    )
    for k, rows in enumerate(values):
        rows.requires_grad_()
        expected = torch.autograd.grad((naive(rows, bags) * weights).sum(), rows)[0]
        torch.testing.assert_close(found[k], expected, **TOLERANCE)


@pytest.mark.parametrize("shape", [(12,), (12, 2, 3)])
def test_sums_and_means_take_rows_of_any_shape(bags: BagBatch, shape: tuple[int, ...]) -> None:
    values = random(*shape)
    cut = rows_of(bags, values)
    torch.testing.assert_close(
        segment_sum(values, bags), torch.stack([rows.sum(0) for rows in cut]), **TOLERANCE
    )
    torch.testing.assert_close(
        segment_mean(values, bags), torch.stack([rows.mean(0) for rows in cut]), **TOLERANCE
    )


def test_the_softmax_of_a_bag_sums_to_one_at_any_size_of_scores(bags: BagBatch) -> None:
    scores = random(sum(SIZES), 2) + torch.tensor([1e4, -1e4], dtype=torch.float64)
    sums = segment_sum(segment_softmax(scores, bags), bags)
    torch.testing.assert_close(sums, torch.ones(5, 2, dtype=torch.float64), **TOLERANCE)


def test_a_bag_does_not_see_its_neighbours(bags: BagBatch) -> None:
    values = random(sum(SIZES), 3)
    changed = values.clone()
    changed[bags.bag_of == 2] = 1e6
    others = torch.tensor([0, 1, 3, 4])
    for reduction in (segment_sum, segment_mean, segment_max):
        assert torch.equal(reduction(values, bags)[others], reduction(changed, bags)[others])
    kept = bags.bag_of != 2
    assert torch.equal(segment_softmax(values, bags)[kept], segment_softmax(changed, bags)[kept])


@pytest.mark.parametrize("columns", [1, 3])
def test_attention_pooling_equals_a_loop_over_bags(bags: BagBatch, columns: int) -> None:
    attention, embeddings = random(12, columns, seed=1), random(12, 5, seed=2)
    found = attention_pool(attention, embeddings, bags)
    assert found.shape == (5, columns, 5)
    torch.testing.assert_close(found, loop_pool(attention, embeddings, bags), **TOLERANCE)


@pytest.mark.parametrize("columns", [1, 3])
def test_the_gradient_of_attention_pooling_equals_a_loop_over_bags(
    bags: BagBatch, columns: int
) -> None:
    inputs = random(12, columns, seed=1).requires_grad_(), random(12, 5, seed=2).requires_grad_()
    weights = random(5, columns, 5, seed=3)
    found = torch.autograd.grad((attention_pool(*inputs, bags) * weights).sum(), inputs)
    expected = torch.autograd.grad((loop_pool(*inputs, bags) * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


@pytest.mark.parametrize("columns", [1, 3])
def test_attention_pooling_and_its_gradient_run_under_vmap(bags: BagBatch, columns: int) -> None:
    attention, embeddings = random(4, 12, columns, seed=1), random(4, 12, 5, seed=2)
    found = torch.func.vmap(lambda a, e: attention_pool(a, e, bags))(attention, embeddings)
    expected = torch.stack(
        [loop_pool(a, e, bags) for a, e in zip(attention, embeddings, strict=True)]
    )
    torch.testing.assert_close(found, expected, **TOLERANCE)

    def loss(pool: Callable[..., Tensor], a: Tensor, e: Tensor) -> Tensor:
        return (pool(a.softmax(0), e, bags) ** 2).sum()

    found = torch.func.vmap(
        torch.func.grad(lambda a, e: loss(attention_pool, a, e), argnums=(0, 1))
    )(attention, embeddings)
    for k in range(4):
        inputs = attention[k].clone().requires_grad_(), embeddings[k].clone().requires_grad_()
        expected = torch.autograd.grad(loss(loop_pool, *inputs), inputs)
        torch.testing.assert_close((found[0][k], found[1][k]), expected, **TOLERANCE)


def test_gradcheck_accepts_softmax_and_pooling_together(bags: BagBatch) -> None:
    def pooled(scores: Tensor, embeddings: Tensor) -> Tensor:
        return attention_pool(segment_softmax(scores, bags), embeddings, bags)

    assert torch.autograd.gradcheck(
        pooled, (random(12, 2, seed=1).requires_grad_(), random(12, 3, seed=2).requires_grad_())
    )
