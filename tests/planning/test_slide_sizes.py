"""Methods that do not accept bags of every size are refused before anything is trained."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import SMALL_TWIN
from mil_bench.baselines.abmil import ABMIL

from mil_bench.cli import main
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.errors import InputError, PluginError
from mil_bench.planning.make import make_plan
from mil_bench.planning.request import RunRequest
from mil_bench.planning.slide_sizes import require_sizes

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.bags.store import BagStore
    from mil_bench.planning.plan import RunPlan


SPEC = find_dataset(SMALL_TWIN)


def plan(store: BagStore, *methods: str) -> RunPlan:
    return make_plan(RunRequest(SMALL_TWIN, methods, folds=2), SPEC, store)


def limited(monkeypatch: pytest.MonkeyPatch, least: Any, most: Any) -> None:
    monkeypatch.setattr(ABMIL, "min_rows", least)
    monkeypatch.setattr(ABMIL, "max_rows", most)


def test_slides_below_and_above_are_counted_and_some_are_named(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = small_store.sizes
    least, most = int(np.quantile(rows, 0.2)) + 1, int(np.quantile(rows, 0.8))
    few, many = int((rows < least).sum()), int((rows > most).sum())
    assert min(few, many) > 5
    first = sorted(small_store.slides["slide"][rows < least])[0]
    size = rows[small_store.index_of((first,))][0]
    limited(monkeypatch, least, most)
    monkeypatch.setattr(type(small_store), "bag", None)  # sizes are known without features
    with pytest.raises(InputError) as error:
        plan(small_store, "abmil", "mean-pool")
    low, high = error.value.problems
    assert low.startswith(f"{few} slides have fewer than {least} instances (min_rows): {first} ")
    assert f"({size}), " in low
    assert low.endswith(f" and {few - 5} more")
    assert high.startswith(f"{many} slides have more than {most} instances (max_rows): ")
    assert "slides for abmil: 2 problems" in str(error.value)
    assert "splits make --labels TABLE" in str(error.value)


def test_limits_that_all_slides_keep_change_nothing(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rows = plan(small_store, "abmil").run_id, small_store.sizes
    limited(monkeypatch, int(rows.min()), int(rows.max()))
    assert plan(small_store, "abmil").run_id == before


def test_a_method_that_only_all_names_is_left_out_with_the_reason(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 10_000, None)
    made = plan(small_store, "all")
    assert "abmil" not in {job.label for job in made.jobs}
    assert made.skipped["abmil"].startswith("120 slides have fewer than 10000 instances (min_rows)")
    assert "mean-pool" in {job.label for job in made.jobs}


def test_slides_in_no_fold_do_not_count(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = small_store.sizes
    smallest = set(small_store.slides["slide"][rows == rows.min()])
    limited(monkeypatch, int(rows.min()) + 1, None)
    splits = plan(small_store, "mean-pool").splits
    with pytest.raises(InputError):
        require_sizes("abmil", ABMIL, splits, small_store)
    kept = [
        dataclasses.replace(
            fold, **{r: tuple(set(getattr(fold, r)) - smallest) for r in ("train", "val", "test")}
        )
        for fold in splits.folds
    ]
    require_sizes("abmil", ABMIL, dataclasses.replace(splits, folds=tuple(kept)), small_store)


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [
        (0, None, "min_rows is 0, not a whole number from 1 on"),
        (True, None, "min_rows is True"),
        (1, 2.5, "max_rows is 2.5, neither None"),
        (5, 4, "max_rows, 4, is less than its min_rows, 5"),
    ],
)
def test_limits_without_sense_are_refused(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch, least: Any, most: Any, words: str
) -> None:
    limited(monkeypatch, least, most)
    with pytest.raises(PluginError, match=words):
        plan(small_store, "abmil")


def test_the_command_ends_with_one_message_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_store(SPEC, tmp_path / "data")
    limited(monkeypatch, 10_000, None)
    command = ["run", "--methods", "abmil", "--dataset", SMALL_TWIN, "--folds", "2"]
    command += ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "slides for abmil: 1 problem" in said
    assert "Traceback" not in said
    assert not (tmp_path / "results" / "runs").exists()
