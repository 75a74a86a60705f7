"""Executors: one from outside, what a task weighs, and heartbeats."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import metadata
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import registry
from mil_bench.errors import UnknownNameError
from mil_bench.planning.plan import Job
from mil_bench.registry import Registry
from mil_bench.running import pool
from mil_bench.running.heartbeats import Heartbeats, Sender, StoppedError
from mil_bench.running.task import Begun, Task, TaskMaker
from mil_bench.splits.plan import Fold, SplitPlan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

submitted: list[str] = []


@contextlib.contextmanager
def counting(workers: int) -> Iterator[Executor]:
    """An executor from outside: a pool that notes what it is given."""

    class Counting(ThreadPoolExecutor):
        def submit(self, call, /, *args, **more):
            submitted.append(args[0].job.label)
            return super().submit(call, *args, **more)

    with Counting(1) as pool:
        yield pool


def test_an_executor_from_outside_trains_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = metadata.EntryPoint("counting", f"{__name__}:counting", "mil_bench.executors")
    real = metadata.entry_points

    def offered(group: str) -> list[metadata.EntryPoint]:
        return [*real(group=group), *([point] if group == point.group else [])]

    monkeypatch.setattr(metadata, "entry_points", offered)
    monkeypatch.setattr(registry, "executors", Registry(point.group, "executor"))
    places = {"results": tmp_path / "results", "data": tmp_path / "data"}
    quiet = {"tracking": False, "progress": False}
    result = mil_bench.run(
        "mean-pool", SMALL_TWIN, folds=2, epochs=1, on="counting", **places, **quiet
    )
    assert result.failures == ()
    assert sorted(submitted) == ["lookup", "lookup", "mean-pool", "mean-pool"]


def test_an_unknown_executor_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no executor 'locale'. Did you mean local"):
        mil_bench.run("mean-pool", SMALL_TWIN, on="locale", results=tmp_path)


class Bags:
    """As much of a bag store as tasks need."""

    path = "data/ccc.h5"
    labels_path = None

    def __init__(self, slides: list[str]):
        self._position = {slide: i for i, slide in enumerate(slides)}

    def __len__(self) -> int:
        return len(self._position)

    def index_of(self, slides: tuple[str, ...]) -> np.ndarray:
        return np.array([self._position[slide] for slide in slides])


def test_a_task_of_33520_slides_is_small_and_holds_the_right_positions() -> None:
    slides = [f"NOR-2020-{number:07d}-A" for number in np.random.default_rng(0).permutation(33520)]
    tenths = pd.Series(slides).groupby(np.arange(len(slides)) % 10).apply(list)
    folds = tuple(
        Fold(
            tuple(s for j in range(10) if j not in (k, (k + 1) % 10) for s in tenths[j]),
            tuple(tenths[(k + 1) % 10]),
            tuple(tenths[k]),
        )
        for k in range(10)
    )
    bags = Bags(sorted(slides))
    splits = SplitPlan("paper", folds, "", (0,) * 10, (0,) * 10)
    job = Job("ccc", "d", "abmil", "1", {}, {"epochs": 1}, splits.digest, 0, "abmil")
    task = TaskMaker(splits, bags, "cpu").task(job, (3,))  # type: ignore[arg-type]
    assert len(pickle.dumps(task)) < 50_000
    part = pickle.loads(pickle.dumps(task)).folds[0]
    assert Task.positions(part.train).tolist() == sorted(bags.index_of(folds[3].train))
    assert part.val.tolist() == bags.index_of(folds[3].val).tolist()
    assert part.test.tolist() == bags.index_of(folds[3].test).tolist()
    assert Task.positions(task.ever_train).tolist() == list(range(33520))
    assert task.mean_train == 26816


def test_heartbeats_arrive_and_a_stopped_run_ends_its_trainings() -> None:
    values = []
    with Heartbeats(values.append) as heartbeats:
        threads = [threading.Thread(target=heartbeats.sender, args=(k,)) for k in range(5)]
        for thread in threads:
            thread.start()
            thread.join()
        assert sorted(values) == [0, 1, 2, 3, 4]
        heartbeats.stop()
        with pytest.raises(StoppedError):
            heartbeats.sender(5)


def test_a_task_trains_without_heartbeats_if_its_parent_cannot_be_reached(tmp_path: Path) -> None:
    Sender(str(tmp_path / "nobody-listens"), b"key")("an epoch")


def test_a_stranger_without_the_key_is_not_heard() -> None:
    values = []
    with Heartbeats(values.append) as heartbeats:
        with pytest.raises(Exception, match="digest"):
            Sender(heartbeats.sender.address, b"another key")("an epoch")
        heartbeats.sender("a second")
    assert values == ["a second"]


def test_a_watcher_that_fails_does_not_end_a_training() -> None:
    def fails(value: object) -> None:
        raise RuntimeError(value)

    with Heartbeats(fails) as heartbeats:
        heartbeats.sender("an epoch")
        heartbeats.sender("another")


def test_a_silent_training_in_the_process_of_the_run_does_not_end_the_run() -> None:
    watch = pool._Watch(lambda event: None, patience=0.0)
    watch.receive(Begun("key-0", os.getpid()))
    task = SimpleNamespace(key="key-0")
    assert not watch.ended(task)  # type: ignore[arg-type]
