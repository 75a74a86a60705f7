"""CLAM against values measured on its authors' code, and against plain code for one bag."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import goldens
import pytest
import torch
import torch.nn.functional as F
from conftest import random_batch
from goldens import TOLERANCE, assert_golden, assert_summary, flat
from mil_bench.baselines.clam import _CLAM, CLAMMB, CLAMSB, smooth_top1_svm
from torch.func import functional_call, grad, stack_module_state, vmap

from mil_bench import seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.segments import attention_pool, extreme_rows
from mil_bench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mil_bench.methods import Output

CASES = goldens.cases("clam_sb") + goldens.cases("clam_mb")
SMALLER_THAN_K = [name for name in CASES if "instance_eval_error" in goldens.read(name)]
# Without an instance loss: the release refuses it, or was run with the bag loss alone.
BAG_LOSS_ALONE = [
    name for name in CASES if "instance" not in goldens.read(name)["results"]["float64"]
]
WITH_INSTANCES = [name for name in CASES if name not in BAG_LOSS_ALONE]
SIZES = [5, 1, 9, 30, 2, 7, 16, 3]

DEMO = "attention_net.module."  # what the shipped demo checkpoint says for "attention_net."

every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
both_branches = pytest.mark.parametrize("method", [CLAMSB, CLAMMB])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with seeds.torch_seeded("test", "clam"):
        yield


def read(name: str, dtype: torch.dtype, **changed: Any) -> tuple[dict, dict, _CLAM, BagBatch]:
    golden = goldens.read(name)
    asked = golden["settings"]
    same_name = ("dropout", "k_sample", "subtyping", "instance_loss", "bag_loss", "bag_weight")
    settings = (
        {key: asked[key] for key in same_name}
        | {"size": asked["size_arg"], "gated": asked["gate"]}
        | changed
    )
    method = {"clam_sb": CLAMSB, "clam_mb": CLAMMB}[golden["method"]]
    clam = method(asked["embed_dim"], flat(asked["n_classes"]), **settings)
    clam.load_official_state(goldens.official_state(golden))
    bags = goldens.bags_of(golden, dtype, [golden["labels"]["bag"]])
    return golden, goldens.results(golden, dtype), clam.to(dtype).eval(), bags


def total(clam: _CLAM, out: Output, bags: BagBatch) -> torch.Tensor:
    return clam.loss(out, bags, torch.ones(bags.n_bags, dtype=out.fine.dtype), 0.0)


def assert_gradients(clam: _CLAM, golden: dict, tolerance: float) -> None:
    """Recorded gradients by released name, which in plain attention depends on the dropout."""
    goldens.assert_gradients(dict(clam.named_parameters()), clam.from_official(golden), tolerance)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@both_branches
def test_released_names_of_plain_attention_fit_with_and_without_dropout(
    method: type[_CLAM], dropout: float
) -> None:
    clam = method(6, flat(3), gated=False, dropout=dropout)
    last = "attention_net.3.module.3." if dropout else "attention_net.3.module.2."
    released = {
        name.replace("attention_net.3.module.3.", last): value
        for name, value in clam.state_dict().items()
    }
    clam.load_official_state(released)
    assert clam.from_official(released).keys() == dict(clam.named_parameters()).keys()


def test_there_are_goldens_for_bags_of_all_sizes() -> None:
    assert len(CASES) == 38
    assert len(SMALLER_THAN_K) == 8


@every_dtype
@pytest.mark.parametrize("name", CASES)
def test_the_forward_pass_agrees_with_the_released_code(name: str, dtype: torch.dtype) -> None:
    _, expected, clam, bags = read(name, dtype)
    out, forward, tolerance = clam(bags), expected["forward"], TOLERANCE[dtype]
    assert_golden(out.fine, forward["logits"], tolerance, "logits")
    assert_golden(out.fine.softmax(1), forward["probabilities"], tolerance, "probabilities")
    assert out.fine.argmax(1).item() == forward["prediction"]
    pooled = attention_pool(out.attention, out.extras["embedded"], bags)[0]
    assert out.attention.shape[1] == len(forward["attention"]) == len(forward["attention_raw"])
    for column in range(out.attention.shape[1]):
        assert_summary(
            out.attention[:, column], forward["attention"][column], tolerance, "attention"
        )
        assert_summary(
            out.extras["scores"][:, column], forward["attention_raw"][column], tolerance, "scores"
        )
        assert_summary(pooled[column], forward["bag_embedding"][column], tolerance, "bag embedding")


@every_dtype
@pytest.mark.parametrize("name", WITH_INSTANCES)
def test_the_released_codes_instances_are_selected(name: str, dtype: torch.dtype) -> None:
    # The narrowest edge of a selection is 5e-7 of an attention weight (clam_mb__c7*_n600); float32
    # is off by 3e-9 there and swaps nothing, so no case needs an exception.
    golden, expected, clam, bags = read(name, dtype)
    out = clam(bags)
    rows, filled = extreme_rows(out.attention, bags, clam.k_sample)
    assert filled.all()
    for column, selected in enumerate(golden["selected_instances"]):
        assert rows[0, :, column].tolist() == selected["top"] + selected["bottom"]

    clusters = clam.clusters(out, bags)
    predicted = clam.instance_logits(out, clusters).argmax(-1)
    counted = clusters.counted[0].T  # classes ascending, and in each the places in their order
    assert clusters.targets[0].T[counted].tolist() == expected["instance"]["labels"]
    assert predicted[0].T[counted].tolist() == expected["instance"]["predictions"]


@every_dtype
@pytest.mark.parametrize("name", WITH_INSTANCES)
def test_losses_and_gradients_agree_with_the_released_code(name: str, dtype: torch.dtype) -> None:
    _, expected, clam, bags = read(name, dtype)
    out, tolerance = clam(bags), TOLERANCE[dtype]
    assert_golden(clam.bag_losses(out, bags)[0], expected["losses"]["bag"], tolerance, "bag")
    assert_golden(
        clam.instance_losses(out, bags)[0], expected["losses"]["instance"], tolerance, "instance"
    )
    loss = total(clam, out, bags)
    assert_golden(loss, expected["losses"]["total"], tolerance, "total")
    loss.backward()
    assert_gradients(clam, expected["gradients"], tolerance)


@every_dtype
@pytest.mark.parametrize("name", BAG_LOSS_ALONE)
def test_the_bag_loss_alone_agrees_also_of_bags_that_the_release_refuses(
    name: str, dtype: torch.dtype
) -> None:
    _, expected, clam, bags = read(name, dtype, bag_weight=1.0)
    loss = total(clam, clam(bags), bags)
    assert_golden(loss, expected["losses"]["total"], TOLERANCE[dtype])
    loss.backward()
    assert_gradients(clam, expected["gradients"], TOLERANCE[dtype])


def naive_svm(scores: list[float], label: int) -> float:
    shifted = [s + (j != label) - scores[label] for j, s in enumerate(scores)]
    second, first = sorted(scores)[-2:]
    return (
        max(shifted)
        if first - second >= math.log(1000)
        else math.log(sum(math.exp(z) for z in shifted))
    )


def naive_loss(loss: str, scores: torch.Tensor, label: int) -> float:
    return (
        naive_svm(scores.tolist(), label)
        if loss == "svm"
        else F.cross_entropy(scores, torch.tensor(label)).item()
    )


def naive_instance_loss(clam: _CLAM, bags: BagBatch, b: int) -> float:
    """One bag, row after row; k is the smaller of k_sample and the bag's size."""
    alone = bags.select(torch.tensor([b]))
    out, label = clam(alone), int(bags.labels[b])
    k = min(clam.k_sample, len(alone.features))
    terms = []
    for c, classifier in enumerate(clam.instance_classifiers):
        attention = out.attention[:, min(c, out.attention.shape[1] - 1)].tolist()
        ranked = sorted(range(len(attention)), key=lambda i: -attention[i])
        if c == label:
            chosen = [(i, 1) for i in ranked[:k]] + [(i, 0) for i in ranked[-k:]]
        elif clam.subtyping:
            chosen = [(i, 0) for i in ranked[:k]]
        else:
            continue
        losses = [
            naive_loss(clam.instance_loss, classifier(out.extras["embedded"][i]), t)
            for i, t in chosen
        ]
        terms.append(sum(losses) / len(losses))
    return sum(terms) / len(terms)


