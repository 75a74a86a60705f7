"""The contract of a method as checks that run: for ``mil-bench check NAME`` and for a plugin's own tests.

    import pytest
    from mil_bench.methods.conformance import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_it_keeps_the_contract(check):
        check(MyMethod)

A check raises ``AssertionError`` with the reason. Each breaks for one kind of fault: a method that
cannot be built at all fails ``builds``, and the others say so.
"""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mil_bench import seeds
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods.conformance.bags import (
    HIERARCHY,
    SIZES,
    WIDTH,
    build,
    learnable_bags,
    random_bags,
)
from mil_bench.methods.method import Method, Output
from mil_bench.methods.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.bags.batch import BagBatch

_STEPS = 120  # of training on toy bags; slow starters such as DSMIL need more than forty
_CLOSE = 1e-9  # relative and absolute, float64: rounding of reordered sums, nothing more


@dataclass(frozen=True)
class Check:
    """One clause of the contract. Calling it with a method class raises ``AssertionError`` if the clause is broken."""

    name: str
    clause: str
    run: Callable[[type[Method]], None]

    def __call__(self, method: type[Method]) -> None:
        """Run the check."""
        self.run(method)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class CheckResult:
    """What a check said of a method; ``reason`` is empty when it passed."""

    check: Check
    reason: str


def check_method(method: type[Method]) -> list[CheckResult]:
    """Run all checks; none stops the others."""
    return [CheckResult(check, _reason(check, method)) for check in CHECKS]


def _reason(check: Check, method: type[Method]) -> str:
    try:
        check(method)
    except AssertionError as error:
        return str(error) or "failed"
    except Exception as error:  # a method under test may throw anything
        return f"{type(error).__name__}: {error}"
    return ""


