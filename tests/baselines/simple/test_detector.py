from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from conftest import SMALL_TWIN
from mil_bench.baselines.simple.detector import Detector

import mil_bench
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.feed import Feed
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import create_store
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from pathlib import Path


def naive_logits(method: Detector, features: torch.Tensor, top: int) -> torch.Tensor:
    """One bag, in plain words."""
    probabilities = method.instance_classifier(features).softmax(1)[:, :-1]
    best = probabilities.sort(0, descending=True).values[: min(top, len(features))]
    return method.classifier(best.mean(0).log())


def test_it_equals_a_naive_computation_on_bags_of_all_sizes() -> None:
    torch.manual_seed(0)
    method = Detector(6, LabelHierarchy.flat("abc"), hidden=8, top=3).double()
    sizes = [1, 2, 3, 9]
    features = torch.randn(sum(sizes), 6, dtype=torch.float64)
    bags = BagBatch.pack(features, torch.tensor(sizes), torch.tensor([0, 1, 2, 0]))
    found = method(bags).fine
    for b, part in enumerate(features.split(sizes)):
        torch.testing.assert_close(found[b], naive_logits(method, part, 3))


def test_it_finds_the_witnesses_it_was_shown(tmp_path: Path) -> None:
    store = open_store(find_dataset(f"{SMALL_TWIN},difficulty=0.3"), tmp_path)
    torch.manual_seed(0)
    method = Detector(store.width, store.hierarchy, hidden=32)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    bags = Feed(store, torch.device("cpu")).batch(np.arange(len(store)))
    for _ in range(60):
        optimizer.zero_grad()
        method.loss(method(bags), bags, torch.ones(bags.n_bags), 0.0).backward()
        optimizer.step()
    witness = method(bags).extras["instance_logits"].argmax(1) < store.hierarchy.n_fine
    shown = bags.instance_labels >= 0
    assert (witness & shown).sum() > 0.8 * shown.sum()


def test_where_there_are_no_instance_labels_a_row_says_why_it_is_not_there(tmp_path: Path) -> None:
    spec = find_dataset("bracs")
    twin = open_store(find_dataset(SMALL_TWIN), tmp_path)
    header = StoreHeader(
        "bracs", spec.hierarchy, twin.rows, twin.width, "float32", "copied from a twin", "patient"
    )
    with create_store(tmp_path / "bracs.h5", header) as writer:
        for i in range(len(twin)):
            writer.add(twin.bag(i))
    places = {
        "results": tmp_path / "r",
        "data": tmp_path,
        "tracking": False,
        "progress": False,
        "on": "inline",
    }
    result = mil_bench.run(["detector", "mean-pool"], "bracs", folds=2, epochs=1, **places)
    assert result.facts == [
        "detector was left out: it learns from instance labels, and bracs has none"
    ]
    assert result.tables["fine"].loc["detector"].isna().all()
    assert result.failures == ()
