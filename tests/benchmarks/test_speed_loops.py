"""The plain loops of the training benchmark compute our losses and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import slow
from mil_bench.benchmarks.speed.race.cells import HIERARCHY
from mil_bench.benchmarks.speed.race.core_models import WIDTH
from mil_bench.benchmarks.speed.race.loops import LOOPS
from torch import Tensor, nn

from mil_bench import registry, seeds
from mil_bench.bags.batch import BagBatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.methods import Method

# The loops' names of parameters, by the beginnings of ours.
NAMES: Mapping[str, Mapping[str, str]] = {
    "abmil": {
        "embed.": "embed.",
        "attention_v.0": "attention.0",
        "attention_w": "attention.2",
        "cl": "cl",
    },
    "clam-sb": {
        "attention_net.0": "net.0",
        "attention_net.3.attention_": "net.3.",
        "classifiers": "classifiers",
        "instance": "instance",
    },
    "dsmil": {"i_classifier.fc.0": "i", "b_classifier.q": "q", "b_classifier.fcc": "fcc"},
    "transmil": {
        "_fc1": "fc1",
        "cls": "cls",
        "layer1.attn": "layer1.attention",
        "layer2.attn": "layer2.attention",
        "layer1.norm": "layer1.norm",
        "layer2.norm": "layer2.norm",
        "pos_layer.proj.": "convolutions.0.",
        "pos_layer.proj1.": "convolutions.1.",
        "pos_layer.proj2.": "convolutions.2.",
        "norm": "norm",
        "_fc2": "fc2",
    },
    "hmil": {
        "feature_extractor": "extract",
        "feature_reducer.0": "reduce",
        "coarse_attention.0.attention_": "coarse.",
        "fine_attention.0.attention_": "fine.",
        "coarse_classifier": "coarse_head",
        "fine_classifier": "fine_head",
    },
    "dtfd": {
        "dim_reduction.fc1": "embed",
        "attention.v": "gate.a.0",
        "attention.u": "gate.b.0",
        "attention.w": "gate.c",
        "classifier": "head",
        "att_classifier.attention.v": "second.gate.a.0",
        "att_classifier.attention.u": "second.gate.b.0",
        "att_classifier.attention.w": "second.gate.c",
        "att_classifier.classifier": "second.head",
    },
    "acmil": {
        "embed": "embed",
        "attention_v": "gate.a.0",
        "attention_u": "gate.b.0",
        "attention_w": "gate.c",
        "classifier": "head",
        **{f"branch_heads.{k}": f"branch_heads.{k}" for k in range(5)},
    },
    "ilra": {
        **{
            f"gab_blocks.{i}.{ours}{module}": f"blocks.{i}.{loop}{inner}"
            for i in range(2)
            for ours, loop in (("project_forward", "inward"), ("project_backward", "outward"))
            for module, inner in (
                (".", "."),
                (".in_", ".attention.in_"),
                (".out_", ".attention.out_"),
                (".gate", ".gate.0"),
            )
        },
        "gab_blocks.0.latent": "blocks.0.latent",
        "gab_blocks.1.latent": "blocks.1.latent",
        "pooling.S": "query",
        "pooling.mha": "pooling",
        "pooling.mha.in_": "pooling.attention.in_",
        "pooling.mha.out_": "pooling.attention.out_",
        "classifier": "fc",
    },
    "wikg": {
        "embed": "embed.0",
        "head": "head",
        "tail": "tail",
        "update.0": "linear1",
        "update.1": "linear2",
        "norm": "norm",
        "classifier": "fc",
    },
    "rrt": {
        "embed": "embed",
        "layers.0.norm": "norm1",
        "layers.0.attn.attn": "inside",
        "between.norm": "norm2",
        "between.attn.attn": "between",
        "between.attn.phi": "phi",
        "norm": "norm",
        "pool_a.0": "pool.0",
        "pool_c": "pool.2",
        "classifier": "fc",
    },
    "transformer": {
        "class_token": "class_token",
        "project_features": "embed",
        **{
            f"transformer.layers.{i}.{ours}": f"layers.{i}.{loop}"
            for i in range(2)
            for ours, loop in (("0.norm", "norm"), ("0.mhsa", "attention"), ("1", "feed_forward"))
        },
        "transformer.norm": "norm",
        "mlp_head.0": "fc",
    },
    "simple-mil": {"V": "v", "U": "u", "w": "w", "cls": "head"},
}
CORE = ("abmil", "clam-sb", "dsmil", "transmil", "hmil")
NEWER = ("dtfd", "acmil", "ilra", "wikg", "rrt", "transformer", "simple-mil")
SIZES = (600, 70, 7)  # more than the Transformer's 512, than RRT's 64 regions, and fewer


def theirs(name: str, names: Mapping[str, str]) -> str:
    prefix = max((p for p in names if name.startswith(p)), key=len)
    return names[prefix] + name.removeprefix(prefix)


def named_as_theirs(name: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters, or their gradients, by the loop's names."""
    parts: dict[str, Tensor] = {}
    for n, value in values.items():
        if name == "acmil" and n.startswith("branch_"):  # ours holds the heads in one tensor
            kind = n.removeprefix("branch_")
            parts |= {f"branch_heads.{k}.{kind}": head for k, head in enumerate(value)}
        else:
            parts[n] = value
    return {theirs(n, NAMES[name]): value for n, value in parts.items()}


