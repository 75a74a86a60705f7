"""ACMIL against values measured on its authors' code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import goldens
import pytest
import torch
from goldens import TOLERANCE, assert_golden, assert_summary, flat
from mil_bench.baselines.acmil import ACMIL

from mil_bench.errors import InputError
from mil_bench.methods.conformance import CHECKS, Check

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

CASES = [*goldens.cases("acmil_ga"), *goldens.cases("acmil_mha")]
HEADS = {"acmil_ga": 1, "acmil_mha": 8}
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def read(case: str, dtype: torch.dtype) -> tuple[dict, ACMIL, BagBatch]:
    golden = goldens.read(case)
    settings = golden["settings"]
    model = ACMIL(
        settings["D_feat"],
        flat(settings["n_class"]),
        branches=settings["n_token"],
        hidden_top=settings["n_masked_patch"],
        hidden_share=settings["mask_drop"],
        embed_dim=settings["D_inner"],
        attention_dim=settings.get("attention_dim", 128),
        variant="multi-head" if golden["method"] == "acmil_mha" else "gated",
    )
    assert model.heads == HEADS[golden["method"]]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            assert module.p == settings["dropout_released"]
            module.p = settings["droprate"]
    model.load_official_state(goldens.official_state(golden))
    if (mask := golden.get("mask")) is not None and settings["n_masked_patch"]:
        uniform = torch.tensor(mask["uniform"]).flatten(0, -2).T  # [M', K * H]
        drawn = torch.full((1, settings["n_masked_patch"], uniform.shape[1]), 3.0)
        drawn[0, : len(uniform)] = uniform
        model._draw = lambda bags: drawn
    bags = goldens.bags_of(golden, dtype, [golden["labels"]["bag"]])
    return golden, model.to(dtype), bags


def assert_forward(model: ACMIL, bags: BagBatch, expected: dict, tolerance: float) -> None:
    out = model(bags)
    assert_golden(out.fine, expected["logits"], tolerance)
    assert_golden(out.fine.softmax(1), expected["probabilities"], tolerance)
    assert out.fine.argmax().item() == expected["prediction"]
    assert_golden(out.extras["branch_logits"][0], expected["sub_logits"], tolerance)
    scores, attention = (
        out.extras[name].T.unflatten(0, (-1, model.heads))  # [K, H, N]
        for name in ("scores", "branch_attention")
    )
    assert_golden(attention.mean((0, 1)), out.attention[:, 0].tolist(), tolerance)
    for name, found in (
        ("attention_raw", scores),
        ("attention", attention),
        ("bag_attention", attention.mean(0, keepdim=True)),
        ("branch_embedding", out.extras["embeddings"][0]),
        ("bag_embedding", out.extras["embedding"]),
    ):
        for row, recorded in zip(found, expected[name], strict=True):
            # Where -1e9 stands among the scores, sums have few digits left and equal ones tie.
            keys = recorded.keys() - ({"argmax"} if name == "attention_raw" else set())
            assert_summary(row, {key: recorded[key] for key in keys}, tolerance, name)


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_everything_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype), TOLERANCE[dtype]
    with torch.no_grad():
        assert_forward(model.eval(), bags, expected["forward"], tolerance)
        if "training_forward" in expected:
            assert_forward(model.train(), bags, expected["training_forward"], tolerance)
    model.train()
    out = model(bags)
    terms = model.terms(out, bags)
    for name in ("sub", "diff", "slide"):
        assert_golden(
            terms.get(name, torch.zeros(1)).sum(), expected["losses"][name], tolerance, name
        )
    loss = model.loss(out, bags, torch.ones(1, dtype=dtype), 0.0)
    assert_golden(loss, expected["losses"]["total"], tolerance)
    loss.backward()
    goldens.assert_gradients(released(model), expected["gradients"], tolerance)


def released(model: ACMIL) -> dict[str, torch.nn.Parameter]:
    """Parameters with their gradients, by released name."""
    ours = dict(ACMIL.official_names)
    found = {}
    for name, parameter in model.named_parameters():
        if name in ("branch_weight", "branch_bias"):
            for k in range(model.branches):
                part = torch.nn.Parameter(parameter[k].detach())
                part.grad = None if parameter.grad is None else parameter.grad[k]
                found[f"classifier.{k}.fc.{name.removeprefix('branch_')}"] = part
            continue
        theirs = next((t for t, own in ours.items() if name.startswith(own)), "")
        found[theirs + name.removeprefix(ours.get(theirs, ""))] = parameter
    return found


@pytest.mark.parametrize(
    "case", [c for c in CASES if goldens.read(c)["settings"]["n_masked_patch"]]
)
def test_the_hidden_instances_are_those_of_the_released_code(case: str) -> None:
    golden, model, bags = read(case, torch.float64)
    scores = model.eval()(bags).extras["scores"]
    hidden = model._hidden(scores, bags)
    assert hidden.shape[1] == len(golden["mask"]["masked_instances"])
    for k, recorded in enumerate(golden["mask"]["masked_instances"]):
        assert hidden[:, k].nonzero()[:, 0].tolist() == sorted(recorded)


@pytest.mark.parametrize(
    ("variant", "branches", "count"),
    [
        ("gated", 5, 677_807),
        ("gated", 1, 662_927),
        ("multi-head", 5, 6_332_970),
        ("multi-head", 1, 2_109_966),
    ],
)
def test_it_has_as_many_parameters_as_the_release(variant: str, branches: int, count: int) -> None:
    model = ACMIL(1024, flat(7), branches=branches, variant=variant)
    assert sum(p.numel() for p in model.parameters()) == count


class MultiHead(ACMIL):
    """The variant with a small embedding."""

    newer_settings = frozenset()
    search_space = {}

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, branches: int = 3):
        super().__init__(in_dim, hierarchy, branches, embed_dim=64, variant="multi-head")


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_the_variant_keeps_the_contract(check: Check) -> None:
    check(MultiHead)


@pytest.mark.parametrize(
    "wrong",
    [
        {"branches": 0},
        {"hidden_top": -1},
        {"hidden_share": 1.5},
        {"variant": "mha"},
        {"embed_dim": 100, "variant": "multi-head"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}="):
        ACMIL(8, flat(2), **wrong)
