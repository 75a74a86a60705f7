"""Attention against witnesses, as it is kept with the predictions of a fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conftest import SMALL_TWIN
from sklearn.metrics import roc_auc_score

from mil_bench import registry, seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.feed import Feed
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.methods import Output
from mil_bench.planning.make import make_plan
from mil_bench.planning.request import RunRequest
from mil_bench.running.task import TaskMaker
from mil_bench.running.worker import train
from mil_bench.training.stack import LoopedStack
from mil_bench.training.trainer import predict
from mil_bench.training.witnesses import WitnessWatch

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore


def batch(labels: list[int], shown: list[list[int]]) -> BagBatch:
    rows = torch.tensor([value for bag in shown for value in bag])
    sizes = torch.tensor([len(bag) for bag in shown])
    return BagBatch.pack(
        torch.zeros(len(rows), 2), sizes, torch.tensor(labels), instance_labels=rows
    )


def output(attention: list[list[float]], bags: int, classes: int) -> Output:
    return Output(torch.zeros(bags, classes), attention=torch.tensor(attention))


def test_of_an_attention_with_class_columns_the_slides_own_class_counts() -> None:
    watch = WitnessWatch()
    attention = [[0.1, 0.9], [0.9, 0.1], [0.2, 0.6], [0.8, 0.4]]
    watch(batch([1, 0], [[1, -1], [0, -1]]), output(attention, 2, 2))
    assert watch.aucs.tolist() == [1.0, 0.0]


def test_of_an_attention_with_other_columns_their_mean_counts() -> None:
    watch = WitnessWatch()
    watch(batch([1], [[1, -1, -1]]), output([[0.5], [0.3], [0.2]], 1, 4))
    watch(batch([1], [[1, -1, -1]]), output([[0.5, 0.0], [0.3, 0.6], [0.2, 0.4]], 1, 4))
    assert watch.aucs.tolist() == [1.0, 0.0]


def test_a_milder_finding_is_a_witness_too_and_a_slide_without_any_is_undefined() -> None:
    watch = WitnessWatch()
    watch(batch([2, 0], [[2, 1, -1], [-1, -1]]), output([[0.1], [0.3], [0.2], [0.5], [0.5]], 2, 3))
    assert watch.aucs[0] == 0.5
    assert np.isnan(watch.aucs[1])


def test_without_attention_or_without_instance_labels_there_is_nothing() -> None:
    watch = WitnessWatch()
    watch(batch([0], [[0, -1]]), Output(torch.zeros(1, 2)))
    unlabelled = BagBatch.pack(torch.zeros(2, 2), torch.tensor([2]), torch.tensor([0]))
    watch(unlabelled, output([[0.5], [0.5]], 1, 2))
    assert watch.aucs is None


@pytest.mark.parametrize("name", ["abmil", "clam-mb", "dsmil", "hmil", "mean-pool"])
def test_a_fold_keeps_one_value_a_test_slide(name: str, small_store: BagStore) -> None:
    plan = make_plan(
        RunRequest(SMALL_TWIN, (name,), folds=3, epochs=1), find_dataset(SMALL_TWIN), small_store
    )
    found = train(TaskMaker(plan.splits, small_store, "cpu").task(plan.jobs[0], (0,)))[
        0
    ].predictions.attention_auc
    if name == "mean-pool":
        assert found is None
        return
    test = small_store.index_of(plan.splits.folds[0].test)
    assert (
        np.isnan(found) == (small_store.labels[test] == 0)
    ).all()  # the first class has no finding
    assert ((found >= 0) & (found <= 1))[small_store.labels[test] > 0].all()


@pytest.mark.slow
def test_all_bags_in_parts_equal_scikit_learn_bag_by_bag(small_store: BagStore) -> None:
    method = registry.methods.load("hmil")
    with seeds.torch_seeded("weights"):
        stack = LoopedStack(
            [method(small_store.width, small_store.hierarchy)], method.recipe, [("fold", 0)]
        )
    feed, watch = Feed(small_store, torch.device("cpu")), WitnessWatch()
    bags = np.arange(len(small_store))[::-1].copy()
    predict(stack, feed, bags, 0, watch)
    for position, found in zip(bags, watch.aucs, strict=True):
        alone = feed.batch(np.array([position]))
        witness = (alone.instance_labels >= 0).numpy()
        if not witness.any():
            assert np.isnan(found)
            continue
        attention = stack.forward(0, alone).attention[:, alone.labels[0]].numpy()
        assert found == pytest.approx(
            roc_auc_score(witness, attention), abs=1e-3
        )  # parts differ in the last bit