def contestants(name: str) -> tuple[Method, Any]:
    """Ours and the loop's model with the same weights, in evaluation mode."""
    ours = registry.methods.load(name)(WIDTH, HIERARCHY).double().eval()
    loop = LOOPS[name].build(HIERARCHY.parent).double().eval()
    with torch.no_grad():
        for value in ours.parameters():
            if value.ndim == 1:  # so that no bias or norm is at a neutral value
                value += 0.1 * torch.randn_like(value)
    state = named_as_theirs(name, dict(ours.named_parameters()))
    loop.load_state_dict(state, strict=name != "hmil")
    return ours, loop


def loss_of(name: str, loop: Any, bags: BagBatch) -> Tensor:
    parts = bags.features.split(bags.lengths)
    if LOOPS[name].batch > 1:
        return loop.batch_loss(parts, bags.labels)
    pairs = zip(parts, bags.labels.split(1), strict=True)
    return sum(loop.loss(rows, label) for rows, label in pairs) / bags.n_bags


def packed(sizes: tuple[int, ...], labels: list[int]) -> BagBatch:
    rows = torch.randn(sum(sizes), WIDTH).double()
    return BagBatch.pack(rows, torch.tensor(sizes), torch.tensor(labels))


def test_every_loop_is_compared_with_ours() -> None:
    assert set(LOOPS) == {*CORE, *NEWER} == set(NAMES)


@pytest.mark.parametrize("name", slow([n for n in LOOPS if n != "simple-mil"], "transmil"))
def test_the_authors_loop_has_our_loss(name: str) -> None:
    with seeds.torch_seeded("loops", name):
        ours, loop = contestants(name)
        bags = packed((30, 50), [2, 4])
    found = ours.loss(ours(bags), bags, torch.ones(2).double(), 0.5)
    assert found.item() == pytest.approx(loss_of(name, loop, bags).item(), rel=1e-6)


def without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):  # of torch's attention and ours
            module.dropout = 0.0