@both_branches
@pytest.mark.parametrize("subtyping", [False, True])
@pytest.mark.parametrize("loss", ["ce", "svm"])
@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_bags_of_any_size_together_equal_the_plain_computation_of_each(
    method: type[_CLAM], subtyping: bool, loss: str, gated: bool
) -> None:
    settings = {
        "subtyping": subtyping,
        "instance_loss": loss,
        "bag_loss": loss,
        "gated": gated,
        "size": "big",
    }
    clam = method(12, flat(7), **settings).double().eval()
    for parameter in clam.instance_classifiers.parameters():
        parameter.mul_(30)  # so that some rows reach the SVM loss's switch
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    out = clam(bags)
    instance = torch.tensor(
        [naive_instance_loss(clam, bags, b) for b in range(bags.n_bags)], dtype=torch.float64
    )
    bag = torch.tensor(
        [naive_loss(loss, out.fine[b], int(bags.labels[b])) for b in range(8)], dtype=torch.float64
    )
    torch.testing.assert_close(clam.instance_losses(out, bags), instance, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(clam.bag_losses(out, bags), bag, rtol=1e-12, atol=1e-12)
    weight = torch.rand(8, dtype=torch.float64)
    expected = (weight * (0.7 * bag + 0.3 * instance)).sum() / weight.sum()
    torch.testing.assert_close(clam.loss(out, bags, weight, 0.0), expected, rtol=1e-12, atol=1e-12)


def test_the_svm_loss_switches_to_the_maximum_where_the_best_score_is_far_ahead() -> None:
    gap = math.log(1000)
    rows = [
        [0.0, gap - 1e-9, -3.0],
        [0.0, gap, -3.0],
        [0.0, gap + 1, -3.0],
        [50.0, 0.0, 49.0],
        [1.0, 1.0, 1.0],
    ]
    scores = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    for label in range(3):
        found = smooth_top1_svm(scores, torch.full((5,), label))
        expected = torch.tensor([naive_svm(row, label) for row in rows], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(smooth_top1_svm(scores, torch.full((5,), 1)).sum(), scores)
    assert (gradient[1:3] == 0).all()  # right and far ahead: the maximum is the true class's own 0
    assert (gradient[0] != 0).all()


def test_equal_attention_is_told_apart_by_the_order_of_the_bag() -> None:
    bags = BagBatch.pack(torch.zeros(9, 1), torch.tensor([5, 4]), torch.tensor([0, 0]))
    scores = torch.tensor([0.0, 1, 0, 0, 0, 0.5, 0.5, 0.5, 0.5])[:, None]
    rows, filled = extreme_rows(scores, bags, 2)
    assert rows[..., 0].tolist() == [[1, 0, 4, 3], [5, 6, 8, 7]]
    assert filled.all()


def test_the_choice_of_instances_passes_no_gradient_to_the_attention() -> None:
    clam = CLAMMB(12, flat(7), subtyping=True).eval()
    bags = random_batch(SIZES, 12, 7)
    clam.instance_losses(clam(bags), bags).sum().backward()
    assert all(p.grad is None for p in clam.attention_net[3].parameters())
    assert clam.attention_net[0].weight.grad.any()


@both_branches
@pytest.mark.parametrize("subtyping", [False, True])
def test_stacked_folds_equal_each_fold_alone(method: type[_CLAM], subtyping: bool) -> None:
    folds = [
        method(12, flat(7), subtyping=subtyping, bag_loss="svm").double().eval() for _ in range(3)
    ]
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    weight = torch.rand(3, 8, dtype=torch.float64)

    class Step(torch.nn.Module):
        def __init__(self, clam: _CLAM):
            super().__init__()
            self.clam = clam

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return self.clam.loss(self.clam(bags), bags, weight, 0.0)

    steps = [Step(fold) for fold in folds]
    parameters, buffers = stack_module_state(steps)
    stacked = vmap(grad(lambda p, b, w: functional_call(steps[0], (p, b), (w,))))(
        parameters, buffers, weight
    )
    for k, step in enumerate(steps):
        step(weight[k]).backward()
        for name, parameter in step.named_parameters():
            torch.testing.assert_close(stacked[name][k], parameter.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "size", "count"),
    [  # small: of the released models; big: summed by hand from the layers' sizes
        (CLAMSB, "small", 798_486),
        (CLAMMB, "small", 800_028),
        (CLAMSB, "big", 929_942),
        (CLAMMB, "big", 932_252),
    ],
)
def test_it_has_as_many_parameters_as_the_released_model(
    method: type[_CLAM], size: str, count: int
) -> None:
    assert sum(p.numel() for p in method(1024, flat(7), size=size).parameters()) == count


@pytest.mark.parametrize("asked", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("gated", [False, True])
def test_any_dropout_is_a_quarter_in_the_attention(asked: float, gated: bool) -> None:
    clam = CLAMSB(12, flat(2), gated=gated, dropout=asked)
    attention = clam.attention_net[3]
    assert clam.attention_net[2].p == asked
    assert (attention.dropout if gated else attention.module[2].p) == (0.25 if asked else 0.0)


@both_branches
@pytest.mark.parametrize(
    ("gated", "theirs"),
    [
        (True, {"attention_net.": DEMO}),
        (False, {"attention_net.3.module.3.": "attention_net.3.module.2."}),
        (False, {"attention_net.": DEMO}),
        (False, {"attention_net.": DEMO, "attention_net.3.module.3.": f"{DEMO}3.module.2."}),
    ],
)
def test_it_takes_every_spelling_of_the_authors_checkpoints(
    method: type[_CLAM], gated: bool, theirs: dict[str, str]
) -> None:
    saved = method(12, flat(3), gated=gated)
    state = {}
    for name, value in saved.state_dict().items():
        ours = max((prefix for prefix in theirs if name.startswith(prefix)), key=len, default="")
        state[theirs.get(ours, "") + name.removeprefix(ours)] = value
    state["instance_loss_fn.labels"] = torch.arange(2)
    loaded = method(12, flat(3), gated=gated)
    loaded.load_official_state(state)
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    with pytest.raises(InputError, match="is missing"):
        method(12, flat(3), gated=not gated).load_official_state(state)


@pytest.mark.parametrize("setting", ["size", "instance_loss", "bag_loss"])
def test_an_unknown_setting_is_refused_with_those_it_knows(setting: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no {setting} 'medium'.*Known: "):
        CLAMSB(12, flat(2), **{setting: "medium"})
