"""What a worker hands back beside the probabilities."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

from mil_bench.api import prepare
from mil_bench.bags.store import BagStore
from mil_bench.planning.request import RunRequest
from mil_bench.running.display import ProgressDisplay
from mil_bench.running.setup import Setup
from mil_bench.running.task import TaskMaker
from mil_bench.running.worker import train
from mil_bench.training.fold_stack import FoldStack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("group_name", ["patient", ""], ids=["known groups", "unknown groups"])
def test_predictions_name_the_group_of_every_slide_as_far_as_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_name: str
) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", tracking=False, progress=False)
    made = prepare(RunRequest(SMALL_TWIN, ("mean-pool",), folds=2, epochs=1), setup)

    class Opened(BagStore):
        def __init__(self, path: Path, labels: Path | None):
            super().__init__(path, labels)
            self.group_name = group_name

    monkeypatch.setattr("mil_bench.running.worker.BagStore", Opened)
    group_of = dict(zip(made.bags.slides["slide"], made.bags.slides["group"], strict=True))
    for job in made.plan.jobs:  # the method and the yardstick
        found = train(TaskMaker(made.plan.splits, made.bags, "cpu").task(job, (1,)))[0].predictions
        expected = [group_of[slide] if group_name else "" for slide in found.slides]
        assert found.groups.tolist() == expected
        assert found.groups.dtype.kind == "U"


PLUGIN = '''
import torch
from torch import nn
from mil_bench.bags.segments import segment_mean
from mil_bench.methods import Method, Output, Recipe


class MixesBags(Method):
    """Takes the mean logits of the batch from those of each bag."""

    recipe = Recipe(learning_rate=1e-3, epochs=2, batch_size=8)

    def __init__(self, in_dim, hierarchy):
        super().__init__(in_dim, hierarchy)
        self.classifier = nn.Linear(in_dim, hierarchy.n_fine)

    def forward(self, bags):
        fine = self.classifier(segment_mean(bags.features, bags))
        return Output(fine - fine.mean(0))
'''


def test_a_method_that_cannot_be_stacked_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mixes.py").write_text(PLUGIN)
    setup = Setup(tmp_path / "results", tmp_path / "data", tracking=False, progress=False)
    request = RunRequest(
        SMALL_TWIN, ("mixes-bags", "mean-pool"), folds=2, plugins=(tmp_path / "mixes.py",)
    )
    made = prepare(request, setup)
    # What a GPU uses, on the CPU.
    monkeypatch.setattr("mil_bench.running.worker.LoopedStack", FoldStack)
    maker = TaskMaker(made.plan.splits, made.bags, "cpu", request.plugins)
    display, events = ProgressDisplay(), []
    for job in made.plan.jobs[:2]:
        folds = train(
            maker.task(dataclasses.replace(job, recipe={**job.recipe, "epochs": 2}), (0, 1)),
            events.append,
        )
        assert len(folds) == 2
    for event in events:
        display.on_epoch(event)
    assert len(events) == 4
    shown = " ".join(capsys.readouterr().err.split())
    reason = "bags of weight 0 change its gradients in training"
    assert shown == f"mixes-bags is trained fold after fold: {reason}"
