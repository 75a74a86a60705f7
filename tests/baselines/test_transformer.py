"""The plain Transformer against values measured on STAMP's code."""

from __future__ import annotations

import dataclasses

import goldens
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import random_batch
from goldens import assert_golden, assert_summary, assert_tokens, flat
from mil_bench.baselines.transformer import parts
from mil_bench.baselines.transformer.model import Transformer

from mil_bench.bags.batch import BagBatch
from mil_bench.errors import InputError
from mil_bench.methods import Output
from mil_bench.methods.fused import large_bags

TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-4}
CASES = goldens.cases("vit")
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def coordinates(golden: dict) -> list[torch.Tensor]:
    made = golden.get("inputs") or [golden["input"]]
    return [
        torch.from_numpy(
            np.random.default_rng(m["coords"]["seed"]).integers(0, 64, (m["N"], 2)) * 256
        )
        for m in made
    ]


def read(case: str, dtype: torch.dtype) -> tuple[dict, Transformer, BagBatch]:
    golden = goldens.read(case)
    s = golden["settings"]
    labels = golden["labels"].get("bags") or [golden["labels"]["bag"]]
    model = Transformer(
        s["dim_input"],
        flat(s["dim_output"]),
        s["dim_model"],
        s["dim_feedforward"],
        s["n_heads"],
        s["n_layers"],
        0.0,
        alibi=s["use_alibi"],
    )
    state = goldens.official_state(golden)
    for name in state:
        for buffer, value in (s.get("buffers_before") or {}).items():
            if name.endswith(buffer):
                state[name] = torch.tensor([value])
    model.load_official_state({f"model.{name}": value for name, value in state.items()})
    for module in model.modules():  # the goldens were measured without dropout
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    bags = goldens.bags_of(golden, dtype, labels)
    rows, places = s["padded_to"], coordinates(golden)
    parts = list(bags.features.split(bags.lengths))
    if rows:
        parts = [F.pad(x, (0, 0, 0, rows - len(x))) for x in parts]
        places = [F.pad(x, (0, 0, 0, rows - len(x))) for x in places]
    sizes = torch.tensor([len(x) for x in parts])
    packed = BagBatch.pack(torch.cat(parts), sizes, bags.labels, torch.cat(places).to(dtype))
    return golden, model.to(dtype).eval(), packed


def padding(golden: dict, bags: BagBatch) -> torch.Tensor | None:
    if not golden["settings"]["mask_given"]:
        return None
    return torch.arange(len(bags.features)) >= golden["input"]["N"]


def measured_in_training(model: Transformer, expected: dict) -> None:
    """ALiBi's mean distance after a training step, with which losses and gradients were measured.

    It is the same in all heads and layers.
    """
    for name, value in model.named_buffers():
        for kind in ("running_mean", "items_so_far"):
            if name.endswith(kind):
                after = next(v for k, v in expected["buffers_after"].items() if k.endswith(kind))
                value.copy_(torch.tensor(after, dtype=value.dtype))


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_agree_with_the_released_code(
    case: str, dtype: torch.dtype
) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype), TOLERANCE[dtype]
    with torch.no_grad():
        embeddings = model.embed(bags, padding(golden, bags))
    assert_golden(model.mlp_head(embeddings), expected["forward"]["logits"], tolerance)
    for b, recorded in enumerate(expected["forward"]["bag_embedding"]):
        assert_summary(embeddings[b], recorded, tolerance, "embedding")
    measured_in_training(model, expected)
    out = Output(fine=model.mlp_head(model.embed(bags, padding(golden, bags))))
    weight = torch.tensor(golden["settings"]["category_weights"], dtype=dtype)[bags.labels]
    # As the trainer does: the release divides by the number of bags, not by their weights.
    loss = model.loss(out, bags, weight, 0.0) * weight.mean()
    loss.backward()
    assert_golden(loss, expected["losses"]["total"], tolerance)
    plain = F.cross_entropy(out.fine, bags.labels)
    assert_golden(plain, expected["losses"]["ce_unweighted"], tolerance)
    goldens.assert_gradients(dict(model.named_parameters()), expected["gradients"], tolerance)


@both_precisions
@pytest.mark.parametrize("case", [c for c in CASES if "alibi" in c and "mask" not in c])
def test_training_moves_the_mean_distance_as_the_release_does(
    case: str, dtype: torch.dtype
) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype), TOLERANCE[dtype]
    model.train().training_loss(bags, torch.ones(bags.n_bags, dtype=dtype), 0.0)
    for name, value in expected["buffers_after"].items():
        assert_golden(model.state_dict()[name], value, tolerance, name)
    assert_golden(model.eval()(bags).fine, expected["training_logits"], tolerance)


