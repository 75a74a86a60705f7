"""ABMIL, plain and gated, against values measured on its authors' code."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import goldens
import pytest
import torch
from conftest import random_batch
from goldens import TOLERANCE, assert_golden, assert_summary, flat
from mil_bench.baselines.abmil import ABMIL, GatedABMIL

from mil_bench import seeds
from mil_bench.errors import InputError
from mil_bench.methods import Method
from mil_bench.methods.conformance import CHECKS, Check
from mil_bench.methods.fused import linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

CASES = goldens.cases("abmil") + goldens.cases("abmil_gated")
CLASSES = {"sigmoid": 2, "linear2_softmax": 2, "linear7_softmax": 7}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def build(golden: dict[str, Any]) -> ABMIL:
    settings = golden["settings"]
    kind = GatedABMIL if golden["method"] == "abmil_gated" else ABMIL
    embed_dim = settings["M"] if settings["features"] == "linear800" else 0
    return kind(golden["input"]["D"], flat(CLASSES[settings["head"]]), embed_dim, settings["L"])


def read(case: str, dtype: torch.dtype) -> tuple[dict[str, Any], ABMIL, BagBatch]:
    golden = goldens.read(case)
    method = build(golden)
    method.load_official_state(goldens.official_state(golden))
    return (
        golden,
        method.to(dtype).eval(),
        goldens.bags_of(golden, dtype, [golden["labels"]["bag"]]),
    )


def is_clamped(case: str) -> bool:
    """Whether the release clamped the probability of this case; it clamps none of a softmax."""
    golden = goldens.read(case)
    probability = goldens.results(golden, torch.float64)["forward"]["probabilities"][0][0]
    return golden["head_is_official"] and not 1e-5 <= probability <= 1 - 1e-5


@DTYPES
@pytest.mark.parametrize("case", CASES)
def test_forward_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, method, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype)["forward"], TOLERANCE[dtype]
    inside: dict[str, torch.Tensor] = {}
    method.classifier.register_forward_hook(lambda _, inputs, out: inside.update(pooled=inputs[0]))
    out = method(bags)
    logits, probabilities = out.fine, out.fine.softmax(1)
    if golden["head_is_official"]:
        assert (logits[:, 0] == 0).all()
        logits, probabilities = logits[:, 1:], probabilities[:, 1:]
    assert_golden(logits, expected["logits"], tolerance, "logits")
    assert_golden(probabilities, expected["probabilities"], tolerance, "probabilities")
    assert out.fine.argmax().item() == expected["prediction"]
    assert_summary(
        method._scores(method.embed(bags.features)),
        expected["attention_raw"][0],
        tolerance,
        "scores",
    )
    assert_summary(out.attention, expected["attention"][0], tolerance, "attention")
    assert_summary(inside["pooled"], expected["bag_embedding"][0], tolerance, "embedding")


@pytest.mark.parametrize("block", [2, 4, 100])
@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize(
    "params", [{}, {"embed_dim": 0}, {"gated": True}, {"dropout": 0.5}], ids=str
)
def test_a_bag_by_itself_has_the_gradients_that_autograd_finds(
    params: dict[str, Any], weight: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_ROWS", block)
    bags, found = random_batch((9,), 5, 3, dtype=torch.float64), []
    with seeds.torch_seeded("abmil"):
        method = ABMIL(5, flat(3), **{"embed_dim": 6, "attention_dim": 4} | params).double().train()
    for backward in (method.backward, partial(Method.backward, method)):
        method.zero_grad()
        with seeds.torch_seeded("abmil", "dropout"):
            loss = backward(bags, torch.tensor([weight], dtype=torch.float64), 0.0)
        found.append((loss, *(parameter.grad for parameter in method.parameters())))
    torch.testing.assert_close(*found)


def test_frozen_layers_get_no_gradient() -> None:
    method = ABMIL(5, flat(3))
    method.embed.requires_grad_(False)
    method.backward(random_batch((9,), 5, 3), torch.ones(1), 0.0)
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == [
        "embed.0.weight",
        "embed.0.bias",
    ]


@DTYPES
@pytest.mark.parametrize("case", [case for case in CASES if not is_clamped(case)])
@pytest.mark.parametrize("backward", [ABMIL.backward, Method.backward], ids=["by hand", "autograd"])
def test_loss_and_gradients_agree_with_the_released_code(
    case: str, backward: Callable, dtype: torch.dtype
) -> None:
    """If the release clamps its probability, its loss is a constant without gradient.

    Ours is the cross-entropy. So of the saturated cases (``clamphigh``, ``clamplow``) only the
    forward pass is compared, above.
    """
    golden, method, bags = read(case, dtype)
    expected = goldens.results(golden, dtype)
    loss = backward(method, bags, torch.ones(1, dtype=dtype), 0.0)
    assert_golden(loss, expected["losses"]["total"], TOLERANCE[dtype], "loss")
    parameters = dict(method.named_parameters())
    if golden["head_is_official"]:
        for name in ("classifier.weight", "classifier.bias"):
            row, gradient = parameters[name][1:].detach().clone(), parameters[name].grad
            torch.testing.assert_close(gradient[:1], -gradient[1:])
            row.grad = gradient[1:].clone()
            parameters[name] = row
    released = {name: parameters[own_name(method, name)] for name in expected["gradients"]}
    assert len(released) == len(parameters)
    goldens.assert_gradients(released, expected["gradients"], TOLERANCE[dtype])


def own_name(method: ABMIL, released: str) -> str:
    (name,) = method.from_official({released: torch.zeros(1)})
    return name


def test_the_cases_left_out_are_the_saturated_ones() -> None:
    left_out = {case.split("__")[1].rsplit("_", 1)[0] for case in CASES if is_clamped(case)}
    assert left_out == {"identity1024_clamphigh", "identity1024_clamplow"}
    assert len(CASES) == 40


def test_the_convolutions_of_a_checkpoint_are_dropped() -> None:
    golden = goldens.read("abmil__linear800_n7")
    state = goldens.official_state(golden) | {
        "feature_extractor_part1.0.weight": torch.zeros(20, 1, 5, 5)
    }
    method = build(golden)
    method.load_official_state(state)
    assert torch.equal(method.embed[0].weight, state["feature_extractor_part2.0.weight"])


def test_a_sigmoid_head_does_not_fit_seven_classes() -> None:
    state = goldens.official_state(goldens.read("abmil__identity500_n7"))
    with pytest.raises(
        InputError, match=r"classifier.weight has the shape \(2, 500\), expected \(7, 500\)"
    ):
        ABMIL(500, flat(7), embed_dim=0).load_official_state(state)


def test_a_gated_checkpoint_does_not_fit_the_plain_method() -> None:
    state = goldens.official_state(goldens.read("abmil_gated__identity500_n7"))
    with pytest.raises(InputError, match=r"attention_u.0.weight is no parameter of this method"):
        ABMIL(500, flat(2), embed_dim=0).load_official_state(state)


@pytest.mark.parametrize(("kind", "released"), [(ABMIL, 490_828), (GatedABMIL, 554_956)])
def test_it_has_as_many_parameters_as_the_released_model(kind: type[ABMIL], released: int) -> None:
    convolutions = (20 * 25 + 20) + (50 * 20 * 25 + 50)
    second_row_of_the_head = 500 + 1
    own = sum(p.numel() for p in kind(800, flat(2)).parameters())
    assert own - second_row_of_the_head + convolutions == released


def naive_loss(method: ABMIL, bags: BagBatch, weight: torch.Tensor) -> torch.Tensor:
    """AEM's loss bag by bag, in plain words."""
    total = torch.zeros((), dtype=weight.dtype)
    for b, rows in enumerate(bags.features.split(bags.lengths)):
        embedded = method.embed(rows)
        attention = torch.distributions.Categorical(logits=method._scores(embedded)[:, 0])
        logits = method.classifier(attention.probs @ embedded)
        cross_entropy = logits.logsumexp(0) - logits[bags.labels[b]]
        term = cross_entropy - method.entropy_weight * attention.entropy()
        total = total + weight[b] * term
    return total / weight.sum()


