"""ILRA-MIL against values measured on its authors' code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import goldens
import pytest
import torch
from goldens import assert_golden, assert_summary, flat
from mil_bench.baselines.ilra import ILRA

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch

CASES = goldens.cases("ilra")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def read(case: str, dtype: torch.dtype) -> tuple[dict, ILRA, BagBatch]:
    golden = goldens.read(case)
    settings = golden["settings"]
    model = ILRA(
        settings["feat_dim"],
        flat(settings["n_classes"]),
        rank=settings["topk"],
        blocks=settings["num_layers"],
        norm=settings["ln"],
        embed_dim=settings["hidden_feat"],
        heads=settings["num_heads"],
    )
    model.load_official_state(goldens.official_state(golden))
    bags = goldens.bags_of(golden, dtype, [golden["labels"]["bag"]])
    return goldens.results(golden, dtype), model.to(dtype).eval(), bags


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_agree_with_the_released_code(
    case: str, dtype: torch.dtype
) -> None:
    expected, model, bags = read(case, dtype)
    tolerance = TOLERANCE[dtype]
    out = model(bags)
    assert_golden(out.fine, expected["forward"]["logits"], tolerance)
    assert_golden(out.fine.softmax(1), expected["forward"]["probabilities"], tolerance)
    assert out.fine.argmax().item() == expected["forward"]["prediction"]
    assert_summary(out.attention, expected["forward"]["pooling_attention"][0], tolerance)
    assert_summary(out.extras["embedding"], expected["forward"]["bag_embedding"][0], tolerance)
    loss = model.loss(out, bags, torch.ones(1, dtype=dtype), 0.0)
    assert_golden(loss, expected["losses"]["total"], tolerance)
    loss.backward()
    parameters = {
        name.replace(".in_proj_", ".multihead_attn.in_proj_")
        .replace(".out_proj.", ".multihead_attn.out_proj.")
        .replace(".gate.", ".gate.0."): parameter
        for name, parameter in model.named_parameters()
    }
    assert expected["gradients"].keys() == parameters.keys()
    goldens.assert_gradients(parameters, expected["gradients"], tolerance)


@both_precisions
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_every_block_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    expected, model, bags = read(case, dtype)
    rows, tolerance, n = bags.features, TOLERANCE[dtype], len(bags.features)
    for block, recorded in zip(model.gab_blocks, expected["forward"]["blocks"], strict=True):
        found = block(rows, bags)
        rows, heads = found["output"], block.project_forward.heads
        for row, latent in zip(found["latent"][0], recorded["latent"], strict=False):
            assert_summary(row, latent, tolerance, "latent")
        assert_summary(found["latent"], recorded["latent_all"], tolerance, "latents")
        forward = found["forward"].reshape(n, heads, -1).mean(1)  # [N, r]
        for column, attention in zip(forward.T, recorded["attention_forward"], strict=False):
            assert_summary(column, attention, tolerance, "forward")
        backward = found["backward"].reshape(n, heads, -1).mean(1)
        assert_summary(backward, recorded["attention_backward_all"], tolerance, "backward")
        assert_summary(rows[0], recorded["output_first_row"], tolerance, "first row")
        assert_summary(rows[-1], recorded["output_last_row"], tolerance, "last row")
        assert_summary(rows, recorded["output_all"], tolerance, "output")


def test_it_has_as_many_parameters_as_the_release() -> None:
    for settings, count in (({}, 3_688_967), ({"rank": 2, "norm": False}, 3_684_359)):
        assert sum(p.numel() for p in ILRA(1024, flat(7), **settings).parameters()) == count


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"blocks": 0}, {"heads": 7}])
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}="):
        ILRA(8, flat(2), **wrong)
