"""Weights of trained folds: stored beside the predictions, and a model again from them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conftest import SMALL_TWIN

import mil_bench
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore
from mil_bench.errors import InputError, StorageError, UnknownNameError
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.models import trained_method

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, BagStore]:
    folder = tmp_path_factory.mktemp("ran")
    places = {"results": folder / "results", "data": folder / "data"}
    quiet = {"tracking": False, "progress": False, "on": "inline"}
    result = mil_bench.run(
        ["abmil", "hmil"], SMALL_TWIN, folds=2, epochs=3, seeds=[0, 4], **places, **quiet
    )
    return result, BagStore(next((folder / "data").rglob("*.h5")))


def test_a_model_from_its_weights_says_again_what_is_stored(
    ran: tuple[RunResult, BagStore],
) -> None:
    result, bags = ran
    feed = Feed(bags, torch.device("cpu"))
    for name in ("abmil", "hmil"):
        for trial in result.trained[name]:
            model = result.model(name, trial.seed, trial.fold)
            assert not model.training
            with torch.no_grad():
                logits = model(feed.batch(bags.index_of(tuple(trial.predictions.slides)))).fine
            assert np.allclose(
                logits.double().softmax(1).numpy(), trial.predictions.fine, atol=1e-6
            )


def test_every_seed_and_fold_has_weights_of_its_own(ran: tuple[RunResult, BagStore]) -> None:
    result, _ = ran
    found = [
        next(result.model("abmil", seed, fold).parameters()) for seed in (0, 4) for fold in (0, 1)
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    assert torch.equal(next(result.model("abmil").parameters()), found[0])


def test_what_is_not_there_is_named_with_what_is(ran: tuple[RunResult, BagStore]) -> None:
    result, _ = ran
    with pytest.raises(
        UnknownNameError, match=r"no method in this run 'abmill'. Did you mean abmil"
    ):
        result.model("abmill")
    with pytest.raises(UnknownNameError, match=r"no training seed '3'.*Known: 0, 4"):
        result.model("abmil", seed=3)
    with pytest.raises(InputError, match=r"fold 2 is not stored; stored are: 0, 1"):
        result.model("abmil", fold=2)
    with pytest.raises(InputError, match="lookup trains nothing"):
        result.model("lookup")


def test_weights_of_another_version_of_the_code_are_refused(
    ran: tuple[RunResult, BagStore],
) -> None:
    result, _ = ran
    store, job = result.store, result.plan.jobs[0]
    older = dataclasses.replace(job, method_version="0")
    assert store is not None
    other = ResultStore(store.root.with_name("older"))
    loaded = dataclasses.replace(store.load_fold(job, 0), weights=store.load_weights(job, 0))
    other.save_fold(older, loaded)
    with pytest.raises(
        InputError, match=r"it was trained by version 0 of abmil, and \d+ is installed"
    ):
        trained_method(other, older, 0, result.plan.hierarchy)


def test_weights_that_are_broken_are_named_and_leave_the_predictions_readable(
    ran: tuple[RunResult, BagStore], tmp_path: Path
) -> None:
    result, _ = ran
    assert result.store is not None
    store, job = ResultStore(tmp_path), result.plan.jobs[0]
    loaded = dataclasses.replace(
        result.store.load_fold(job, 0), weights=result.store.load_weights(job, 0)
    )
    store.save_fold(job, loaded)
    path = store.weights_path(job, 0)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        StorageError,
        match=r"fold-00.weights.npz cannot be used: its content is not what was stored",
    ):
        store.load_weights(job, 0)
    assert store.load_fold(job, 0).weights is None


def test_the_weights_are_those_of_the_epoch_that_was_kept(small_store: BagStore) -> None:
    from mil_bench.methods import Recipe
    from mil_bench.methods.checkpoints import build_method
    from mil_bench.training.stack import LoopedStack

    method = build_method("abmil", small_store.width, small_store.hierarchy)
    stack = LoopedStack([method], Recipe(learning_rate=0.1, epochs=1), [("a", 0)])
    before = {name: value.clone() for name, value in stack.state(0).items()}
    stack.keep(0)
    with torch.no_grad():
        next(method.parameters()).add_(1)
    stack.restore()
    assert all(torch.equal(value, before[name]) for name, value in stack.state(0).items())
