"""An epoch of training queues all its steps on a GPU before it reads anything from there.

Two devices look at it. On a GPU, torch refuses what waits for it. Without one, the meta device has
no numbers to read, and what would wait on a GPU is noted from the operations: see ``Waits``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mil_bench import registry
from mil_bench.bags.feed import Feed
from mil_bench.methods import Recipe
from mil_bench.training import fold_stack, trainer
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.sampling import balanced
from mil_bench.training.stack import LoopedStack
from mil_bench.training.trainer import FoldRoles, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mil_bench.bags.store import BagStore
    from mil_bench.training.stack import Stack

META = torch.device("meta")
METHODS = {
    name: method
    for name in registry.methods.names()
    if isinstance((method := registry.methods.load(name)).recipe, Recipe)
}
STACKS = [
    pytest.param(name, kind, id=f"{name}-{kind.__name__}")
    for name, method in METHODS.items()
    for kind in (LoopedStack, FoldStack)
    if kind is LoopedStack or method.stackable
]
SETTINGS: dict[str, dict[str, Any]] = {"simple-mil": {"hidden": 4}, "transformer": {"rows": 5}}
"""With these, a method that draws rows or channels does so on bags as small as these."""
TRAIN = np.array([0, 1, 2]), np.array([2, 3])
"""Of two folds: some bags are in both, and some steps are of one fold alone."""


class Waits(TorchDispatchMode):
    """Notes copies for which the host would wait if the meta device were a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out, name = operation(*args, **(kwargs or {})), str(operation).rpartition(".")[0]
        devices = {value.device for value in tree_leaves((args, kwargs)) if _has_axes(value)}
        if name in ("aten._to_copy", "aten.copy_"):
            queued = (kwargs or {}).get("non_blocking") or args[2:] == (True,)
            waits = out.device == META and devices == {torch.device("cpu")} and not queued
            waits = waits or (len(devices) > 1 and not queued)
        else:  # an index on the CPU is copied first
            waits = len(devices) > 1
        if waits:
            self.found.append(name)
        return out


