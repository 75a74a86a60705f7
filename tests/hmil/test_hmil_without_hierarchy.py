"""Without coarse classes, HMIL does what it says it does."""

from __future__ import annotations

import torch
from conftest import random_batch
from mil_bench.hmil.model import HMIL

from mil_bench.hierarchy import LabelHierarchy

FLAT = LabelHierarchy.flat(["a", "b", "c"])


def test_its_coarse_branch_learns_fine_classes_and_its_bag_alignment_is_the_fine_loss() -> None:
    torch.manual_seed(0)
    bags = random_batch([3, 5, 2, 4], width=8, classes=3)
    method = HMIL(8, FLAT)
    assert torch.equal(method.coarse_labels(bags), bags.labels)
    out = method(bags)
    assert out.coarse.shape == out.fine.shape
    terms = method.loss_terms(out, bags, torch.tensor([1.0, 1.0, 0.0, 2.0]), 0.5)
    torch.testing.assert_close(terms["bag_alignment"], terms["ce_fine"])
    assert "fine classes a second time" in HMIL.without_hierarchy
    assert "bag alignment repeats the fine cross-entropy" in HMIL.without_hierarchy
