"""HMIL against figures measured on its authors' code, with weights and inputs made by a rule."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hmil.losses import supervised_contrastive
from hmil.model import HMIL
from mil_bench.data.batch import BagBatch
from mil_bench.data.hierarchy import LabelHierarchy

TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5}


def read(shared: Path, case: str) -> dict:
    return json.loads((shared / "golden" / f"hmil__{case}.json").read_text())


def model_of(golden: dict, dtype: torch.dtype) -> HMIL:
    settings = golden["settings"]
    parent = tuple(settings["mapping"][str(c)] for c in range(settings["n_classes"][1]))
    names = [f"c{g}" for g in range(settings["n_classes"][0])], [f"f{c}" for c in range(len(parent))]
    hierarchy = LabelHierarchy(tuple(names[1]), tuple(names[0]), parent)
    model = HMIL(settings["input_dim"], hierarchy)
    state = {
        name: torch.from_numpy(
            (0.05 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)).astype(np.float32)
        )
        for name, shape, _, _ in golden["params"]
    }
    model.load_state_dict(state)
    return model.to(dtype)


def bags_of(golden: dict, dtype: torch.dtype) -> BagBatch:
    inputs = golden.get("inputs") or [golden["input"]]
    parts = [
        np.random.default_rng(i["seed"]).standard_normal((i["N"], i["D"])).astype(np.float32)
        * np.float32(i.get("scale", 1))
        for i in inputs
    ]
    labels = golden["labels"]["fine"] if "labels" in golden and "fine" in golden["labels"] else [0]
    features = torch.from_numpy(np.concatenate(parts)).to(dtype)
    return BagBatch.pack(features, torch.tensor([len(p) for p in parts]), torch.tensor(labels).reshape(-1))


def assert_golden(found: torch.Tensor, golden: object, tolerance: float) -> None:
    expected = np.asarray(golden, dtype=np.float64)
    scale = np.maximum(1, np.abs(expected))
    assert np.max(np.abs(found.detach().double().numpy() - expected) / scale) <= tolerance


BATCHES = ["c3f7_batch8", "c2f7_batch8", "c2f2_batch8"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", BATCHES)
def test_forward_and_loss_terms_agree_with_the_released_code(shared: Path, case: str, dtype: torch.dtype) -> None:
    golden = read(shared, case)
    expected = golden["results"][str(dtype).removeprefix("torch.")]
    model, bags = model_of(golden, dtype), bags_of(golden, dtype)
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
def test_the_papers_total_and_its_gradients_agree(shared: Path, case: str, epoch: int, dtype: torch.dtype) -> None:
    golden = read(shared, case)
    expected = golden["results"][str(dtype).removeprefix("torch.")]
    model, bags = model_of(golden, dtype), bags_of(golden, dtype)
    model.temperature = expected["schedule"][str(epoch)]["tau"]
    loss = model.loss(model(bags), bags, torch.ones(bags.n_bags, dtype=dtype), epoch / 200)
    assert_golden(loss, expected["totals"][str(epoch)]["total_paper"], TOLERANCE[dtype])
    table = expected["gradients"].get(f"total_paper@{epoch}")
    if table is None:
        return
    loss.backward()
    for name, parameter in model.named_parameters():
        assert_golden(parameter.grad.norm(), table[name]["norm"], TOLERANCE[dtype])
        assert_golden(parameter.grad.flatten()[:4], table[name]["first4"], TOLERANCE[dtype])


@pytest.mark.parametrize("case", ["c3f7_n7", "c3f7_n64", "c2f7_n600", "c2f2_n600"])
def test_single_bags_agree_with_the_released_code(shared: Path, case: str) -> None:
    golden = read(shared, case)
    expected = golden["results"]["float64"]["forward"]
    out = model_of(golden, torch.float64)(bags_of(golden, torch.float64))
    assert_golden(out.coarse[0], np.ravel(expected["coarse_logits"]), 1e-10)
    assert_golden(out.fine[0], np.ravel(expected["fine_logits"]), 1e-10)


def test_it_has_as_many_parameters_as_the_released_model() -> None:
    hierarchy = LabelHierarchy.from_groups({"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]})
    assert sum(p.numel() for p in HMIL(1024, hierarchy).parameters()) == 1_348_172
