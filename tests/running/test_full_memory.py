"""Folds that need more memory together than there is are trained in parts, which is said."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import SMALL_TWIN
from mil_bench.baselines.simple.mean_mlp import MeanMLP

from mil_bench import registry
from mil_bench.api import prepare
from mil_bench.planning.request import RunRequest
from mil_bench.registry import Registry
from mil_bench.running import worker
from mil_bench.running.display import ProgressDisplay
from mil_bench.running.setup import Setup
from mil_bench.running.task import TaskMaker
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.memory import in_parts_that_fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mil_bench.running.task import Task

CPU, META = torch.device("cpu"), torch.device("meta")


def full() -> torch.OutOfMemoryError:
    """A new one each time: an error keeps everything that its traceback refers to."""
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


class Large(MeanMLP):
    """Of which only so many fit into memory at the same time."""

    most = 2
    living: weakref.WeakSet = weakref.WeakSet()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        Large.living.add(self)
        if len(Large.living) > Large.most:
            raise full()


@pytest.fixture
def task_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Task]:
    monkeypatch.setattr(registry, "methods", Registry("mil_bench.methods", "method"))
    registry.methods.add("large", Large)
    setup = Setup(tmp_path / "results", tmp_path / "data", tracking=False, progress=False)

    def make(method: str) -> Task:
        made = prepare(RunRequest(SMALL_TWIN, (method,), folds=4, epochs=2), setup)
        return TaskMaker(made.plan.splits, made.bags, "cpu").task(made.plan.jobs[0], range(4))

    gc.collect()
    return make


@pytest.mark.parametrize("is_stacked", [False, True], ids=["looped", "stacked"])
def test_folds_that_do_not_fit_together_are_trained_in_parts(
    task_of: Callable[[str], Task], monkeypatch: pytest.MonkeyPatch, is_stacked: bool
) -> None:
    if is_stacked:  # what a GPU uses, on the CPU
        monkeypatch.setattr(worker, "LoopedStack", FoldStack)
    task, events = task_of("large"), []
    parts = worker.train(task, events.append)
    assert [fold.fold for fold in parts] == [0, 1, 2, 3]
    assert [event.folds for event in events] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert {event.task for event in events} == {task.key}  # or patience would end the process
    said = "large: 4 folds together need more memory than there is; at most 2 are trained together"
    assert {event.note for event in events} == {said}
    monkeypatch.setattr(Large, "most", 100)
    if not is_stacked:  # whose dropout is drawn for the folds together
        for part, whole in zip(parts, worker.train(task), strict=True):
            assert (part.predictions.fine == whole.predictions.fine).all()


def test_the_user_reads_once_what_is_trained_together(
    task_of: Callable[[str], Task], capsys: pytest.CaptureFixture[str]
) -> None:
    display = ProgressDisplay()
    assert len(worker.attempt(task_of("large"), _to(display))) == 4
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count("at most 2 are trained together") == 1


def _to(display: ProgressDisplay) -> Callable[[Any], None]:
    return lambda event: display.on_epoch(event) if hasattr(event, "note") else None


def test_one_fold_that_does_not_fit_fails_with_advice(
    task_of: Callable[[str], Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Large, "most", 0)
    failure = worker.attempt(task_of("large"), lambda event: None)
    assert "CUDA out of memory. Tried to allocate 2.00 GiB" in failure.reason
    assert failure.reason.endswith("bags of fewer instances or --device cpu")
    assert "in __init__" in failure.traceback


def parts_of(
    fits: Callable[[int, bool], bool], folds: int = 10, device: torch.device = META
) -> tuple[list[tuple[int, bool]], list[str]]:
    """What is tried, number of folds and whether features may stay, and what is said."""
    tried: list[tuple[int, bool]] = []
    said: list[str] = []

    def train(part: Sequence[int], may_stay: bool) -> Sequence[int]:
        tried.append((len(part), may_stay))
        if not fits(len(part), may_stay):
            raise full()
        return part

    assert in_parts_that_fit(range(folds), train, device, said.append) == list(range(folds))
    return tried, said


def test_parts_are_of_nearly_equal_size_and_no_larger_than_what_fitted() -> None:
    tried, said = parts_of(lambda size, may_stay: size <= 4)
    assert [size for size, _ in tried] == [10, 5, 3, 3, 2, 2]
    assert len(said) == 2
    assert parts_of(lambda size, may_stay: True) == ([(10, True)], [])


def test_a_fold_alone_that_does_not_fit_with_all_features_has_them_streamed() -> None:
    tried, said = parts_of(lambda size, may_stay: not may_stay, folds=2)
    assert tried == [(2, True), (1, True), (1, False), (1, False)]
    assert said[-1].endswith("features are streamed")
    with pytest.raises(torch.OutOfMemoryError):  # a CPU's features are always streamed
        parts_of(lambda size, may_stay: not may_stay, folds=2, device=CPU)


@pytest.mark.parametrize(
    ("error", "is_split"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("shape '[3]' is invalid for input of size 4"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_only_errors_about_memory_split_a_task(error: Exception, is_split: bool) -> None:
    sizes = []

    def train(part: Sequence[int], may_stay: bool) -> Sequence[int]:
        sizes.append(len(part))
        if len(part) > 1:
            raise error
        return part

    if is_split:
        in_parts_that_fit([0, 1], train, CPU, print)
        assert sizes == [2, 1, 1]
    else:
        with pytest.raises(type(error)):
            in_parts_that_fit([0, 1], train, CPU, print)