def _assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    off = (found - expected).abs().max().item() if found.numel() else 0.0
    close = torch.allclose(found, expected, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
    assert close, f"{what}: off by {off:.1e}"


def _assert_same_output(found: Output, expected: Output, what: str) -> None:
    _assert_close(found.fine, expected.fine, what)
    if expected.coarse is not None:
        assert found.coarse is not None, f"{what}: the coarse logits are gone"
        _assert_close(found.coarse, expected.coarse, what)


def _gradients(
    method: Method, bags: BagBatch, weight: Tensor, progress: float
) -> dict[str, Tensor]:
    """The loss and every parameter's gradient; 0 for parameters that take no part."""
    method.zero_grad()
    loss = method.loss(method(bags), bags, weight, progress)
    assert loss.ndim == 0, f"the loss has the shape {tuple(loss.shape)}, expected a scalar"
    loss.backward()
    return _held_gradients(method) | {"loss": loss.detach()}


def _held_gradients(method: Method) -> dict[str, Tensor]:
    return {
        n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for n, p in method.named_parameters()
    }


def _assert_same_gradients(
    found: dict[str, Tensor], expected: dict[str, Tensor], what: str
) -> None:
    for name in expected:
        _assert_close(found[name], expected[name], f"{what}, {name}")


def _builds(method: type[Method]) -> None:
    assert inspect.isclass(method), "it is not a class"
    assert issubclass(method, Method), "it is not a subclass of mil_bench.methods.Method"
    assert isinstance(getattr(method, "recipe", None), Recipe), "it has no recipe"
    parameters = list(inspect.signature(method).parameters.values())
    assert [p.name for p in parameters[:2]] == ["in_dim", "hierarchy"], (
        "its first parameters are not in_dim, hierarchy"
    )
    without = [p.name for p in parameters[2:] if p.default is inspect.Parameter.empty]
    assert not without, f"parameters without a default: {', '.join(without)}"
    built = pickle.loads(pickle.dumps(build(method)))
    assert built(random_bags()).fine is not None


def _search_ranges(method: type[Method]) -> None:
    recipe = {f.name: getattr(method.recipe, f.name) for f in fields(Recipe)}
    defaults = {n: p.default for n, p in inspect.signature(method).parameters.items()} | recipe
    for name, values in method.search_space.items():
        assert name in defaults, f"'{name}' is neither a parameter nor part of the recipe"
        assert defaults[name] in values, (
            f"the default of '{name}', {defaults[name]}, is outside its range"
        )


def _output(method: type[Method]) -> None:
    bags = random_bags()
    out = build(method)(bags)
    assert tuple(out.fine.shape) == (8, 7), (
        f"fine has the shape {tuple(out.fine.shape)}, expected (8, 7)"
    )
    assert out.fine.isfinite().all(), "fine is not finite"
    if out.coarse is not None:
        assert tuple(out.coarse.shape) == (8, 3), (
            f"coarse has the shape {tuple(out.coarse.shape)}, expected (8, 3)"
        )
        assert out.coarse.isfinite().all(), "coarse is not finite"
    if out.attention is not None:
        sums = torch.stack([part.sum(0) for part in out.attention.split(SIZES)])
        _assert_close(sums, torch.ones_like(sums), "attention does not sum to 1 over each bag")


def _bag_alone(method: type[Method]) -> None:
    built, bags = build(method), random_bags()
    together = built(bags)
    for b in range(bags.n_bags):
        alone = built(bags.select(torch.tensor([b])))
        coarse = None if together.coarse is None else together.coarse[b : b + 1]
        _assert_same_output(
            alone, Output(together.fine[b : b + 1], coarse), f"bag of {SIZES[b]} instances alone"
        )


def _bag_order(method: type[Method]) -> None:
    built, bags = build(method), random_bags()
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    weight = torch.linspace(0.1, 1.0, 8, dtype=torch.float64)
    turned = _gradients(built, bags.select(order), weight[order], 0.5)
    _assert_same_gradients(turned, _gradients(built, bags, weight, 0.5), "bags in another order")


def _instance_order(method: type[Method]) -> None:
    if method.order_matters:
        return
    bags = random_bags()
    turned = torch.cat([part.flip(0) for part in bags.features.split(SIZES)])
    built = build(method)
    found = built(replace(bags, features=turned))
    _assert_same_output(
        found, built(bags), "instances in another order (set order_matters if that is meant)"
    )


def _weight_zero(method: type[Method]) -> None:
    built, bags = build(method), random_bags()
    weight = torch.tensor([1, 0, 1, 0.5, 0, 0, 1, 1], dtype=torch.float64)
    kept = weight.nonzero()[:, 0]
    for progress in (0.0, 0.5, 1.0):
        with_others = _gradients(built, bags, weight, progress)
        without = _gradients(built, bags.select(kept), weight[kept], progress)
        _assert_same_gradients(
            with_others, without, f"bags of weight 0 have influence at progress {progress}"
        )


def _all_weights_zero(method: type[Method]) -> None:
    found = _gradients(build(method), random_bags(), torch.zeros(8, dtype=torch.float64), 0.5)
    assert found.pop("loss").isfinite(), "the loss is not finite"
    moved = [name for name, gradient in found.items() if gradient.any()]
    assert not moved, f"gradients are not 0: {', '.join(moved[:3])}"


def _own_gradients(method: type[Method]) -> None:
    built, bags = build(method).train(), random_bags()
    one = torch.ones(1, dtype=torch.float64)
    alone = [(bags.select(torch.tensor([b])), one) for b in range(bags.n_bags)]
    for part, weight in (
        (bags, torch.linspace(0.0, 1.0, 8, dtype=torch.float64)),
        *alone,
        (alone[0][0], 0 * one),
    ):
        with seeds.torch_seeded("conformance", "dropout"):
            expected = _gradients(built, part, weight, 0.5)
        built.zero_grad()
        for times in (1, 2):  # they add to what is there
            with seeds.torch_seeded("conformance", "dropout"):
                loss = built.backward(part, weight, 0.5)
            found = _held_gradients(built) | {"loss": times * loss}
            wanted = {name: times * value for name, value in expected.items()}
            _assert_same_gradients(
                found, wanted, f"backward of {part.n_bags} bags, against autograd"
            )


def _bag_sizes(method: type[Method]) -> None:
    with torch.no_grad():
        bags = random_bags((50_000, 1))
        out = build(method).float()(replace(bags, features=bags.features.float()))
    assert out.fine.isfinite().all(), "bags of 50,000 and of 1 instance: fine is not finite"


def _widths_and_classes(method: type[Method]) -> None:
    for in_dim, classes in ((3, 2), (1024, 3), (64, 7)):
        flat = LabelHierarchy.flat([f"c{c}" for c in range(classes)])
        shape = tuple(
            build(method, flat, in_dim)(random_bags((4, 6, 1), in_dim, classes)).fine.shape
        )
        assert shape == (3, classes), (
            f"{in_dim} features, {classes} classes: fine has the shape {shape}"
        )


def _half_precision(method: type[Method]) -> None:
    bags = random_bags()
    rounded = replace(bags, features=(50 * bags.features).half().float())
    built = build(method).float()
    out = built(rounded)
    loss = built.loss(out, rounded, torch.ones(8), 0.5)
    assert out.fine.isfinite().all(), "fine is not finite on large half-precision features"
    assert loss.isfinite(), "the loss is not finite on large half-precision features"


def _same_seed(method: type[Method]) -> None:
    first, second = build(method).state_dict(), build(method).state_dict()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, f"weights differ under one seed: {', '.join(different[:3])}"


def _stacks(method: type[Method]) -> None:
    if not method.stackable:
        return
    bags, weights = random_bags(), torch.tensor([[1.0] * 8, [1, 0] * 4], dtype=torch.float64)
    folds = []
    for k in range(2):
        with seeds.torch_seeded("conformance", "stack", k):
            folds.append(method(WIDTH, HIERARCHY).double().eval())
    parameters, buffers = stack_module_state(folds)

    def loss_of(own: dict[str, Tensor], buffer: dict[str, Tensor], weight: Tensor) -> Tensor:
        return functional_call(_Loss(folds[0]), (_prefixed(own), _prefixed(buffer)), (bags, weight))

    with sdpa_kernel(
        SDPBackend.MATH
    ):  # as a stack of folds does: the CPU's own kernel cannot be mapped
        stacked = vmap(grad(loss_of), (0, 0, 0))(parameters, buffers, weights)
    for k in range(2):
        alone = _gradients(folds[k], bags, weights[k], 0.5)
        own = {name: stacked[name][k] for name in stacked}
        _assert_same_gradients(
            own, {n: alone[n] for n in own}, f"fold {k} in a stack (set stackable = False if so)"
        )


class _Loss(torch.nn.Module):
    """A method's loss as a module, so that ``functional_call`` reaches it."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, bags: BagBatch, weight: Tensor) -> Tensor:
        return self.method.loss(self.method(bags), bags, weight, 0.5)


def _prefixed(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"method.{name}": value for name, value in values.items()}


def _learns(method: type[Method]) -> None:
    """Some steps on bags of which half show two witnesses; then other bags."""
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
        right = (built.eval()(bags).fine.argmax(1) == bags.labels).float().mean().item()
    assert right > 0.7, f"{right:.0%} right on toy bags with two clear witnesses, chance is 50 %"


CHECKS = (
    Check("builds", "builds from sizes with defaults alone, and can be pickled", _builds),
    Check(
        "search-ranges", "every search range is a setting and contains its default", _search_ranges
    ),
    Check(
        "output", "logits of the right shapes, finite; attention sums to 1 over each bag", _output
    ),
    Check("bag-alone", "a bag alone gives what it gives in a batch", _bag_alone),
    Check("bag-order", "the order of bags does not matter", _bag_order),
    Check(
        "instance-order",
        "the order of instances does not matter, or the method says so",
        _instance_order,
    ),
    Check("weight-zero", "a bag of weight 0 influences neither loss nor gradient", _weight_zero),
    Check(
        "all-weights-zero", "all weights 0 give a finite loss and no gradient", _all_weights_zero
    ),
    Check(
        "gradients",
        "backward gives the loss, and adds the gradients, that autograd finds",
        _own_gradients,
    ),
    Check("bag-sizes", "bags of 1 and of 50,000 instances", _bag_sizes),
    Check(
        "widths-and-classes", "feature widths other than 1024, 2 to 7 classes", _widths_and_classes
    ),
    Check("half-precision", "half-precision features in, finite numbers out", _half_precision),
    Check("same-seed", "the same seed gives the same weights", _same_seed),
    Check("stacks", "runs under vmap over stacked parameters, or says it does not", _stacks),
    Check("learns", "beats chance on toy bags with known witnesses", _learns),
)
"""All checks, in the order they are told."""
