"""On a GPU, a fold of a stack gives what it gives alone; without a GPU, the tests run on the CPU.

Tolerances: in float32 a ten-thousandth of the loss, and of the largest gradient. Products in
bfloat16 have 8 bits: 3 % of the loss, and gradients whose direction has a cosine of 0.98 with that
in float32.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import slow, train_step
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mil_bench import devices, registry, seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Recipe
from mil_bench.training import fold_stack
from mil_bench.training.fold_stack import FoldStack

if TYPE_CHECKING:
    from collections.abc import Iterator

HIERARCHY = LabelHierarchy.from_groups({"a": ["a0", "a1", "a2"], "b": ["b0", "b1"]})
WIDTH, SIZES = 32, (5, 1, 40, 17, 2, 9)
WEIGHT = torch.tensor([[1.0] * 6, [1, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 0]])
TRAINED = [
    name
    for name in registry.methods.names()
    if isinstance(registry.methods.load(name).recipe, Recipe)
]
STACKABLE = [name for name in TRAINED if registry.methods.load(name).stackable]
EXACT, COARSE = 1e-4, 0.03


def bags_on(device: torch.device) -> BagBatch:
    rng = seeds.generator("gpu test")
    features = torch.from_numpy(rng.standard_normal((sum(SIZES), WIDTH)).astype(np.float32))
    shown = torch.from_numpy(rng.integers(-1, 5, sum(SIZES)))
    coords = torch.from_numpy(rng.integers(0, 9, (sum(SIZES), 2)).astype(np.float32))
    labels = torch.arange(len(SIZES)) % HIERARCHY.n_fine
    return BagBatch.pack(features, torch.tensor(SIZES), labels, coords, shown).to(device)


def folds_on(device: torch.device, name: str) -> list[Method]:
    """Three folds that draw no random numbers."""
    method = registry.methods.load(name)
    none = {"dropout": 0.0, "hidden_share": 0.0, "pseudo_bags": 1, "select": False}
    params = {n: value for n, value in none.items() if n in method.__init__.__annotations__}
    built = []
    for k in range(3):
        with seeds.torch_seeded("gpu test", "weights", k):
            built.append(method(WIDTH, HIERARCHY, **params).to(device))
    return built


class Computed(NamedTuple):
    """Losses and gradients of a step, on the CPU."""

    losses: Tensor  # [K]
    gradients: Tensor  # [K, P]


def alone(device: torch.device, name: str) -> Computed:
    """Of every fold by itself, in float32, on its own bags only."""
    bags, losses, gradients = bags_on(device), [], []
    for fold, weight in zip(folds_on(device, name), WEIGHT, strict=True):
        own = weight.nonzero()[:, 0]
        part = bags.select(own.to(device))
        loss = fold.train().training_loss(part, weight[own].to(device), 0.3)
        loss.backward()
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in fold.parameters()]
        gradients.append(torch.cat([part.flatten() for part in parts]).cpu())
        losses.append(loss.item())
    return Computed(torch.tensor(losses), torch.stack(gradients))


def stacked(device: torch.device, name: str) -> Computed:
    """Of all folds as one."""
    stack = FoldStack(folds_on(device, name), Recipe(1.0, epochs=1), [("f", k) for k in range(3)])
    seen: list[Tensor] = []
    stack._rule.step = lambda gradients, *_: seen.append(gradients.clone())
    losses = train_step(stack, bags_on(device), WEIGHT, 0.3, 0)
    assert not stack.why_looped
    assert losses.device.type == seen[0].device.type == device.type
    assert stack.forward(0, bags_on(device)).fine.dtype == torch.float32
    return Computed(losses.cpu(), seen[0].cpu())


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in float32 on every device."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(fold_stack, "_arithmetic", lambda device: sdpa_kernel(SDPBackend.MATH))


@pytest.fixture
def coarse(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, on every device."""

    @contextlib.contextmanager
    def both(device: torch.device) -> Iterator[None]:
        with devices.bfloat16_products(device), sdpa_kernel(SDPBackend.MATH):
            yield

    def in_float32(values: Tensor, *others: Any) -> Tensor:
        return layer_norm(values.float(), *others)

    layer_norm = torch.nn.functional.layer_norm
    if devices.is_cpu(device):
        monkeypatch.setattr(fold_stack, "_arithmetic", both)
        # Autocast does this on a GPU and not on a CPU.
        monkeypatch.setattr(torch.nn.functional, "layer_norm", in_float32)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", slow(STACKABLE, "transmil"))
def test_in_float32_a_fold_of_a_stack_is_the_fold_alone(name: str, device: torch.device) -> None:
    found, expected = stacked(device, name), alone(device, name)
    torch.testing.assert_close(found.losses, expected.losses, rtol=EXACT, atol=EXACT)
    for own, other in zip(found.gradients, expected.gradients, strict=True):
        assert (own - other).abs().max() <= EXACT * other.abs().max()


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("name", slow(STACKABLE, "transmil"))
def test_in_bfloat16_a_fold_of_a_stack_is_nearly_the_fold_alone(
    name: str, device: torch.device
) -> None:
    found, expected = stacked(device, name), alone(device, name)
    torch.testing.assert_close(found.losses, expected.losses, rtol=COARSE, atol=COARSE)
    cosines = torch.cosine_similarity(found.gradients, expected.gradients, dim=1)
    assert (cosines >= 0.98).all()
