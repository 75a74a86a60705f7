"""DSMIL against values measured on its authors' code, and against plain code for one bag."""

from __future__ import annotations

from functools import partial
from typing import Any

import goldens
import pytest
import torch
import torch.nn.functional as F
from conftest import random_batch
from goldens import TOLERANCE, assert_golden, assert_summary, flat
from mil_bench.baselines.dsmil import DSMIL
from torch.func import functional_call, grad, stack_module_state, vmap

from mil_bench import seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.errors import InputError
from mil_bench.methods import Method
from mil_bench.methods.fused import linear

CASES = goldens.cases("dsmil")
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
SIZES = [5, 1, 9, 30]
VARIANTS = [
    {},
    {"nonlinear": False},
    {"passing_v": True, "dropout": 0.5},
    {"none_class": True, "positive_weight": 2.5},
    {"none_class": True, "nonlinear": False, "passing_v": True},
]


def build(classes: int = 7, in_dim: int = 12, **params: Any) -> DSMIL:
    """In float64 and evaluation mode, with biases that are not zero."""
    with seeds.torch_seeded("test", "dsmil"):
        method = DSMIL(in_dim, flat(classes), **params).double().eval()
        for name, parameter in method.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter)
    return method


def read(case: str, dtype: torch.dtype) -> tuple[dict[str, Any], DSMIL, BagBatch]:
    return made_of(goldens.read(case), dtype)


def made_of(golden: dict[str, Any], dtype: torch.dtype) -> tuple[dict[str, Any], DSMIL, BagBatch]:
    settings, labels = golden["settings"], golden["labels"]["multi_hot"]
    # A bag without any of the classes has the class "none", which has no output.
    has_none = settings["output_class"] == 1 or 1.0 not in labels
    method = DSMIL(
        settings["input_size"],
        flat(settings["output_class"] + has_none),
        nonlinear=settings["nonlinear"],
        passing_v=settings["passing_v"],
        dropout=settings["dropout_v"],
        none_class=has_none,
        positive_weight=settings["pos_weight"] or 1.0,
    )
    method.load_official_state(goldens.official_state(golden))
    label = labels.index(1.0) + has_none if 1.0 in labels else 0
    return (
        goldens.results(golden, dtype),
        method.to(dtype).eval(),
        goldens.bags_of(golden, dtype, [label]),
    )


@DTYPES
@pytest.mark.parametrize("case", CASES)
def test_forward_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    expected, method, bags = read(case, dtype)
    expected, tolerance = expected["forward"], TOLERANCE[dtype]
    out = method(bags)
    bag, best = out.extras["bag_logits"], out.extras["max_logits"][0]
    assert_golden(bag, expected["bag_logits"], tolerance, "bag logits")
    assert_golden(bag.sigmoid(), expected["bag_probabilities"], tolerance, "bag probabilities")
    assert_golden(best, expected["max_logits"], tolerance, "max logits")
    assert_golden(best.sigmoid(), expected["max_probabilities"], tolerance, "max probabilities")
    assert_golden(
        (bag[0].sigmoid() + best.sigmoid()) / 2,
        expected["mean_of_streams"],
        tolerance,
        "mean of streams",
    )
    assert out.extras["critical"].tolist() == [expected["critical_index"]]
    for name, columns in (
        ("instance_logits", out.extras["instance_logits"].T),
        ("attention", out.attention.T),
        ("bag_embedding", out.extras["embeddings"][0]),
    ):
        assert len(columns) == len(expected[name])
        for c, column in enumerate(columns):
            assert_summary(column, expected[name][c], tolerance, f"{name} {c}")


@pytest.mark.parametrize("case", [case for case in CASES if "__c7_" in case])
def test_a_bag_without_any_class_has_the_loss_of_zeros_only(case: str) -> None:
    golden = goldens.read(case)
    golden["labels"]["multi_hot"] = [0.0] * 7
    expected, method, bags = made_of(golden, torch.float64)
    loss = method.loss(method(bags), bags, torch.ones(1, dtype=torch.float64), 0.0)
    streams = [expected["forward"][name] for name in ("bag_logits", "max_logits")]
    logits = torch.cat([torch.tensor(s, dtype=torch.float64).flatten() for s in streams])
    assert_golden(loss, F.softplus(logits).mean(), TOLERANCE[torch.float64], "loss")


