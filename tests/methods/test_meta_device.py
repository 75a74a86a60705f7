"""Where tensors are made: on torch's meta device, a tensor on the wrong device shows without a GPU.

The meta device has shapes and no numbers, and takes the way of a GPU through the code.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from mil_bench.baselines.simple.mean_mlp import MeanMLP
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mil_bench import registry
from mil_bench.bags.batch import BagBatch
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Output, Recipe
from mil_bench.training import fold_stack
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.stack import LoopedStack, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

META = torch.device("meta")
HIERARCHY = LabelHierarchy.from_groups({"a": ["a0", "a1", "a2"], "b": ["b0", "b1"]})
WIDTH = 10
TRAINED = [
    name
    for name in registry.methods.names()
    if isinstance(registry.methods.load(name).recipe, Recipe)
]
STACKABLE = [name for name in TRAINED if registry.methods.load(name).stackable]
SETTINGS: dict[str, dict[str, Any]] = {"simple-mil": {"hidden": 4}, "transformer": {"rows": 5}}
"""With these, a method that draws rows or channels does so on bags as small as these."""
ON_THE_CPU = {
    "simple-mil": {"forward"},  # draws channels there, so that a GPU sees the same ones
    "transformer": {
        "_drawn",  # draws rows there, so that a GPU sees the same ones
        "_tokens",  # sizes of bags: BagBatch.pack is faster if they come from the CPU
    },
}
"""Functions of methods that make a tensor on the CPU, each with its reason."""
TRANSFERS = {"aten._to_copy", "aten.copy_"}
SEPARATE = "transformer"  # evaluates in steps whose number depends on its attention


def bags_of(sizes: Sequence[int]) -> BagBatch:
    n, b = sum(sizes), len(sizes)
    return BagBatch.pack(
        torch.empty(n, WIDTH, device=META),
        torch.tensor(sizes),
        torch.empty(b, dtype=torch.int64, device=META),
        torch.empty(n, 2, device=META),
        torch.empty(n, dtype=torch.int64, device=META),
    )


class Watch(TorchDispatchMode):
    """Notes every operation that a judge of its tensors does not accept, by function."""

    def __init__(self, is_wrong: Callable[[list[Tensor], list[Tensor]], bool]) -> None:
        super().__init__()
        self._is_wrong = is_wrong
        self.found: dict[str, str] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = operation(*args, **(kwargs or {}))
        name = str(operation).rpartition(".")[0]
        if name not in TRANSFERS and self._is_wrong(_tensors((args, kwargs)), _tensors(out)):
            frames = [f for f in traceback.extract_stack()[:-1] if _is_ours(f.filename)]
            self.found[frames[-1].name] = f"{name} in line {frames[-1].lineno}"
        return out


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _is_ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(Path(__file__).parents[2]) and "site-packages" not in path.parts


def made_on_the_cpu(given: list[Tensor], out: list[Tensor]) -> bool:
    """Whether the result is on the CPU."""
    return any(value.device != META for value in out)


def mixed(given: list[Tensor], out: list[Tensor]) -> bool:
    """Whether tensors of two devices meet; numbers, which are tensors without axes, may."""
    return len({value.device for value in given if value.ndim}) > 1


@contextmanager
def built(name: str) -> Iterator[list[Method]]:
    method = registry.methods.load(name)
    yield [method(WIDTH, HIERARCHY, **SETTINGS.get(name, {})).to(META) for _ in range(2)]


@pytest.mark.parametrize("sizes", [(9,), (9, 30, 17)], ids=["one bag", "several bags"])
@pytest.mark.parametrize("name", TRAINED)
def test_no_tensor_is_made_on_the_cpu_in_a_step(name: str, sizes: tuple[int, ...]) -> None:
    bags, weight = bags_of(sizes), torch.ones(len(sizes), device=META)
    with built(name) as (first, second), Watch(made_on_the_cpu) as watch:
        loss = first.train().training_loss(bags, weight, 0.3)
        loss.backward()
        assert loss.device == second.train().backward(bags, weight, 0.3).device == META
        assert all(p.grad is None or p.grad.device == META for p in second.parameters())
        if name != SEPARATE:
            assert first.eval()(bags).fine.device == META
    assert watch.found.keys() == ON_THE_CPU.get(name, set()), watch.found


@pytest.mark.parametrize("name", TRAINED)
def test_devices_do_not_mix_where_folds_are_trained_one_by_one(name: str) -> None:
    bags, weight = bags_of((9, 30, 17)), torch.ones(2, 3)
    recipe = registry.methods.load(name).recipe
    with built(name) as methods, Watch(mixed) as watch:
        stack = LoopedStack(methods, recipe, [("fold", 0), ("fold", 1)])
        losses = stack.train([Step(bags, weight, number) for number in range(3)], 0.3)
        stack.keep(0)
        stack.restore()
    assert losses.device == META
    assert not watch.found


@pytest.mark.parametrize("name", STACKABLE)
def test_devices_do_not_mix_where_folds_are_trained_as_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which buffers differ, and the trial before the first step, depend on numbers.
    monkeypatch.setattr(fold_stack, "_different_buffers", lambda methods: {})
    bags, weight = bags_of((9, 30, 17)), torch.tensor([[1.0, 1, 1], [0, 0, 0]])
    recipe = registry.methods.load(name).recipe
    with built(name) as methods, Watch(mixed) as watch:
        stack = FoldStack(methods, recipe, [("fold", 0), ("fold", 1)])
        stack._untried = ()
        for folds in (torch.ones(2, 3), weight):
            losses = stack.train([Step(bags, folds, number) for number in range(3)], 0.3)
        stack.keep(0)
        stack.restore()
    assert losses.device == META
    assert not watch.found


class Misplaced(MeanMLP):
    """Makes a tensor where no device is given."""

    def forward(self, bags: BagBatch) -> Output:
        out = super().forward(bags)
        return out._replace(fine=out.fine + torch.ones(out.fine.shape).to(out.fine))


def test_a_method_that_makes_a_tensor_on_the_cpu_is_found() -> None:
    bags = bags_of((9, 30))
    with Watch(made_on_the_cpu) as watch:
        Misplaced(WIDTH, HIERARCHY).to(META)(bags)
    assert "forward" in watch.found
    with Watch(mixed) as watch, pytest.raises(RuntimeError):
        torch.ones(3) + torch.ones(3, device=META)
    with Watch(mixed) as watch:
        bags.labels[torch.zeros(2, dtype=torch.int64)]
    assert watch.found