@pytest.mark.parametrize("kind", [ABMIL, GatedABMIL])
@pytest.mark.parametrize("sizes", [(9,), (4, 1, 7)])
def test_the_entropy_of_the_attention_is_in_loss_and_gradients(
    kind: type[ABMIL], sizes: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    method = kind(5, flat(3), embed_dim=6, attention_dim=4, entropy_weight=0.3).double()
    bags = random_batch(sizes, 5, 3, dtype=torch.float64)
    weight = torch.linspace(0.5, 1.0, len(sizes), dtype=torch.float64)
    expected = naive_loss(method, bags, weight)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in method.named_parameters()}
    method.zero_grad()
    torch.testing.assert_close(method.backward(bags, weight, 0.0), expected.detach())
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=name)
    method.entropy_weight = 0.0
    assert (naive_loss(method, bags, weight) - expected).abs() > 0.1


class Spread(ABMIL):
    """With a weight of the entropy that is not 0."""

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, entropy_weight: float = 0.1):
        super().__init__(in_dim, hierarchy, embed_dim=32, entropy_weight=entropy_weight)

    search_space = {}
    newer_settings = frozenset()
    backward = ABMIL.backward


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_with_the_entropy_it_keeps_the_contract(check: Check) -> None:
    check(Spread)


def test_attention_of_0_has_finite_gradients() -> None:
    method = ABMIL(5, flat(3), embed_dim=6, attention_dim=4, entropy_weight=0.3)
    with torch.no_grad():
        method.attention_w.weight.mul_(1e4)
    method.backward(random_batch((9,), 5, 3), torch.ones(1), 0.0)
    assert all(p.grad.isfinite().all() for p in method.parameters())


def test_a_negative_weight_of_the_entropy_is_refused() -> None:
    with pytest.raises(InputError, match="entropy_weight=-1 is negative"):
        ABMIL(5, flat(3), entropy_weight=-1)
