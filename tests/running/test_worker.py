"""What a worker hands back beside the probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

from mil_bench.api import prepare
from mil_bench.bags.store import BagStore
from mil_bench.planning.request import RunRequest
from mil_bench.running.setup import Setup
from mil_bench.running.task import TaskMaker
from mil_bench.running.worker import train

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("group_name", ["patient", ""], ids=["known groups", "unknown groups"])
def test_predictions_name_the_group_of_every_slide_as_far_as_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_name: str
) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", tracking=False, progress=False)
    made = prepare(RunRequest(SMALL_TWIN, ("mean-pool",), folds=2, epochs=1), setup)

    class Opened(BagStore):
        def __init__(self, path: Path):
            super().__init__(path)
            self.group_name = group_name

    monkeypatch.setattr("mil_bench.running.worker.BagStore", Opened)
    group_of = dict(zip(made.bags.slides["slide"], made.bags.slides["group"], strict=True))
    for job in made.plan.jobs:  # the method and the yardstick
        found = train(TaskMaker(made.plan.splits, made.bags, "cpu").task(job, (1,)))[0].predictions
        expected = [group_of[slide] if group_name else "" for slide in found.slides]
        assert found.groups.tolist() == expected
        assert found.groups.dtype.kind == "U"
