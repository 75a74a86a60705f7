"""WiKG against values measured on its authors' code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import goldens
import pytest
import torch
from conftest import random_batch
from goldens import assert_golden, assert_summary, assert_tokens, flat
from mil_bench.baselines import wikg
from mil_bench.baselines.wikg import WiKG

from mil_bench.errors import InputError
from mil_bench.methods.fused import large_bags

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch

TOO_SMALL = [c for c in goldens.cases("wikg") if "error" in goldens.read(c)]
CASES = [c for c in goldens.cases("wikg") if c not in TOO_SMALL]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
POOLINGS = {"mean": "mean", "max": "max", "attn": "attention"}
SCORES = {"product_of_sums": "product"}


def read(case: str, dtype: torch.dtype) -> tuple[dict, WiKG, BagBatch]:
    golden = goldens.read(case)
    settings = golden["settings"]
    model = WiKG(
        settings["dim_in"],
        flat(settings["n_classes"]),
        neighbours=settings["topk"],
        aggregation=settings["agg_type"],
        pooling=POOLINGS[settings["pool"]],
        neighbour_score=SCORES.get(settings["knowledge_score"], "dot"),
        embed_dim=settings["dim_hidden"],
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
    if "attention" in expected["forward"]:
        assert_summary(out.attention, expected["forward"]["attention"][0], tolerance)
    recorded = expected["forward"]["bag_embedding_normalised"][0]
    assert_summary(out.extras["embedding"], recorded, tolerance, "embedding")
    loss = model.loss(out, bags, torch.ones(1, dtype=dtype), 0.0)
    assert_golden(loss, expected["losses"]["total"], tolerance)
    loss.backward()
    names = {ours: theirs for theirs, ours in WiKG.official_names.items()} | {"norm.": "norm."}
    if model.aggregation == "bi-interaction":
        names["update.0."] = "linear1."
    found = {}
    for name, parameter in model.named_parameters():
        prefix = next(ours for ours in names if name.startswith(ours))
        found[names[prefix] + name.removeprefix(prefix)] = parameter
    gradients = expected["gradients"]
    unused = {name for name in gradients if name.startswith(("gate_U", "gate_V", "gate_W"))}
    assert all(gradients[name] is None for name in unused)
    assert gradients.keys() - unused == found.keys()
    goldens.assert_gradients(found, {n: g for n, g in gradients.items() if n in found}, tolerance)


@both_precisions
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_neighbours_and_stages_agree_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    expected, model, bags = read(case, dtype)
    expected, tolerance, k = expected["forward"], TOLERANCE[dtype], model.neighbours
    mixed = model.mixed(bags)
    head, tail = model.head(mixed), model.tail(mixed)
    found = model.messages(head, tail, bags)
    filled = min(k, len(mixed))
    neighbours = found["neighbours"][:, :filled]
    assert neighbours[:4].tolist() == expected["neighbours_first4"]
    assert neighbours[-1].tolist() == expected["neighbours_last"]
    for name in ("edge_logits", "edge_weights", "knowledge_logits", "knowledge_weights"):
        assert_summary(found[name][:, :filled], expected[name], tolerance, name)
    stages = {
        "mixed": mixed,
        "head": head,
        "tail": tail,
        "message": found["message"],
        "updated": model.updated(mixed, bags),
    }
    for stage, tokens in stages.items():
        assert_tokens(tokens, expected["stages"][stage], tolerance, stage)


@pytest.mark.parametrize("case", TOO_SMALL)
def test_a_bag_of_fewer_instances_than_neighbours_has_as_many_as_it_has(case: str) -> None:
    golden = goldens.read(case)
    settings = golden["settings"]
    size = golden["input"]["N"]
    models = [WiKG(settings["dim_in"], flat(7), neighbours=k).double().eval() for k in (6, size)]
    models[1].load_state_dict(models[0].state_dict())
    bags = goldens.bags_of(golden, torch.float64, [0])
    torch.testing.assert_close(models[0](bags).fine, models[1](bags).fine)


def test_neighbours_do_not_depend_on_the_blocks_in_which_they_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bags, model = random_batch([7, 1, 30], 6, 2), WiKG(6, flat(2), embed_dim=8)
    heads, tails = torch.randn(2, 38, 8)
    whole = model.nearest(heads, tails, bags)
    monkeypatch.setattr(wikg, "_PAIRS", 45)
    assert torch.equal(model.nearest(heads, tails, bags), whole)


@pytest.mark.parametrize("pooling", wikg.POOLINGS)
@pytest.mark.parametrize("aggregation", wikg.AGGREGATIONS)
@pytest.mark.parametrize("neighbour_score", wikg.SCORES)
@torch.no_grad()
def test_blocks_of_a_large_bag_give_the_same(
    pooling: str, aggregation: str, neighbour_score: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"pooling": pooling, "aggregation": aggregation, "neighbour_score": neighbour_score}
    model = WiKG(6, flat(3), embed_dim=16, **settings).double().eval()
    bags = random_batch([50, 3, 70], 6, 3, dtype=torch.float64)
    whole = model(bags)
    monkeypatch.setattr(large_bags, "ROWS", 20)
    monkeypatch.setattr(wikg, "_PAIRS", 100)
    monkeypatch.setattr(model, "updated", None)  # what follows does not use it
    blocks = model(bags)
    torch.testing.assert_close(blocks.fine, whole.fine, rtol=1e-11, atol=1e-11)
    if whole.attention is not None:
        torch.testing.assert_close(blocks.attention, whole.attention, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 1_974_279),
        ({"pooling": "attention"}, 2_105_864),
        ({"aggregation": "gcn"}, 1_711_623),
        ({"aggregation": "sage"}, 1_973_767),
    ],
)
def test_it_has_as_many_parameters_as_the_release_without_those_never_used(
    settings: dict, count: int
) -> None:
    model = WiKG(1024, flat(7), **settings)
    assert sum(p.numel() for p in model.parameters()) == count - 394_240


@pytest.mark.parametrize(
    "wrong", [{"pooling": "sum"}, {"aggregation": "x"}, {"neighbours": 0}, {"neighbour_score": "x"}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}="):
        WiKG(8, flat(2), **wrong)
