"""Reductions over bags of any sizes equal a loop over the bags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from conftest import random_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from mil_bench.bags.segments import (
    attention_pool,
    extreme_rows,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**16)
quickly = settings(max_examples=50, deadline=None, database=None, derandomize=True)


@pytest.mark.parametrize(
    ("reduce", "of_one"),
    [
        (segment_sum, lambda rows: rows.sum(0, keepdim=True)),
        (segment_mean, lambda rows: rows.mean(0, keepdim=True)),
        (segment_max, lambda rows: rows.amax(0, keepdim=True)),
        (segment_softmax, lambda rows: rows.softmax(0)),
    ],
    ids=["sum", "mean", "max", "softmax"],
)
@quickly
@given(sizes=SIZES, seed=SEEDS, scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_a_reduction_equals_a_loop(
    reduce: Callable, of_one: Callable[[Tensor], Tensor], sizes: list[int], seed: int, scale: float
) -> None:
    bags = random_batch(sizes, 3, 2, seed, torch.float64)
    values = scale * bags.features
    looped = torch.cat([of_one(rows) for rows in values.split(sizes)])
    torch.testing.assert_close(reduce(values, bags), looped)


@quickly
@given(sizes=SIZES, seed=SEEDS)
def test_attention_pooling_equals_a_loop(sizes: list[int], seed: int) -> None:
    bags = random_batch(sizes, 4, 2, seed, torch.float64)
    attention = segment_softmax(bags.features[:, :2], bags)
    pairs = zip(attention.split(sizes), bags.features.split(sizes), strict=True)
    looped = torch.stack([weights.T @ rows for weights, rows in pairs])
    torch.testing.assert_close(attention_pool(attention, bags.features, bags), looped)


@quickly
@given(sizes=SIZES, seed=SEEDS, k=st.integers(1, 6), ties=st.booleans())
def test_extreme_rows_equal_those_of_sorting_each_bag(
    sizes: list[int], seed: int, k: int, ties: bool
) -> None:
    bags = random_batch(sizes, 2, 2, seed, torch.float64)
    scores = bags.features.round() if ties else bags.features
    rows, filled = extreme_rows(scores, bags, k)
    starts = [sum(sizes[:b]) for b in range(len(sizes))]
    for b, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        count = min(k, size)
        assert filled[b].tolist() == ([True] * count + [False] * (k - count)) * 2
        for column in range(scores.shape[1]):
            in_bag = scores[start : start + size, column]
            falling = (start + in_bag.argsort(descending=True, stable=True)).tolist()
            assert rows[b, :count, column].tolist() == falling[:count]
            assert rows[b, k : k + count, column].tolist() == falling[::-1][:count]
