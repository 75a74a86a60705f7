"""Settings that are misspelt or out of range are refused before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

from mil_bench.api import prepare
from mil_bench.cli import main
from mil_bench.errors import InputError
from mil_bench.methods import Recipe
from mil_bench.planning.request import RunRequest
from mil_bench.planning.rows import MethodRow
from mil_bench.running.setup import Setup

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = {
    "max-pool:level=embeding": "level is instance or embedding",
    "clam-sb:size=medium": "size is small or big",
    "clam-sb:bag_loss=cee": "There is no bag_loss 'cee'",
    "hmil:weighting=fix": "weighting is dynamic or fixed",
    "transmil:crop=middle": "crop is last or first",
    "abmil:dropout=1.5": "dropout is a number from 0 on and less than 1",
    "abmil:dropout=1": "dropout is a number from 0 on and less than 1",
    "clam-mb:dropout=-0.1": "dropout is a number from 0 on and less than 1",
    "dsmil:dropout=nan": "dropout is a number from 0 on and less than 1",
    "clam-sb:bag_weight=1.2": "bag_weight is a number from 0 to 1",
    "clam-sb:k_sample=0": "k_sample is a whole number from 1 on",
    "detector:top=-3": "top is a whole number from 1 on",
    "abmil:embed_dim=-5": "embed_dim is a whole number from 1 on",
    "abmil:embed_dim=0": "embed_dim is a whole number from 1 on",
    "mean-pool:embed_dim=1000000000000": "parameters need",
    "mean-pool:embed_dim=99999999999999999999999": "the method cannot be built: ",
    "transmil:dim=0": "dim is a whole number from 1 on",
    "hmil:temperature=0": "temperature is a number greater than 0",
    "hmil:temperature=inf": "temperature is a number greater than 0",
    "hmil:a=-1": "a is a number from 0 on",
    "dsmil:positive_weight=inf": "positive_weight is a number from 0 on",
    "abmil:epochs=0": "epochs is a whole number from 1 to 1,000,000",
    "abmil:epochs=2.5": "epochs takes a value of type int",
    "abmil:learning_rate=-1": "learning_rate is a finite number greater than 0",
    "abmil:learning_rate=nan": "learning_rate is a finite number greater than 0",
    "abmil:learning_rate=inf": "learning_rate is a finite number greater than 0",
    "abmil:batch_size=0": "batch_size is a whole number from 1 to 1,000,000",
    "abmil:batch_size=-4": "batch_size is a whole number from 1 to 1,000,000",
    "abmil:batch_size=10000000000000000000000": "batch_size is a whole number from 1 to 1,000,000",
    "abmil:patience=-1": "patience is none, or a whole number from 1 to 1,000,000",
    "abmil:weight_decay=-0.1": "weight_decay is a finite number from 0 on",
    "abmil:final_learning_rate=-1": "final_learning_rate is a finite number from 0 on",
    "abmil:gated=maybe": "gated takes a value of type bool",
    "abmil:optimizer=sgdd": "There is no optimizer 'sgdd'",
    "abmil:loss=ordinl": "There is no loss 'ordinl'",
    "abmil:loss=ordinal": "'loss=ordinal': the classes have no order",
}


@pytest.mark.parametrize("method", REFUSED)
def test_a_setting_that_makes_no_sense_is_refused(
    method: str, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path_factory.getbasetemp() / "data-of-settings"
    results = tmp_path_factory.mktemp("results")
    words = [
        "run",
        "--dataset",
        SMALL_TWIN,
        "--folds",
        "2",
        "--data",
        str(data),
        "--results",
        str(results),
    ]
    assert main([*words, "--no-tracking", "--methods", "mean-pool", method]) == 2
    shown = capsys.readouterr().err
    assert REFUSED[method] in shown
    assert "Traceback" not in shown
    assert not list(results.rglob("*.npz"))


@pytest.mark.parametrize(
    "row",
    [
        MethodRow("abmil", {"dropout": float("nan")}),
        MethodRow("abmil", {"embed_dim": 0}),
        MethodRow("abmil", {"embed_dim": True}),
        MethodRow("max-pool", {"level": None}),
        MethodRow("abmil", {"learning_rate": "fast"}),
        MethodRow("abmil", {"epochs": 2.0}),
        MethodRow("abmil", {"patience": "soon"}),
    ],
    ids=str,
)
def test_values_from_python_are_held_to_the_same(row: MethodRow, tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", tracking=False, progress=False)
    with pytest.raises(InputError, match=f"settings of {row.method}"):
        prepare(RunRequest(SMALL_TWIN, (row,), folds=2), setup)


def test_values_outside_the_search_range_that_make_sense_are_taken(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "results", tmp_path / "data", tracking=False, progress=False)
    rows = ("abmil:embed_dim=8,attention_dim=4,dropout=0.9", "clam-sb:dropout=0.1,bag_weight=0")
    rows = (*rows, "hmil:temperature=3,b=0")
    plan = prepare(RunRequest(SMALL_TWIN, rows, folds=2), setup).plan
    assert [job.label for job in plan.jobs if job.is_trained] == list(rows)


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate": 0},
        {"learning_rate": "1e-3"},
        {"learning_rate": True},
        {"epochs": 1.0},
        {"betas": (0.9, 1.0)},
        {"betas": (0.9,)},
        {"weight_decay": float("nan")},
        {"patience": 0},
    ],
    ids=str,
)
def test_a_recipe_is_held_to_its_ranges(fields: dict) -> None:
    with pytest.raises(InputError, match=f"'{next(iter(fields))}="):
        Recipe(**{"learning_rate": 1e-3, "epochs": 5, **fields})
