"""Every registered method against every clause of the contract."""

from __future__ import annotations

import inspect
import pickle

import pytest
import torch
from conftest import random_batch

from mil_bench import registry, seeds
from mil_bench.data.batch import BagBatch
from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Recipe

SIZES = [5, 1, 9, 30, 2, 7, 16, 3]
RECIPE_FIELDS = set(inspect.signature(Recipe).parameters)


@pytest.fixture(params=registry.methods.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def build(name: str, hierarchy: LabelHierarchy, in_dim: int = 12, dtype: torch.dtype = torch.float64) -> Method:
    with seeds.torch_seeded("test", name):
        return registry.methods.load(name)(in_dim, hierarchy).to(dtype).eval()


def gradients(method: Method, bags: BagBatch, weight: torch.Tensor, progress: float = 0.5) -> dict[str, torch.Tensor]:
    method.zero_grad()
    loss = method.loss(method(bags), bags, weight, progress)
    loss.backward()
    found = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")


def test_it_follows_the_form(name: str, hierarchy: LabelHierarchy) -> None:
    method = registry.methods.load(name)
    parameters = inspect.signature(method).parameters
    assert issubclass(method, Method)
    assert list(parameters)[:2] == ["in_dim", "hierarchy"]
    assert all(p.default is not inspect.Parameter.empty for p in list(parameters.values())[2:])
    assert registry.methods.summary(name)


def test_every_search_range_is_a_setting_and_holds_its_default(name: str) -> None:
    method = registry.methods.load(name)
    assert method.search_space
    for setting, values in method.search_space.items():
        in_recipe = setting in RECIPE_FIELDS
        default = (
            getattr(method.recipe, setting) if in_recipe else inspect.signature(method).parameters[setting].default
        )
        assert default in values, setting


def test_it_returns_finite_logits_of_the_right_shape(name: str, hierarchy: LabelHierarchy) -> None:
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    out = build(name, hierarchy)(bags)
    assert out.fine.shape == (8, 7)
    assert out.coarse is None or out.coarse.shape == (8, 3)
    assert out.fine.isfinite().all()
    if out.attention is not None:
        sums = torch.stack([part.sum(0) for part in out.attention.split(SIZES)])
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_a_bag_in_a_batch_equals_the_bag_alone(name: str, hierarchy: LabelHierarchy) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        method = build(name, hierarchy, dtype=dtype)
        bags = random_batch(SIZES, 12, 7, dtype=dtype)
        together = method(bags)
        for b in range(bags.n_bags):
            alone = method(bags.select(torch.tensor([b])))
            torch.testing.assert_close(together.fine[b], alone.fine[0], rtol=tolerance, atol=tolerance)
            if together.coarse is not None:
                torch.testing.assert_close(together.coarse[b], alone.coarse[0], rtol=tolerance, atol=tolerance)


def test_the_order_of_bags_does_not_matter(name: str, hierarchy: LabelHierarchy) -> None:
    method = build(name, hierarchy)
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    weight = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_same(gradients(method, bags, weight), gradients(method, bags.select(order), weight[order]), 1e-10)


def test_the_order_of_instances_does_not_matter(name: str, hierarchy: LabelHierarchy) -> None:
    method = build(name, hierarchy)
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    parts = [part.flip(0) for part in bags.features.split(SIZES)]
    turned = BagBatch.pack(torch.cat(parts), bags.sizes, bags.labels)
    torch.testing.assert_close(method(bags).fine, method(turned).fine, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_a_bag_of_weight_zero_has_no_influence(name: str, hierarchy: LabelHierarchy, progress: float) -> None:
    method = build(name, hierarchy)
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    weight = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1], dtype=torch.float64)
    kept = weight.nonzero()[:, 0]
    with_others = gradients(method, bags, weight, progress)
    without = gradients(method, bags.select(kept), weight[kept], progress)
    assert_same(with_others, without, 1e-10)


def test_weights_count_in_proportion(name: str, hierarchy: LabelHierarchy) -> None:
    method = build(name, hierarchy)
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    weight = torch.ones(8, dtype=torch.float64)
    doubled = gradients(method, bags, 2 * weight, 0.0)
    assert_same(gradients(method, bags, weight, 0.0), doubled, 1e-10)


def test_all_weights_zero_give_a_finite_loss_and_no_gradient(name: str, hierarchy: LabelHierarchy) -> None:
    found = gradients(build(name, hierarchy), random_batch(SIZES, 12, 7, dtype=torch.float64), torch.zeros(8).double())
    assert found.pop("loss").isfinite()
    assert found
    assert all((gradient == 0).all() for gradient in found.values())


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("in_dim", [3, 1024])
def test_it_takes_other_widths_and_numbers_of_classes(name: str, classes: int, in_dim: int) -> None:
    flat = LabelHierarchy.flat([f"c{c}" for c in range(classes)])
    bags = random_batch([4, 6, 1], in_dim, classes)
    assert build(name, flat, in_dim, torch.float32)(bags).fine.shape == (3, classes)


def test_it_takes_a_bag_of_fifty_thousand_instances(name: str, hierarchy: LabelHierarchy) -> None:
    with torch.no_grad():
        assert build(name, hierarchy, 12, torch.float32)(random_batch([50_000, 1], 12, 7)).fine.isfinite().all()


def test_the_same_seed_gives_the_same_weights(name: str, hierarchy: LabelHierarchy) -> None:
    first, second = build(name, hierarchy).state_dict(), build(name, hierarchy).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_it_can_be_pickled(name: str, hierarchy: LabelHierarchy) -> None:
    method = build(name, hierarchy)
    bags = random_batch(SIZES, 12, 7, dtype=torch.float64)
    torch.testing.assert_close(pickle.loads(pickle.dumps(method))(bags).fine, method(bags).fine)