@DTYPES
@pytest.mark.parametrize("case", CASES)
def test_probabilities_are_the_released_sigmoids(case: str, dtype: torch.dtype) -> None:
    expected, method, bags = read(case, dtype)
    released = torch.tensor(expected["forward"]["bag_probabilities"], dtype=torch.float64)
    released = (
        torch.cat([1 - released, released], 1) if method.none_class else released / released.sum()
    )
    assert_golden(method(bags).fine.softmax(1), released, TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("case", CASES)
def test_loss_terms_and_gradients_agree_with_the_released_code(
    case: str, dtype: torch.dtype
) -> None:
    expected, method, bags = read(case, dtype)
    out, weight = method(bags), torch.ones(1, dtype=dtype)
    for name, value in method.loss_terms(out, bags, weight).items():
        assert_golden(value, expected["losses"][name], TOLERANCE[dtype], name)
    parameters = dict(method.named_parameters())
    assert parameters.keys() == expected["gradients"].keys()
    for backward in (method.backward, partial(Method.backward, method)):  # by hand, and autograd
        method.zero_grad()
        assert_golden(
            backward(bags, weight, 0.0), expected["losses"]["total"], TOLERANCE[dtype], "loss"
        )
        goldens.assert_gradients(parameters, expected["gradients"], TOLERANCE[dtype])


def naive(method: DSMIL, x: torch.Tensor, label: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bag logits ``[C]`` and loss of one bag ``[N, D]``, class after class."""
    weights = {
        name.removeprefix("b_classifier."): value for name, value in method.named_parameters()
    }

    def queries(rows: torch.Tensor) -> torch.Tensor:
        if "q.weight" in weights:
            return rows @ weights["q.weight"].T + weights["q.bias"]
        hidden = (rows @ weights["q.0.weight"].T + weights["q.0.bias"]).clamp(min=0)
        return (hidden @ weights["q.2.weight"].T + weights["q.2.bias"]).tanh()

    values = (
        (x @ weights["v.1.weight"].T + weights["v.1.bias"]).clamp(min=0)
        if "v.1.weight" in weights
        else x
    )
    instances = x @ weights["i_classifier.fc.0.weight"].T + weights["i_classifier.fc.0.bias"]
    best = [
        max(range(len(x)), key=lambda i, c=c: instances[i, c].item())
        for c in range(instances.shape[1])
    ]
    embeddings = []
    for row in best:
        attention = torch.softmax(queries(x) @ queries(x[row]) / 128**0.5, dim=0)
        embeddings.append((attention[:, None] * values).sum(0))
    logits = F.conv1d(torch.stack(embeddings)[None], weights["fcc.weight"], weights["fcc.bias"])[
        0, :, 0
    ]
    loss = x.new_zeros(())
    for c, row in enumerate(best):
        for logit in (logits[c], instances[row, c]):
            present = c == label - method.none_class
            share = (
                method.positive_weight * logit.sigmoid().log()
                if present
                else (1 - logit.sigmoid()).log()
            )
            loss = loss - 0.5 * share / len(best)
    return logits, loss


@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_a_weighted_batch_equals_one_bag_after_the_other(params: dict[str, Any]) -> None:
    method, bags = build(**params), random_batch(SIZES, 12, 7, dtype=torch.float64)
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
    pairs = [
        naive(method, x, int(y))
        for x, y in zip(bags.features.split(SIZES), bags.labels, strict=True)
    ]
    alone = torch.autograd.grad(
        sum(w * loss for w, (_, loss) in zip(weight, pairs, strict=True)) / 3.5, leaves(method)
    )
    out = method(bags)
    together = torch.autograd.grad(method.loss(out, bags, weight, 0.0), leaves(method))
    torch.testing.assert_close(
        out.extras["bag_logits"], torch.stack([logits for logits, _ in pairs])
    )
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("params", VARIANTS, ids=str)
@pytest.mark.parametrize("block", [2, 4, 100])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_bag_by_itself_has_the_gradients_that_autograd_finds(
    params: dict[str, Any], block: int, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_ROWS", block)
    method, bags = build(**params), random_batch((9,), 12, 7, dtype=torch.float64)
    found = []
    for backward in (method.backward, partial(Method.backward, method)):
        method.zero_grad()
        loss = backward(bags, torch.tensor([weight], dtype=torch.float64), 0.0)
        found.append((loss, *(parameter.grad for parameter in leaves(method))))
    torch.testing.assert_close(*found)


def leaves(method: DSMIL) -> tuple[torch.nn.Parameter, ...]:
    return tuple(method.parameters())


def test_without_an_output_of_its_own_the_first_class_means_that_all_others_are_low() -> None:
    method, bags = build(none_class=True), random_batch(SIZES, 12, 7, dtype=torch.float64)
    out = method(bags)
    present = out.extras["bag_logits"].sigmoid()
    scores = torch.cat([1 - present.max(1, keepdim=True).values, present], dim=1)
    assert present.shape == (4, 6)
    torch.testing.assert_close(out.fine.softmax(1), scores / scores.sum(1, keepdim=True))


def test_the_first_of_equal_instances_is_the_critical_one() -> None:
    row = torch.ones(1, 12, dtype=torch.float64)
    bags = BagBatch.pack(
        torch.cat([-row, row, row, row, row, -row]), torch.tensor([4, 2]), torch.tensor([0, 1])
    )
    method = build()
    rises = (method(bags).extras["instance_logits"][1] > method(bags).extras["instance_logits"][0])[
        None
    ]
    assert rises.any()
    expected = torch.where(rises, torch.tensor([[1], [4]]), torch.tensor([[0], [5]]))
    assert torch.equal(method(bags).extras["critical"], expected)


def test_dropout_is_in_the_value_map_and_nowhere_else() -> None:
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    for passing_v in (False, True):
        method = build(passing_v=passing_v, dropout=0.5)
        quiet = method(bags)
        with seeds.torch_seeded("test", "dropout"):
            training = method.train()(bags)
        assert torch.equal(quiet.attention, training.attention)
        assert torch.equal(quiet.fine, training.fine) is not passing_v


@pytest.mark.parametrize("params", VARIANTS, ids=str)
@pytest.mark.parametrize("sizes", [SIZES, [17]], ids=str)
def test_it_runs_stacked(sizes: list[int], params: dict[str, Any]) -> None:
    methods = [build(**params) for _ in range(3)]
    for k, method in enumerate(methods):
        for parameter in leaves(method):
            parameter.data.add_(
                0.1 * k * torch.sin(torch.arange(parameter.numel()).double()).view_as(parameter)
            )
    bags = random_batch(sizes, 12, 7, dtype=torch.float64)
    weight = torch.arange(3 * len(sizes)).reshape(3, -1).double()

    def loss(parameters: dict[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        return methods[0].loss(functional_call(methods[0], parameters, (bags,)), bags, weight, 0.0)

    stacked = vmap(grad(loss))(stack_module_state(methods)[0], weight)
    for k, method in enumerate(methods):
        alone = torch.autograd.grad(method.loss(method(bags), bags, weight[k], 0.0), leaves(method))
        torch.testing.assert_close(tuple(g[k] for g in stacked.values()), alone)


def test_weights_start_orthogonal_and_biases_at_zero() -> None:
    method = DSMIL(1024, flat(7))
    for name, parameter in method.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        else:
            rows = parameter.flatten(1)
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)


def test_the_other_name_of_the_instance_classifier_is_taken_too() -> None:
    released = goldens.official_state(goldens.read("dsmil__c2_n7"))
    backbone = {
        name.replace("i_classifier.fc.0.", "i_classifier.fc."): value
        for name, value in released.items()
    }
    assert backbone.keys() != released.keys()
    method = DSMIL(1024, flat(2))
    method.load_official_state(backbone)
    assert torch.equal(method.i_classifier.fc[0].weight, released["i_classifier.fc.0.weight"])


def test_a_checkpoint_with_one_output_asks_for_the_none_class() -> None:
    released = goldens.official_state(goldens.read("dsmil__c1_n7"))
    with pytest.raises(
        InputError,
        match=r"i_classifier.fc.0.weight has the shape \(1, 1024\), expected \(2, 1024\)",
    ):
        DSMIL(1024, flat(2)).load_official_state(released)
    DSMIL(1024, flat(2), none_class=True).load_official_state(released)


def test_it_has_as_many_parameters_as_the_released_model() -> None:
    assert sum(p.numel() for p in DSMIL(1024, flat(7)).parameters()) == 205_070
