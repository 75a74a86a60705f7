"""HMIL against figures measured on its authors' code, with weights and inputs made by a rule."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
import torch
from goldens import TOLERANCE, assert_golden

from hmil.losses import supervised_contrastive
from hmil.model import HMIL
from mil_bench.data.batch import BagBatch
from mil_bench.data.hierarchy import LabelHierarchy


def read(case: str, dtype: torch.dtype) -> tuple[dict, HMIL, BagBatch]:
    golden = goldens.read(f"hmil__{case}")
    settings = golden["settings"]
    parent = tuple(settings["mapping"][str(c)] for c in range(settings["n_classes"][1]))
    coarse, fine = [f"c{g}" for g in range(settings["n_classes"][0])], [f"f{c}" for c in range(len(parent))]
    model = HMIL(settings["input_dim"], LabelHierarchy(tuple(fine), tuple(coarse), parent))
    model.load_official_state(goldens.official_state(golden))
    labels = golden["labels"]["fine"] if "inputs" in golden else [0]
    return goldens.results(golden, dtype), model.to(dtype), goldens.bags_of(golden, dtype, labels)


BATCHES = ["c3f7_batch8", "c2f7_batch8", "c2f2_batch8"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", BATCHES)
def test_forward_and_loss_terms_agree_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    expected, model, bags = read(case, dtype)
    out = model(bags)
    weight = torch.ones(bags.n_bags, dtype=dtype)
    terms = model.loss_terms(out, bags, weight)
    tolerance = TOLERANCE[dtype]
    assert_golden(out.coarse, expected["forward"]["coarse_logits"], tolerance)
    assert_golden(out.fine, expected["forward"]["fine_logits"], tolerance)
    for ours, theirs in (
        ("ce_coarse", "ce_coarse"),
        ("ce_fine", "ce_fine"),
        ("bag_alignment", "ba_neglog"),
        ("instance_alignment", "ia"),
    ):
        assert_golden(terms[ours], expected["losses"][theirs], tolerance)
    for epoch, schedule in expected["schedule"].items():
        loss = supervised_contrastive(out.extras["embeddings"], bags.labels, weight, schedule["tau"])
        assert_golden(loss, expected["totals"][epoch]["supcon"], tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize("epoch", [0, 50, 100, 150, 200])
def test_the_papers_total_and_its_gradients_agree(case: str, epoch: int, dtype: torch.dtype) -> None:
    expected, model, bags = read(case, dtype)
    model.temperature = expected["schedule"][str(epoch)]["tau"]
    loss = model.loss(model(bags), bags, torch.ones(bags.n_bags, dtype=dtype), epoch / 200)
    assert_golden(loss, expected["totals"][str(epoch)]["total_paper"], TOLERANCE[dtype])
    table = expected["gradients"].get(f"total_paper@{epoch}")
    if table is None:
        return
    loss.backward()
    goldens.assert_gradients(dict(model.named_parameters()), table, TOLERANCE[dtype])


@pytest.mark.parametrize("case", ["c3f7_n7", "c3f7_n64", "c2f7_n600", "c2f2_n600"])
def test_single_bags_agree_with_the_released_code(case: str) -> None:
    expected, model, bags = read(case, torch.float64)
    out, expected = model(bags), expected["forward"]
    assert_golden(out.coarse[0], np.ravel(expected["coarse_logits"]), 1e-10)
    assert_golden(out.fine[0], np.ravel(expected["fine_logits"]), 1e-10)


def test_it_has_as_many_parameters_as_the_released_model() -> None:
    hierarchy = LabelHierarchy.from_groups({"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]})
    assert sum(p.numel() for p in HMIL(1024, hierarchy).parameters()) == 1_348_172
