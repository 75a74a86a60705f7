"""RRT-MIL against values measured on its authors' code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import goldens
import pytest
import torch
from conftest import random_batch
from goldens import assert_golden, assert_summary, assert_tokens, flat
from mil_bench.baselines.rrt.model import RRT

from mil_bench.errors import InputError
from mil_bench.methods.conformance import CHECKS, Check
from mil_bench.methods.fused import large_bags

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

IMPOSSIBLE = ("epeg8", "poolavg", "mlpdim256")  # the released code raises
CASES = [c for c in goldens.cases("rrt") if not any(w in c for w in IMPOSSIBLE)]
POSITIONS = {-1: "first", 0: "second"}
KERNELS = {"attn": "scores", "value_bf": "values", "value_af": "merged"}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-4}
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def read(case: str, dtype: torch.dtype) -> tuple[dict, RRT, BagBatch]:
    golden = goldens.read(case)
    settings = golden["settings"]
    crossing = settings["cr_msa"]
    model = RRT(
        settings["input_dim"],
        flat(settings["n_classes"]),
        kernel=settings["epeg_k"] if settings["epeg"] else 0,
        slots=settings["crmsa_k"] if crossing else 0,
        slot_heads=settings["crmsa_heads"],
        slot_mlp=settings["crmsa_mlp"],
        shortcut=settings["all_shortcut"],
        layers=settings["n_layers"] - 1,
        heads=settings["n_heads"],
        regions=settings["region_num"],
        feed_forward=settings["ffn"],
        activation=settings["act"],
        pooling_activation=settings["da_act"],
        gated=settings["da_gated"],
        embed_dim=settings["mlp_dim"],
        positions=POSITIONS[settings["pos_pos"]] if settings["pos"] == "ppeg" else "none",
        kernel_on=KERNELS[settings.get("epeg_type", "attn")],
        kernel_2d=settings.get("epeg_2d", False),
        region_size=settings.get("region_size", 0),
        least_rows=settings["min_region_num"],
        least_share=settings.get("min_region_ratio", 0.0),
        feed_forward_activation=settings.get("ffn_act", "gelu"),
    )
    state = goldens.official_state(golden)
    for name, value in model.state_dict().items():  # a bias that has no effect may be missing
        if name.endswith(".pe.bias"):
            state.setdefault(f"online_encoder.{name}", torch.zeros_like(value))
    model.load_official_state(state)
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
    assert_summary(out.attention, expected["forward"]["attention"][0], tolerance, "attention")
    assert_summary(out.extras["scores"], expected["forward"]["attention_raw"][0], tolerance)
    recorded = expected["forward"]["bag_embedding"][0]
    assert_summary(out.extras["embedding"], recorded, tolerance, "embedding")
    loss = model.loss(out, bags, torch.ones(1, dtype=dtype), 0.0)
    assert_golden(loss, expected["losses"]["total"], tolerance)
    loss.backward()
    # On the scores, this bias has no effect and may be missing.
    skipped = ".pe.bias" if model.layers[0].attn.attn.on == "scores" else "none"
    gradients = {n: g for n, g in expected["gradients"].items() if not n.endswith(skipped)}
    found = {n: p for n, p in released(model).items() if not n.endswith(skipped)}
    assert gradients.keys() == found.keys()
    goldens.assert_gradients(found, gradients, tolerance)


def released(model: RRT) -> dict[str, torch.nn.Parameter]:
    """Parameters by released name."""
    names = {ours: theirs for theirs, ours in RRT.official_names.items()}
    if model.pool_b is None:
        names |= {"pool_a.0.": "pool_fn.attention.attention.0."}
        names |= {"pool_c.": "pool_fn.attention.attention.2."}
    found = {}
    for name, parameter in model.named_parameters():
        prefix = next(ours for ours in names if name.startswith(ours))
        official = names[prefix] + name.removeprefix(prefix)
        official = official.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.2.", ".mlp.fc2.")
        found[official] = parameter
    return found


@both_precisions
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_every_stage_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    expected, model, bags = read(case, dtype)
    stages, tolerance = model.stages(bags), TOLERANCE[dtype]
    for stage, tokens in stages.items():
        assert_tokens(tokens, expected["forward"]["stages"][stage], tolerance, stage)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 2_700_039),
        ({"slots": 1}, 2_699_015),
        ({"slot_mlp": True}, 2_764_423),
        ({"slots": 0}, 1_646_855),
        ({"kernel": 0}, 2_699_911),
    ],
)
def test_it_has_as_many_parameters_as_the_release(settings: dict, count: int) -> None:
    assert sum(p.numel() for p in RRT(1024, flat(7), **settings).parameters()) == count


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": 8},
        {"slots": -1},
        {"heads": 7},
        {"activation": "x"},
        {"layers": 0},
        {"positions": "second"},
        {"positions": "sine"},
        {"kernel_on": "x"},
        {"kernel_2d": True},
        {"region_size": -1},
        {"least_share": -1.0},
        {"feed_forward_activation": "x"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}="):
        RRT(8, flat(2), **wrong)


class Ablated(RRT):
    """With ablations that look at the places of rows."""

    newer_settings = frozenset()
    search_space = {}

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, positions: str = "first"):
        super().__init__(
            in_dim,
            hierarchy,
            kernel=3,
            heads=4,
            embed_dim=32,
            positions=positions,
            kernel_on="values",
            kernel_2d=True,
            least_rows=6,
        )


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_ablations_keep_the_contract(check: Check) -> None:
    check(Ablated)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"slots": 0, "kernel": 0, "regions": 2},
        {"shortcut": True, "feed_forward": True, "slot_mlp": True, "gated": True},
        {"positions": "second", "layers": 2, "region_size": 1},
        {"positions": "first", "kernel_on": "values", "kernel_2d": True, "kernel": 3},
        {"kernel_on": "merged", "least_rows": 80},
    ],
    ids=str,
)
@torch.no_grad()
def test_blocks_of_a_large_bag_give_the_same(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RRT(6, flat(3), heads=4, embed_dim=40, **settings).double().eval()
    for parameter in model.parameters():  # biases start at 0, where they show nothing
        parameter += 0.1 * torch.randn_like(parameter)
    bags = random_batch([300, 3, 70, 300], 6, 3, dtype=torch.float64)
    whole = model(bags)
    monkeypatch.setattr(large_bags, "ROWS", 20)
    monkeypatch.setattr(model, "stages", None)  # what follows does not use it
    blocks = model(bags)
    torch.testing.assert_close(blocks.fine, whole.fine, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(blocks.attention, whole.attention, rtol=1e-10, atol=1e-12)
