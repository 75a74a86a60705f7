"""``mil-bench runs``: what was run, found and compared without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN
from made_runs import run_result

import mil_bench
from mil_bench import cli
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.comparison import _sentences
from mil_bench.splits.plan import Fold, SplitPlan

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.planning.plan import RunPlan
    from mil_bench.runs.result import RunResult

QUIET = {"tracking": False, "progress": False, "on": "inline"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunResult]]:
    """Two runs on a twin and one on another, in one folder."""
    place = tmp_path_factory.mktemp("ran")
    folders = {"results": place / "results", "data": place / "data"}
    first = mil_bench.run(["abmil", "mean-pool"], SMALL_TWIN, folds=2, epochs=2, **folders, **QUIET)
    second = mil_bench.run(
        ["abmil:dropout=0.5", "abmil"], SMALL_TWIN, folds=2, epochs=3, **folders, **QUIET
    )
    other = mil_bench.run(
        "mean-pool",
        "ccc-sim:slides=80,rows=12,width=16",
        protocol="paper",
        folds=2,
        epochs=2,
        **folders,
        **QUIET,
    )
    for age, result in enumerate(
        (other, second, first)
    ):  # the order of age must not hang on the clock's steps
        path = ResultStore(place / "results" / "runs").runs()[result.run_id]
        os.utime(path, (1_700_000_000 - 86_400 * age,) * 2)
    return place / "results", [first, second, other]


def shown(results: Path, capsys: pytest.CaptureFixture, *words: str) -> str:
    assert cli.main(["runs", *words, "--results", str(results)]) == 0
    return capsys.readouterr().out


def row_of(text: str, start: str) -> str:
    return next(
        line for line in text.splitlines() if line.strip().startswith(start) and "--" not in line
    )


def test_runs_are_listed_newest_first_with_progress_date_and_main_figure(
    ran: tuple[Path, list[RunResult]], capsys: pytest.CaptureFixture
) -> None:
    results, (first, second, other) = ran
    text = shown(results, capsys)
    places = [text.index(result.run_id) for result in (other, second, first)]
    assert places == sorted(places)
    assert "6 of 6" in row_of(text, first.run_id)
    assert "2023-11-1" in row_of(text, first.run_id)
    frame = first.tables["fine"]["Macro AUC"]
    best = frame["mean"].drop("lookup").idxmax()
    assert f"{best} {frame.loc[best, 'mean']:.1f} ± {frame.loc[best, 'std']:.1f}" in text


def test_a_run_with_missing_trainings_shows_no_value_on_test_slides(
    ran: tuple[Path, list[RunResult]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import json
    import shutil

    results, run_id = shutil.copytree(ran[0], tmp_path / "results"), ran[1][0].run_id
    store = ResultStore(results / "runs")
    job, fold = store.load_plan(run_id).trainings[0]
    (store.folder(job) / f"fold-{fold:02d}.json").unlink()
    row = json.loads(shown(results, capsys, "list", "--json"))["runs"][run_id]
    assert (row["Trainings"], row["Best macro AUC"]) == ("5 of 6", "–")


def test_filters_leave_the_runs_that_fit(
    ran: tuple[Path, list[RunResult]], capsys: pytest.CaptureFixture
) -> None:
    results, (first, second, other) = ran
    for words, left in (
        (["--dataset", "bracs-sim"], {first.run_id, second.run_id}),
        (["--dataset", "bracs-sim-twin", "--method", "mean-pool"], {first.run_id}),
        (["--method", "mean-pool"], {first.run_id, other.run_id}),
        (["--protocol", "paper"], {other.run_id}),
    ):
        text = shown(results, capsys, *words)
        assert {result.run_id for result in (first, second, other) if result.run_id in text} == left


def test_a_filter_that_fits_nothing_says_what_there_is(
    ran: tuple[Path, list[RunResult]], capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["runs", "--dataset", "bracs-simm", "--results", str(ran[0])]) == 2
    assert "no run with the dataset 'bracs-simm'. Did you mean bracs-sim" in capsys.readouterr().err


def test_two_runs_stand_side_by_side_with_what_differs(
    ran: tuple[Path, list[RunResult]], capsys: pytest.CaptureFixture
) -> None:
    results, (first, second, _) = ran
    text = shown(results, capsys, first.run_id, second.run_id[-8:])
    means = [
        result.tables["fine"].loc["abmil", ("Macro AUC", "mean")] for result in (first, second)
    ]
    assert all(f"{mean:.1f} ±" in row_of(text, "abmil ") for mean in means)
    assert row_of(text, "abmil: epochs").split()[-2:] == ["2", "3"]
    assert row_of(text, "mean-pool ").split()[-1] == "–"
    assert (
        "abmil:dropout=0.5: epochs" not in text
    )  # a method of one run alone has nothing to differ from
    assert "abmil: learning_rate" not in text  # it is the same in both
    assert "different" not in text


def test_runs_on_other_slides_are_called_so(
    ran: tuple[Path, list[RunResult]], capsys: pytest.CaptureFixture
) -> None:
    results, (first, _, other) = ran
    text = shown(results, capsys, first.run_id, other.run_id)
    assert "! The runs have different splits: their test slides are not the same." in text
    assert "a simulated dataset, not BRACS" in text


def test_what_the_tests_of_two_splits_have_in_common_is_said() -> None:
    def plan(*folds: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]) -> RunPlan:
        made = run_result({"a": ()}).plan
        splits = SplitPlan("p", tuple(Fold(*f) for f in folds), "", (0,) * 2, (0,) * 2)
        return replace(made, splits=splits)

    first = plan((("a", "b"), ("c",), ("d",)), (("c", "d"), ("b",), ("a",)))
    validated = plan((("a", "c"), ("b",), ("d",)), (("c", "d"), ("b",), ("a",)))
    regrouped = plan((("b", "c"), (), ("a", "d")), (("c", "b"), (), ("a", "d")))
    other = plan((("a", "b"), ("c",), ("e",)), (("c", "d"), ("b",), ("a",)))
    said = [
        _sentences({"A": first, "B": second}, differ=True)[0]
        for second in (first, validated, regrouped, other)
    ]
    assert "Differences between runs are not tested" in said[0]
    assert "the test slides of every fold are the same" in said[1]
    assert "they test the same slides in other folds" in said[2]
    assert "their test slides are not the same" in said[3]


def test_one_run_alone_or_an_unknown_one_cannot_be_compared(
    ran: tuple[Path, list[RunResult]], capsys: pytest.CaptureFixture
) -> None:
    results, (first, _, _) = ran
    assert cli.main(["runs", first.run_id, "--results", str(results)]) == 2
    assert "1 run cannot be compared" in capsys.readouterr().err
    assert cli.main(["runs", first.run_id, "bracs-sim-twin", "--results", str(results)]) == 2
    assert (
        "There is no run 'bracs-sim-twin'. Did you mean bracs-sim-twin_patient-kfold"
        in capsys.readouterr().err
    )


def test_a_run_that_cannot_be_read_hides_no_other(
    ran: tuple[Path, list[RunResult]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import shutil

    results = shutil.copytree(ran[0], tmp_path / "results")
    broken = ResultStore(results / "runs").runs()[ran[1][0].run_id]
    broken.write_text("{}")
    assert cli.main(["runs", "--results", str(results)]) == 2
    said = capsys.readouterr()
    assert ran[1][1].run_id in said.out
    assert f"{broken} cannot be used" in said.err


def test_where_nothing_was_run_the_first_command_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert "Begin with: mil-bench run --dataset digits --preset quick" in shown(tmp_path, capsys)


def test_listing_and_comparing_need_neither_torch_nor_mlflow(
    ran: tuple[Path, list[RunResult]],
) -> None:
    results, (first, second, _) = ran
    for words in (["runs"], ["runs", first.run_id, second.run_id]):
        code = (
            "import sys; from mil_bench.cli import main\n"
            f"main({[*words, '--results', str(results)]!r})\n"
            "sys.exit(bool({'torch', 'mlflow', 'optuna', 'matplotlib'} & set(sys.modules)))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