def test_a_bag_of_weight_0_does_not_move_the_mean_distance() -> None:
    bags = random_batch([5, 9], 6, 2)
    bags = dataclasses.replace(bags, coords=torch.rand(14, 2) * 100)
    model = Transformer(6, flat(2), 16, 16, 2, alibi=True).train()
    model.training_loss(bags, torch.tensor([1.0, 0.0]), 0.0)
    alone = Transformer(6, flat(2), 16, 16, 2, alibi=True).train()
    alone.training_loss(bags.select(torch.tensor([0])), torch.ones(1), 0.0)
    for name, value in alone.named_buffers():
        if name.endswith("running_mean"):
            assert value.item() > 1
            assert torch.equal(value, model.get_buffer(name))


@pytest.mark.parametrize(("alibi", "count"), [(False, 3_685_895), (True, 3_685_911)])
def test_it_has_as_many_parameters_as_the_released_model(alibi: bool, count: int) -> None:
    assert sum(p.numel() for p in Transformer(1024, flat(7), alibi=alibi).parameters()) == count


def test_training_draws_rows_and_evaluation_does_not() -> None:
    model = Transformer(6, flat(2), 16, 16, 2, rows=4)
    bags = random_batch([3, 40], 6, 2)
    assert model.train()._drawn(bags).lengths == (3, 4)
    assert model.eval()._drawn(bags).lengths == (3, 40)


def test_alibi_without_coordinates_is_refused() -> None:
    with pytest.raises(InputError, match="the bags have no coordinates"):
        Transformer(6, flat(2), 16, 16, 2, alibi=True)(random_batch([3], 6, 2))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InputError, match="3 heads do not divide"):
        Transformer(6, flat(2), 16, heads=3)


STAGED = [
    case
    for case in CASES
    if "input" in (golden := goldens.read(case))
    and not golden["settings"]["mask_given"]
    and "stages" in goldens.results(golden, torch.float64)["forward"]
]


@both_precisions
@pytest.mark.parametrize("case", STAGED)
@torch.no_grad()
def test_every_stage_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype)["forward"], TOLERANCE[dtype]
    stages = {"projected": model.project_features(bags.features)}
    tokens = model._tokens(bags)
    for number, block in enumerate(model.transformer.layers):
        normed = dataclasses.replace(tokens, features=block[0].norm(tokens.features))
        attended = block[0].mhsa(normed, None)
        before = tokens.features + attended
        added = block[1](before)
        stages |= {
            f"layer{number}_attention_out": attended,
            f"layer{number}_in_ff": before,
            f"layer{number}_ff_out": added,
        }
        if (recorded := (expected.get("class_token_attention") or {}).get(f"layer{number}")) and (
            not model.alibi
        ):
            weights = block[0].mhsa.class_weights(normed)  # [T, heads]
            assert_golden(weights[0], recorded["to_class_token"], tolerance)
            for head, to_instances in enumerate(recorded["to_instances"]):
                assert_summary(weights[1:, head], to_instances, tolerance, "class token")
        tokens = dataclasses.replace(tokens, features=before + added)
    stages["norm"] = model.transformer.norm(tokens.features)
    assert stages.keys() == expected["stages"].keys()
    for stage, found in stages.items():
        assert_tokens(found, expected["stages"][stage], tolerance, stage)
    # What forward does: the class token alone in the last layer.
    torch.testing.assert_close(
        model.embed(bags)[0], stages["norm"][0], rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_blocks_of_a_large_bag_give_the_same(
    alibi: bool, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Transformer(6, flat(2), 16, 24, heads=4, layers=layers, alibi=alibi).double().eval()
    bags = random_batch([50, 3, 70], 6, 2, dtype=torch.float64)
    bags = dataclasses.replace(bags, coords=torch.rand(123, 2, dtype=torch.float64) * 100)
    whole, shown = model(bags).fine, model.instance_map(bags)
    monkeypatch.setattr(large_bags, "ROWS", 20)
    monkeypatch.setattr(parts, "_PAIRS", 200)
    kind = type(model.transformer.layers[0][0].mhsa)
    monkeypatch.setattr(kind, "forward", None)  # what follows does not use it
    torch.testing.assert_close(model(bags).fine, whole, rtol=1e-11, atol=1e-11)
    if shown is not None:
        again = model.instance_map(bags)
        torch.testing.assert_close(again.values, shown.values, rtol=1e-11, atol=1e-12)