def draw_alike(name: str, ours: Any, loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the loop the random numbers of ours if it draws them in another form."""
    if name == "dtfd":
        keys = torch.rand(sum(SIZES))
        orders = iter([part.argsort() for part in keys.split(SIZES)])

        def order(rows: int) -> Tensor:
            order = next(orders)
            assert len(order) == rows
            return torch.cat([order[g :: loop.pseudo_bags] for g in range(loop.pseudo_bags)])

        monkeypatch.setattr(torch, "rand", lambda *sizes, **_: keys)
        loop.order = order
    if name == "acmil":
        numbers = torch.rand(len(SIZES), ours.hidden_top, ours.branches)
        of_bags = iter(numbers)
        ours._draw = lambda bags: numbers
        loop.draw = lambda top, like: next(of_bags)[:top].T


@pytest.mark.parametrize("name", NEWER)
def test_a_step_of_the_loop_has_our_loss_and_gradients(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seeds.torch_seeded("gradients", name):
        ours, loop = contestants(name)
        bags = packed(SIZES, [2, 4, 0])
        for model in (ours, loop):
            without_dropout(model.train())
        draw_alike(name, ours, loop, monkeypatch)
    with seeds.torch_seeded("draws"):
        found = ours.backward(bags, torch.ones(len(SIZES)).double(), 0.5)
    with seeds.torch_seeded("draws"):
        expected = loss_of(name, loop, bags)
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-8)
    # Ours leaves out the biases of keys, which a softmax ignores.
    own = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in ours.named_parameters()}
    gradients = named_as_theirs(name, own)
    for n, parameter in loop.named_parameters():
        torch.testing.assert_close(
            gradients.pop(n), parameter.grad, rtol=1e-8, atol=1e-10, msg=lambda m, n=n: f"{n}: {m}"
        )
    assert not gradients


@pytest.mark.parametrize("name", NEWER)
def test_the_loop_draws_anew_in_every_step(name: str) -> None:
    with seeds.torch_seeded("draws", name):
        _, loop = contestants(name)
        bags = packed(SIZES, [2, 4, 0])
        loop.train()
        first, second = (loss_of(name, loop, bags).item() for _ in range(2))
    assert (first == second) == (name == "ilra")  # which has nothing random


def test_dtfd_is_cut_into_random_pseudo_bags_of_the_sizes_of_ours() -> None:
    loop = LOOPS["dtfd"].build(HIERARCHY.parent)
    drawn = loop.order(10)
    assert sorted(drawn.tolist()) == list(range(10))
    assert drawn.tolist() != list(range(10))
    assert [len(part) for part in drawn.tensor_split(4)] == [3, 3, 2, 2]
    assert [part.tolist() for part in loop.eval().order(6).tensor_split(4)] == [
        [0, 4],
        [1, 5],
        [2],
        [3],
    ]


def test_the_loop_clips_each_part_of_dtfd_by_its_own_norm() -> None:
    with seeds.torch_seeded("clip"):
        loop = LOOPS["dtfd"]
        model = loop.build(HIERARCHY.parent).double().eval()
        rows, label = 10 * torch.randn(50, WIDTH).double(), torch.tensor([2])
    assert len(list(model.children())) == len(registry.methods.load("dtfd").recipe.clip_modules)
    model.loss(rows, label).backward()
    expected, norms = {}, []
    for part, module in model.named_children():
        norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
        norms.append(norm.item())
        for n, p in module.named_parameters():
            expected[f"{part}.{n}"] = p.detach() - p.grad * min(1.0, 5 / (norm + 1e-6))
    assert min(norms) < 5 < max(norms)
    model.zero_grad()
    loop.epoch(model, torch.optim.SGD(model.parameters(), lr=1.0), 1, lambda i: (rows, label))
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[n], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NEWER)
def test_a_loop_has_the_optimizer_of_our_recipe(name: str) -> None:
    loop, recipe = LOOPS[name], registry.methods.load(name).recipe
    optimizer = loop.optimizer(loop.build(HIERARCHY.parent))
    assert type(optimizer).__name__.lower() == recipe.optimizer
    assert {group["lr"] for group in optimizer.param_groups} == {recipe.learning_rate}
    assert optimizer.param_groups[0]["weight_decay"] == recipe.weight_decay
    assert optimizer.param_groups[0]["betas"] == recipe.betas
    assert (loop.batch, loop.clip_norm) == (recipe.batch_size, recipe.clip_norm)
