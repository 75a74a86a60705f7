"""Stored files whose values were altered: each is named, or still means what it says."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import cli
from mil_bench.errors import MilBenchError
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.listing import run_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUES = [None, "x", -1, 1.5, [], {}, [[]], True, 10**30, float("nan")]
KINDS = ("plan", "job", "fold", "study", "trial", "format")
QUIET = {"tracking": False, "progress": False, "on": "inline"}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of results of a tuned run."""
    place = tmp_path_factory.mktemp("tuned")
    folders = {"results": place / "results", "data": place / "data"}
    mil_bench.run("mean-pool", SMALL_TWIN, folds=2, epochs=1, tune=1, **folders, **QUIET)
    return place / "results"


def kind_of(path: Path) -> str:
    return path.name.partition(".")[0].partition("-")[0] if path.stem.count("_") < 2 else "plan"


def places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """Every place in a value; of a list only the first element's."""
    yield place
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*place, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*place, 0))


def altered(text: str, place: tuple, new: object) -> str:
    value = json.loads(text)
    if not place:
        return json.dumps(new)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return json.dumps(value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_value_never_gives_another_error_than_ours(tuned: Path, kind: str) -> None:
    paths = [path for path in tuned.glob("[rs]*/**/*.json") if kind_of(path) == kind]
    draw = random.Random(0)
    for _ in range(8):
        path = draw.choice(paths)
        stored = path.read_text()
        place = draw.choice(list(places(json.loads(stored))))
        path.write_text(altered(stored, place, draw.choice(VALUES)))
        with contextlib.suppress(MilBenchError):
            store = ResultStore(tuned / "runs")
            plans = {run: store.load_plan(run) for run in store.runs()}
            run_table(store, plans)
            for run in plans:
                result = mil_bench.open_run(run, tuned)
                assert result.tables
                assert result.summary
        path.write_text(stored)


def test_a_plan_of_another_content_than_its_name_says_is_named(
    tuned: Path, capsys: pytest.CaptureFixture
) -> None:
    path = next(path for path in tuned.glob("runs/**/*.json") if kind_of(path) == "plan")
    stored = path.read_text()
    path.write_text(altered(stored, ("jobs", 0, "seed"), 5))
    assert cli.main(["report", path.stem, "--results", str(tuned)]) == 2
    assert f"{path.name} cannot be used: its content is not what was stored" in (
        capsys.readouterr().err
    )
    path.write_text(stored)


def test_a_damaged_fold_hides_no_other_run(tuned: Path, capsys: pytest.CaptureFixture) -> None:
    path = next(tuned.glob("runs/*/mean-pool/*/fold-00.json"))
    stored = path.read_text()
    path.write_text(stored[:50])
    assert cli.main(["runs", "list", "--results", str(tuned)]) == 2
    output = capsys.readouterr()
    row = next(line for line in output.out.splitlines() if "mean-pool" in line)
    assert row.split()[-1] == "damaged"
    assert str(path) in output.err
    path.write_text(stored)


@pytest.mark.slow
def test_printed_commands_name_the_folders_that_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results, data = tmp_path / "my results", tmp_path / "my data"
    words = ["--dataset", SMALL_TWIN, "--methods", "mean-pool", "--folds", "2", "--epochs", "1"]
    folders = ["--results", str(results), "--data", str(data)]
    assert cli.main(["tune", *words, *folders, "--trials", "1", "--on", "inline"]) == 0
    output = capsys.readouterr().out
    assert f"--tuned --results '{results}' --data '{data}'" in output
    assert f"optuna-dashboard '{results / 'optuna.log'}'" in output
    assert cli.main(["run", *words, *folders, "--on", "inline", "--no-tracking"]) == 0
    command = capsys.readouterr().out.partition("To print it again: ")[2]
    assert f" --results '{results}'" in command
