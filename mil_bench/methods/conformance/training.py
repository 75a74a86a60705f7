"""What training needs: true gradients, folds that stack, and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mil_bench import seeds
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods.conformance.bags import (
    HIERARCHY,
    WIDTH,
    build,
    learnable_bags,
    random_bags,
)
from mil_bench.methods.conformance.comparing import (
    assert_same_gradients,
    loss_and_gradients,
    stored_gradients,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods.method import Method

_STEPS = 120  # of training; methods that start slowly, such as DSMIL, need more than forty


def gradients(method: type[Method]) -> None:
    """Gradients written by hand are those of the loss, with the same dropout."""
    built, bags = build(method).train(), random_bags()
    one = torch.ones(1, dtype=torch.float64)
    alone = [(bags.select(torch.tensor([b])), one) for b in range(bags.n_bags)]
    for part, weight in (
        (bags, torch.linspace(0.0, 1.0, 8, dtype=torch.float64)),
        *alone,
        (alone[0][0], 0 * one),
    ):
        with seeds.torch_seeded("conformance", "dropout"):
            expected = loss_and_gradients(built, part, weight, 0.5)
        built.zero_grad()
        for times in (1, 2):  # gradients add to those that are there
            with seeds.torch_seeded("conformance", "dropout"):
                loss = built.backward(part, weight, 0.5)
            actual = stored_gradients(built) | {"loss": times * loss}
            multiple = {name: times * value for name, value in expected.items()}
            what = f"backward of {part.n_bags} bags, compared with autograd"
            assert_same_gradients(actual, multiple, what)


def stacks(method: type[Method]) -> None:
    """On a GPU, all folds are computed as one, unless the class sets ``stackable = False``."""
    if not method.stackable:
        return
    bags, weights = random_bags(), torch.tensor([[1.0] * 8, [1, 0] * 4], dtype=torch.float64)
    folds = []
    for k in range(2):
        with seeds.torch_seeded("conformance", "stack", k):
            folds.append(method(WIDTH, HIERARCHY).double().eval())
    parameters, buffers = stack_module_state(folds)

    def loss_of(parameters: dict[str, Tensor], buffer: dict[str, Tensor], weight: Tensor) -> Tensor:
        state = (_prefixed(parameters), _prefixed(buffer))
        return functional_call(_Loss(folds[0]), state, (bags, weight))

    # As a stack of folds does, since the CPU's own attention kernel cannot be mapped.
    with sdpa_kernel(SDPBackend.MATH):
        stacked = vmap(grad(loss_of), (0, 0, 0))(parameters, buffers, weights)
    for k in range(2):
        alone = loss_and_gradients(folds[k], bags, weights[k], 0.5)
        mapped = {name: stacked[name][k] for name in stacked}
        expected = {name: alone[name] for name in mapped}
        what = f"fold {k} in a stack (set stackable = False if it cannot be stacked)"
        assert_same_gradients(mapped, expected, what)


class _Loss(torch.nn.Module):
    """A method's loss as a module, so that ``functional_call`` reaches it."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, bags: BagBatch, weight: Tensor) -> Tensor:
        return self.method.loss(self.method(bags), bags, weight, 0.5)


def _prefixed(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"method.{name}": value for name, value in values.items()}


def learns(method: type[Method]) -> None:
    """Some steps on bags of which half have two clear witnesses, then a test on other bags."""
    rng = seeds.generator("conformance", "toy")
    built = build(method, LabelHierarchy.flat(["without", "with"])).float().train()
    optimizer = torch.optim.Adam(built.parameters(), 2e-3)
    with seeds.torch_seeded("conformance", "dropout"):
        for step in range(_STEPS):
            bags = learnable_bags(8, rng)
            optimizer.zero_grad()
            built.loss(built(bags), bags, torch.ones(8), step / _STEPS).backward()
            optimizer.step()
    bags = learnable_bags(60, rng)
    with torch.no_grad():
        accuracy = (built.eval()(bags).fine.argmax(1) == bags.labels).float().mean().item()
    assert accuracy > 0.7, (
        f"accuracy {accuracy:.0%} on simple bags with two clear witnesses; chance is 50 %"
    )