class Numbers(TorchFunctionMode):
    """Notes tensors made of numbers, and numbers assigned to one element or to indexed rows.

    A GPU gets them as a copy of a tensor of the CPU; on the meta device nothing shows it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if function in (torch.tensor, torch.as_tensor, Tensor.new_tensor) and out.device == META:
            self.found.append(f"{args[-1]} made a tensor")
        if function is Tensor.__setitem__ and not isinstance(args[2], Tensor):
            indexed = any(isinstance(part, Tensor) for part in tree_leaves(args[1]))
            if indexed or not args[0][args[1]].ndim:
                self.found.append(f"{args[2]} assigned at {args[1]}")
        return out


def _has_axes(value: Any) -> bool:
    """Whether a value is a tensor and no number; numbers are handed to a GPU with the kernel."""
    return isinstance(value, Tensor) and value.ndim > 0


@contextlib.contextmanager
def not_waited_for(device: torch.device) -> Iterator[None]:
    """Inside the block nothing waits for the device."""
    if device == META:
        with Waits() as waits, Numbers() as numbers:
            yield
        assert waits.found + numbers.found == []
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def stack_of(kind: Callable[..., Stack], name: str, store: BagStore, device: torch.device) -> Stack:
    method, settings = METHODS[name], SETTINGS.get(name, {})
    folds = [method(store.width, store.hierarchy, **settings).to(device) for _ in TRAIN]
    stack = kind(folds, method.recipe, [("waits", k) for k in range(len(TRAIN))])
    if isinstance(stack, FoldStack) and device == META:
        stack._untried = ()  # the trial before the first step depends on numbers
    return stack


def epoch(stack: Stack, name: str, store: BagStore, feed: Feed) -> None:
    """Every step of an epoch, and the read of its losses."""
    roles = [
        FoldRoles(train, np.array([8, 9]), worth=balanced(store.labels[train])) for train in TRAIN
    ]
    schedule = Schedule.of(TRAIN, METHODS[name].recipe, ("waits",))
    planned = list(trainer._planned(schedule, roles, np.ones(len(TRAIN), dtype=bool), 0))
    trainer._epoch(stack, feed, planned, 0.3)


def assert_only_the_losses_are_read(error: pytest.ExceptionInfo) -> None:
    """What was refused is the read at the end of the epoch, and nothing before it."""
    ours = [
        entry
        for entry in error.traceback
        if (path := Path(str(entry.path))).is_relative_to(Path(__file__).parents[2])
        and "site-packages" not in path.parts
        and path != Path(__file__)
    ]
    assert (ours[-1].name, "torch.cat(losses).cpu()" in str(ours[-1].statement)) == ("_epoch", True)


@pytest.mark.parametrize(("name", "kind"), STACKS)
def test_an_epoch_reads_its_losses_and_nothing_before(
    name: str, kind: Callable[..., Stack], small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which buffers differ depends on numbers. In the thread that reads ahead nothing is noted.
    monkeypatch.setattr(fold_stack, "_different_buffers", lambda methods: {})
    monkeypatch.setattr(Feed, "ahead", lambda feed, parts: map(feed.batch, parts))
    stack, feed = stack_of(kind, name, small_store, META), Feed(small_store, META)
    with not_waited_for(META), pytest.raises(NotImplementedError) as error:
        epoch(stack, name, small_store, feed)
    assert_only_the_losses_are_read(error)


@pytest.mark.gpu
@pytest.mark.parametrize("may_stay", [True, False], ids=["resident", "streamed"])
@pytest.mark.parametrize(("name", "kind"), STACKS)
def test_an_epoch_never_waits_for_a_gpu(
    name: str, kind: Callable[..., Stack], may_stay: bool, small_store: BagStore
) -> None:
    device = torch.device("cuda")
    stack = stack_of(kind, name, small_store, device)
    feed = Feed(small_store, device, may_stay=may_stay)
    epoch(stack, name, small_store, feed)  # tries whether folds can be stacked, and builds kernels
    with not_waited_for(device), pytest.raises(RuntimeError, match="synchronizing") as error:
        epoch(stack, name, small_store, feed)
    assert_only_the_losses_are_read(error)


@pytest.mark.parametrize(
    "waits",
    [
        lambda there, here: here.to(META),
        lambda there, here: there.copy_(here),
        lambda there, here: torch.tensor([1.0, 2.0], device=META),
        lambda there, here: there.new_tensor([1.0, 2.0]),
        lambda there, here: there[here.long()],
        lambda there, here: there.__setitem__(0, 1.0),
        lambda there, here: there.__setitem__(there.long(), 1.0),
    ],
    ids=["to", "copy_", "tensor", "new_tensor", "index", "element", "rows"],
)
def test_what_would_wait_for_a_gpu_is_found(waits: Callable[[Tensor, Tensor], object]) -> None:
    there, here = torch.ones(3, device=META), torch.ones(3)
    with pytest.raises(AssertionError), not_waited_for(META):
        waits(there, here)


@pytest.mark.parametrize(
    "read",
    [
        lambda there: there.sum().item(),
        lambda there: there.cpu(),
        lambda there: there.tolist(),
        lambda there: bool(there.any()),
        lambda there: there.nonzero(),
        lambda there: there[there > 0],
        lambda there: torch.repeat_interleave(there, there.long()),
    ],
    ids=["item", "cpu", "tolist", "bool", "nonzero", "mask", "repeat_interleave"],
)
def test_what_reads_from_the_meta_device_is_refused(read: Callable[[Tensor], object]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.ones(3, device=META))


def test_what_is_queued_on_a_gpu_is_no_wait() -> None:
    there, here = torch.ones(3, device=META), torch.ones(3)
    with not_waited_for(META):
        here.to(META, non_blocking=True)
        there[1:] = 0
        there.index_fill_(0, there.long(), 2.0)
        torch.where(there > 0, there, 0.0)
