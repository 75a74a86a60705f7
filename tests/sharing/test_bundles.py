"""Results exported from one folder and imported into another: the same numbers, marked."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import cli
from mil_bench.errors import InputError, StorageError
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.sharing.agreement import disagreements
from mil_bench.sharing.exporting import export_results
from mil_bench.sharing.importing import import_results
from mil_bench.wording import without_source

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

QUIET = {"tracking": False, "progress": False, "on": "inline"}
METHODS = ["mean-pool", "abmil"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run of another lab, in a folder of its own."""
    folder = tmp_path_factory.mktemp("theirs")
    return mil_bench.run(
        METHODS,
        SMALL_TWIN,
        folds=3,
        epochs=2,
        results=folder / "results",
        data=folder / "data",
        **QUIET,
    )


@pytest.fixture(scope="module")
def bundle(theirs: RunResult) -> Path:
    store = theirs.store
    assert store is not None
    path = store.root.parent.parent / "lab.zip"
    export_results(store, [theirs.run_id], path, "Lab A", weights=True)
    return path


@pytest.fixture(scope="module")
def mine(theirs: RunResult, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run on the same data and splits."""
    store = theirs.store
    assert store is not None
    folder = tmp_path_factory.mktemp("mine")
    return mil_bench.run(
        "max-pool",
        SMALL_TWIN,
        folds=3,
        epochs=2,
        results=folder / "results",
        data=store.root.parent.parent / "data",
        **QUIET,
    )


def imported_into(folder: Path, bundle: Path) -> RunResult:
    results = Results(folder)
    plan = import_results(results, bundle, folder / "data").plans[0]
    return mil_bench.open_run(plan.run_id, folder)


def test_a_table_is_the_same_in_the_folder_that_imports_it(
    theirs: RunResult, bundle: Path, tmp_path: Path
) -> None:
    here = imported_into(tmp_path, bundle)
    assert list(here.tables) == list(theirs.tables)
    for name, table in theirs.tables.items():
        imported = here.tables[name]
        if table.index.name == "pair" or name == "verdict_matrix":
            continue  # headings are marked names; the verdicts are compared below
        imported.index = imported.index.map(without_source)
        imported.columns = imported.columns.map(lambda of: (without_source(of[0]), of[1]))
        pd.testing.assert_frame_equal(imported, table)
    verdicts = [(v.difference, v.low, v.high, v.adjusted, v.answer) for v in theirs.verdicts]
    assert [(v.difference, v.low, v.high, v.adjusted, v.answer) for v in here.verdicts] == verdicts
    assert here.evidence.contestants == [f"{name} (from Lab A)" for name in METHODS]


def test_rows_of_others_stand_in_one_table_with_ones_own_and_name_their_source(
    mine: RunResult, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert mine.store is not None
    results = mine.store.root.parent
    here = imported_into(results, bundle)
    words = ["report", here.run_id, mine.run_id, "--results", str(results)]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    run_id = shown.split("mil-bench report ")[1].split()[0]
    together = mil_bench.open_run(run_id, results)
    rows = [*(f"{name} (from Lab A)" for name in METHODS), "max-pool", "lookup"]
    assert list(together.tables["fine"].index) == rows  # one yardstick, not two
    assert "Rows marked '(from Lab A)' were not trained here" in together.plan.caption
    assert any("(from Lab A)" in (v.first, v.second)[0] for v in together.verdicts) or any(
        "(from Lab A)" in v.second for v in together.verdicts
    )
    folder = results / "reports" / run_id
    for name in ("report.html", "report.md", "fine.csv", "tables.tex", "verdict_matrix.csv"):
        assert "abmil (from Lab A)" in (folder / name).read_text(encoding="utf-8"), name
    assert cli.main(["runs", "list", "--results", str(results)]) == 0
    assert "abmil (from Lab A)" in " ".join(capsys.readouterr().out.split())


def test_what_is_imported_is_never_taken_for_what_was_trained_here(
    theirs: RunResult, bundle: Path, tmp_path: Path
) -> None:
    imported_into(tmp_path, bundle)
    store = ResultStore(tmp_path / "runs")
    assert all(not store.done(job) for job in theirs.plan.jobs)
    assert not (tmp_path / "runs").exists()


def test_weights_come_along_on_request_and_make_the_same_model(
    theirs: RunResult, bundle: Path, tmp_path: Path
) -> None:
    here = imported_into(tmp_path / "with", bundle)
    own, imported = theirs.model("abmil", fold=1), here.model("abmil (from Lab A)", fold=1)
    assert all(
        (a == b).all()
        for a, b in zip(own.state_dict().values(), imported.state_dict().values(), strict=True)
    )
    assert theirs.store is not None
    light = tmp_path / "light.zip"
    export_results(theirs.store, [theirs.run_id], light, "Lab A")
    assert not any("weights" in name for name in zipfile.ZipFile(light).namelist())
    without = imported_into(tmp_path / "without", light)
    with pytest.raises(InputError, match="the bundle of Lab A came without weights"):
        without.model("abmil (from Lab A)")


def test_a_bundle_needs_no_code_of_its_methods(theirs: RunResult, tmp_path: Path) -> None:
    assert theirs.store is not None
    plan, store = theirs.plan, ResultStore(tmp_path / "elsewhere" / "runs")
    renamed = tuple(
        dataclasses.replace(job, method="secret-mil", label="secret-mil")
        if job.method == "abmil"
        else job
        for job in plan.jobs
    )
    for old, new in zip(plan.jobs, renamed, strict=True):
        for fold in range(3):
            store.save_fold(new, theirs.store.load_fold(old, fold))
    unknown = dataclasses.replace(plan, jobs=renamed)
    store.save_plan(unknown)
    export_results(store, [unknown.run_id], tmp_path / "b.zip", "Lab B")
    here = imported_into(tmp_path / "here", tmp_path / "b.zip")
    row = here.tables["fine"].loc["secret-mil (from Lab B)"]
    pd.testing.assert_series_equal(row, theirs.tables["fine"].loc["abmil"], check_names=False)
    assert here.write(tmp_path / "report").exists()


def test_a_split_file_comes_with_a_bundle_and_gives_the_same_split(
    theirs: RunResult, bundle: Path, tmp_path: Path
) -> None:
    imported = import_results(Results(tmp_path), bundle, tmp_path / "data")
    splits = imported.split_file(imported.plans[0])
    assert theirs.store is not None
    own = mil_bench.run(
        "mean-pool",
        SMALL_TWIN,
        splits=splits,
        epochs=1,
        results=tmp_path / "more",
        data=theirs.store.root.parent.parent / "data",
        **QUIET,
    )
    assert own.plan.splits.digest == theirs.plan.splits.digest


def test_exporting_refuses_what_it_cannot_share(
    theirs: RunResult, bundle: Path, mine: RunResult, tmp_path: Path
) -> None:
    store = theirs.store
    assert store is not None
    before = bundle.read_bytes()
    with pytest.raises(InputError, match="the file exists"):
        export_results(store, [theirs.run_id], bundle, "Lab A")
    assert bundle.read_bytes() == before
    here = imported_into(tmp_path, bundle)
    assert here.store is not None
    with pytest.raises(InputError, match="was imported; only who trained it can share it"):
        export_results(here.store, [here.run_id], tmp_path / "again.zip", "me")
    with pytest.raises(InputError, match=r"the source 'a\(b' is not 1 to 40 letters"):
        export_results(store, [theirs.run_id], tmp_path / "again.zip", "a(b")
    assert not (tmp_path / "again.zip").exists()


def test_the_same_runs_give_the_same_bundle(
    theirs: RunResult, bundle: Path, tmp_path: Path
) -> None:
    assert theirs.store is not None
    export_results(theirs.store, [theirs.run_id], tmp_path / "b.zip", "Lab A", weights=True)
    assert (tmp_path / "b.zip").read_bytes() == bundle.read_bytes()


def test_other_data_and_other_splits_are_refused_with_both_digests(
    theirs: RunResult, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert theirs.store is not None
    data = theirs.store.root.parent.parent / "data"
    for dataset, folds in ((SMALL_TWIN.replace("120", "121"), 3), (SMALL_TWIN, 2)):
        results = tmp_path / f"{folds}"
        own = mil_bench.run(
            "mean-pool", dataset, folds=folds, epochs=1, results=results, data=data, **QUIET
        )
        words = ["results", "import", str(bundle), "--results", str(results)]
        assert cli.main([*words, "--data", str(data)]) == 2
        message = capsys.readouterr().err
        kind = "data" if dataset != SMALL_TWIN else "split"
        here, there = (
            run.plan.jobs[0].data_digest if kind == "data" else run.plan.splits.digest
            for run in (own, theirs)
        )
        assert f"{kind} digest {there} in the bundle, {here} here" in message
        assert not list((results / "imported").glob("[!.]*"))


def test_features_of_another_encoder_may_stand_beside(theirs: RunResult) -> None:
    plan = dataclasses.replace(theirs.plan, encoder="UNI")
    jobs = tuple(dataclasses.replace(job, data_digest="0" * 16) for job in plan.jobs)
    own = dataclasses.replace(plan, jobs=jobs)
    (problem,) = disagreements("run", plan, [own], None)
    assert problem == f"run: data digest {plan.jobs[0].data_digest} in the bundle, {'0' * 16} here"
    assert disagreements("run", plan, [dataclasses.replace(own, encoder="conch")], None) == []
    assert disagreements("run", plan, [], "f" * 16)[0].endswith(f"in the bundle, {'f' * 16} here")


def test_repeated_folds_are_shared_without_a_split_file(
    theirs: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert theirs.store is not None
    results = tmp_path / "results"
    run = mil_bench.run(
        "mean-pool",
        SMALL_TWIN,
        folds=2,
        repeats=2,
        epochs=1,
        results=results,
        data=theirs.store.root.parent.parent / "data",
        **QUIET,
    )
    file = str(tmp_path / "b.zip")
    assert cli.main(["results", "export", run.run_id, file, "--results", str(results)]) == 0
    assert cli.main(["results", "import", file, "--results", str(tmp_path / "r")]) == 0
    assert "--protocol patient-kfold --folds 2 --repeats 2" in capsys.readouterr().out


def test_a_damaged_import_is_imported_again(bundle: Path, tmp_path: Path) -> None:
    here = imported_into(tmp_path, bundle)
    folder = next((tmp_path / "imported").glob("[!.]*"))
    next(folder.rglob("fold-00.npz")).write_bytes(b"x")
    with pytest.raises(StorageError, match=f"move {folder} away and import the bundle again"):
        mil_bench.open_run(here.run_id, tmp_path)


def test_a_bundle_is_imported_once(bundle: Path, tmp_path: Path) -> None:
    results = Results(tmp_path)
    first = import_results(results, bundle, tmp_path)
    assert first.is_new
    again = import_results(results, bundle, tmp_path)
    assert (again.is_new, again.folder) == (False, first.folder)
    other = import_results(results, bundle, tmp_path, source="Lab B")
    assert other.is_new
    assert len(ResultStore(results.runs).runs()) == 2


def test_another_bundle_with_the_same_trainings_is_refused(
    theirs: RunResult, bundle: Path, tmp_path: Path
) -> None:
    assert theirs.store is not None
    export_results(theirs.store, [theirs.run_id], tmp_path / "b.zip", "Lab A")
    first = import_results(Results(tmp_path), bundle, tmp_path)
    with pytest.raises(InputError, match=f"are imported: .*{first.folder.name}"):
        import_results(Results(tmp_path), tmp_path / "b.zip", tmp_path)


@pytest.mark.parametrize("after", [0, 4, 8])
def test_a_killed_import_leaves_nothing_and_is_repeated(
    after: int, bundle: Path, tmp_path: Path
) -> None:
    code = f"""
import os
from pathlib import Path
from mil_bench.results import Results
from mil_bench.sharing.importing import import_results
def dying(items, count, what):
    for i, item in enumerate(items):
        if i == {after}:
            os._exit(9)
        yield item
results, bundle = Results(Path({str(tmp_path)!r})), Path({str(bundle)!r})
import_results(results, bundle, Path("nothing"), watch=dying)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 9
    assert ResultStore(tmp_path / "runs").runs() == {}
    assert not list((tmp_path / "imported").glob("[!.]*"))
    assert import_results(Results(tmp_path), bundle, tmp_path).is_new
    assert not list((tmp_path / "imported").glob("*.partial"))
    assert len(ResultStore(tmp_path / "runs").runs()) == 1


def test_the_commands_say_what_was_done_and_what_comes_next(
    theirs: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert theirs.store is not None
    results = str(theirs.store.root.parent)
    file = str(tmp_path / "lab-c.zip")
    assert cli.main(["results", "export", theirs.run_id, file, "--results", results]) == 0
    shown = capsys.readouterr().out
    assert f"{theirs.run_id}: 9 of 9 trainings" in shown
    assert "without weights, source 'lab-c'" in shown
    assert cli.main(["results", "import", file, "--results", str(tmp_path / "r")]) == 0
    shown = capsys.readouterr().out
    assert "9 of 9 trainings; mean-pool (from lab-c), abmil (from lab-c), lookup (from lab-c)" in (
        shown
    )
    command = next(line for line in shown.splitlines() if "mil-bench report" in line)
    assert cli.main(command.split()[1:]) == 0
    assert cli.main(["results", "export", theirs.run_id, file, "--results", results]) == 2
    assert "the file exists" in capsys.readouterr().err
