"""What was planned before a run had results, and what a report says was changed afterwards."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN
from made_runs import run_result, trained_folds

import mil_bench
from mil_bench import cli
from mil_bench.errors import StorageError
from mil_bench.planning.asked import Asked
from mil_bench.planning.plan import joined
from mil_bench.planning.plan_record import PlanRecord
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.plan_records import PlanRecords, what_was_planned

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.planning.plan import RunPlan
    from mil_bench.runs.plan_records import PlanStatus

OLDER = "No plan was stored before the results: an older version of mil-bench made the run, or"


def plan_of(*methods: str) -> RunPlan:
    """A plan of methods, each with a key of its own, on one split."""
    made = run_result(dict.fromkeys(methods, ())).plan
    return dataclasses.replace(made, command=f"mil-bench run --methods {' '.join(methods)}")


class Folder:
    """A folder of results whose runs are planned at given minutes and trained at once."""

    def __init__(self, path: Path) -> None:
        self.store, self.minute = ResultStore(path), 0

    def plan(self, plan: RunPlan, asked: Asked, **known: int) -> PlanRecord:
        self.minute += 1
        time = f"2026-03-01T09:{self.minute:02}:00+00:00"
        return PlanRecords(self.store, plan.dataset).keep(
            PlanRecord.of(plan, asked, None, time, known)
        )

    def report(self, plan: RunPlan, asked: Asked = Asked()) -> PlanStatus:  # noqa: B008 - frozen
        return what_was_planned(self.store, plan, asked)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_report_as_planned_says_when_that_was(folder: Folder) -> None:
    asked = Asked(metric="accuracy", reference="a")
    record = folder.plan(plan_of("a", "b"), asked)
    found = folder.report(plan_of("a", "b"), asked)
    assert found.is_before_results
    assert found.changes == ()
    assert found.sentence == f"Planned before results: {record.digest}, 2026-03-01 09:01:00 UTC."


def test_the_digest_depends_on_what_is_planned_alone() -> None:
    plan = plan_of("a", "b")

    def digest(plan: RunPlan = plan, time: str = "x", **asked: object) -> str:
        return PlanRecord.of(plan, Asked(**asked), None, time, {}).digest

    assert len(digest()) == 16
    assert digest(time="y") == digest() == digest(margin=1)
    other_seed = tuple(dataclasses.replace(job, seed=1) for job in plan.jobs)
    other_split = dataclasses.replace(plan.splits, folds=plan.splits.folds[::-1])
    others = [
        digest(margin=2),
        digest(metric="accuracy"),
        digest(reference="a"),
        digest(pairs=("a:b",)),
        digest(plan_of("a", "b", "c")),
        digest(dataclasses.replace(plan, jobs=other_seed)),
        digest(dataclasses.replace(plan, splits=other_split)),
    ]
    assert len({digest(), *others}) == 8
    assert digest(pairs=("a:b",)) == digest(pairs=("b:a",))


def test_another_question_is_marked_as_changed_after_results(folder: Folder) -> None:
    folder.plan(plan_of("a", "b"), Asked())
    asked = Asked(margin=0.5, metric="accuracy", pairs=("a:b",))
    found = folder.report(plan_of("a", "b"), asked)
    assert found.sentence.endswith(
        "Different in this report: main metric: accuracy (planned: macro_auc); margin: 0.5 "
        "(planned: 1); compared pairs: a:b (planned: all)."
    )
    reference = folder.report(plan_of("a", "b"), Asked(reference="b"))
    assert "compared pairs: b with each other method (planned: all)." in reference.sentence


def test_until_there_are_results_the_newest_plan_counts_and_then_none_is_added(
    folder: Folder,
) -> None:
    plan = plan_of("a", "b")
    folder.plan(plan, Asked())
    second = folder.plan(plan, Asked(margin=2))
    assert folder.report(plan, Asked(margin=2)).record == second
    assert "margin: 1 (planned: 2)" in folder.report(plan).sentence
    assert folder.plan(plan, Asked(margin=3), a=1) == second  # there are results
    assert folder.plan(plan, Asked(margin=2)) == second  # it is there
    assert folder.report(plan, Asked(margin=3)).record == second
    assert len(PlanRecords(folder.store, "toy").all()) == 2


def test_methods_that_are_added_are_named_with_what_was_planned(folder: Folder) -> None:
    first = folder.plan(plan_of("a", "b"), Asked())
    folder.plan(plan_of("a", "b", "c"), Asked(), a=3, b=3)
    found = folder.report(plan_of("a", "b", "c"))
    assert found.record == first
    assert found.sentence.endswith(
        "Different in this report: methods added: c (planned: a, b). Methods may be added at any "
        "time; it is said because results of the planned ones may have been known by then."
    )
    folder.plan(plan_of("a"), Asked(), a=3)
    assert folder.report(plan_of("a")).sentence.endswith(
        "Different in this report: methods left out: b (planned: a, b)."
    )
    other = folder.plan(plan_of("d"), Asked())  # no training in common
    assert folder.report(plan_of("d")).record == other
    assert folder.report(plan_of("d")).changes == ()


def test_runs_that_are_joined_are_so_after_results(folder: Folder) -> None:
    first, second = plan_of("a"), plan_of("b")
    of_first, of_second = folder.plan(first, Asked()), folder.plan(second, Asked())
    found = folder.report(joined([first, second]))
    assert found.record == of_first
    assert "Different in this report: methods added: b (planned: a)." in found.sentence
    assert found.sentence.endswith(
        f"Plans of their own for added methods: {of_second.digest} of {of_second.moment}."
    )


def test_results_that_were_shown_before_the_run_was_complete_are_noted(folder: Folder) -> None:
    plan = plan_of("a", "b")
    folder.plan(plan, Asked())
    before = folder.report(plan)
    records = PlanRecords(folder.store, "toy")
    for stored in (2, 3):
        records.note_shown(plan.run_id, stored, 6)  # the first time counts
    after = folder.report(plan)
    assert after.sentence.removeprefix(before.sentence).endswith(
        " UTC, when 2 of 6 trainings were stored."
    )
    (path,) = (folder.store.root / "toy" / "plans").glob("*.shown")
    path.write_text("{}")
    with pytest.raises(StorageError, match=f"{path} cannot be used"):
        folder.report(plan)


def test_yardsticks_do_not_make_two_runs_one(folder: Folder) -> None:
    def with_yardstick(method: str) -> RunPlan:
        plan = plan_of(method, "lookup")
        jobs = (plan.jobs[0], dataclasses.replace(plan.jobs[1], recipe={}))
        return dataclasses.replace(plan, jobs=jobs)

    folder.plan(with_yardstick("a"), Asked())
    assert folder.report(with_yardstick("b")).record is None


def test_a_run_of_an_older_version_has_no_plan_and_is_not_given_one(folder: Folder) -> None:
    plan = plan_of("a", "b")
    assert folder.report(plan).sentence.startswith(OLDER)
    late = folder.plan(plan, Asked(), a=3)
    found = folder.report(plan)
    assert not found.is_before_results
    assert found.sentence == (
        "No plan was stored before the first results. When this one was stored "
        f"({late.digest}, 2026-03-01 09:01:00 UTC), there were trainings of a (3)."
    )


def test_a_record_that_was_changed_is_named_and_left(folder: Folder) -> None:
    plan = plan_of("a", "b")
    folder.plan(plan, Asked())
    (path,) = (folder.store.root / "toy" / "plans").iterdir()
    path.write_text(path.read_text().replace('"macro_auc"', '"accuracy"'))
    with pytest.raises(StorageError, match=f"{path} cannot be used: its content is not what was"):
        folder.report(plan)
    assert "accuracy" in path.read_text()


QUICK = {"progress": False, "on": "inline", "tracking": False}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that asks for the accuracy of mean-pool and max-pool."""
    place = tmp_path_factory.mktemp("planned")
    folders = {"results": place / "results", "data": place / "data"}
    methods = ["mean-pool", "max-pool"]
    mil_bench.run(methods, SMALL_TWIN, folds=3, epochs=1, metric="accuracy", **QUICK, **folders)
    return place / "results"


def only_run(results: Path) -> str:
    (run_id,) = ResultStore(results / "runs").runs()
    return run_id


def test_a_run_stores_its_plan_before_its_first_fold(results: Path) -> None:
    store = ResultStore(results / "runs")
    result = mil_bench.open_run(only_run(results), results, metric="accuracy")
    assert result.planned.sentence in result.sentences
    record = result.planned.record
    assert (record.metric, record.known, result.planned.changes) == ("accuracy", {}, ())
    finished = [store.finished(job, fold) for job, fold in result.plan.trainings]
    assert datetime.fromisoformat(record.time).timestamp() < min(finished)
    changed = mil_bench.open_run(only_run(results), results)
    assert [str(change) for change in changed.planned.changes] == [
        "main metric: macro_auc (planned: accuracy)"
    ]


def test_a_report_and_its_page_say_what_was_planned(
    results: Path, capsys: pytest.CaptureFixture
) -> None:
    run_id = only_run(results)
    words = ["report", run_id, "--results", str(results), "--metric", "accuracy"]
    assert cli.main([*words, "--margin", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Planned before results: " in said
    assert "Different in this report: margin: 2 (planned: 1)." in said
    assert f"mil-bench report {run_id} --margin 2.0 --metric accuracy" in said
    for name in ("report.html", "report.md"):
        text = (
            results / "reports" / run_id / "asked-margin-2.0-metric-accuracy" / name
        ).read_text()
        assert "Different in this report: margin: 2 (planned: 1)." in text


def test_a_search_is_planned_before_its_trials(results: Path, tmp_path: Path) -> None:
    folders = {"results": tmp_path / "results", "data": results.parent / "data"}
    options = {"folds": 2, "epochs": 1, **QUICK, **folders}
    tuned = mil_bench.run("mean-pool", SMALL_TWIN, tune=2, **options)
    record = tuned.planned.record
    assert tuned.planned.sentence == f"Planned before results: {record.digest}, {record.moment}."
    assert record.run == tuned.run_id
    assert tuned.tuned is not None
    later = mil_bench.run("mean-pool", SMALL_TWIN, tuned=True, margin=2, **options)
    assert later.run_id == tuned.run_id
    assert later.planned.record == record
    assert [change.what for change in later.planned.changes] == ["margin"]
    more = mil_bench.run("mean-pool", SMALL_TWIN, tune=3, **options)
    assert more.planned.record.digest == record.digest
    assert [str(change) for change in more.planned.changes] == [
        "trials: 3, per-fold (planned: 2, per-fold)"
    ]


def document(capsys: pytest.CaptureFixture, *words: str) -> dict:
    """What a command prints, which is one JSON document."""
    assert cli.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_report_as_json_has_verdicts_tables_and_the_plan(
    results: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["--results", str(results), "--metric", "accuracy", "--reference", "mean-pool"]
    found = document(capsys, "report", only_run(results), *words)
    assert (found["format"], found["ranking"]) == (1, None)
    (run,) = found["runs"]
    result = mil_bench.open_run(
        only_run(results), results, metric="accuracy", reference="mean-pool"
    )
    assert run["run"] == result.run_id
    assert run["trainings"]["stored"] == run["trainings"]["planned"] == 3 * run["folds"]
    assert (run["metric"]["key"], run["question"]["reference"]) == ("accuracy", "mean-pool")
    assert run["plan"]["digest"] == result.planned.record.digest
    assert run["plan"]["before_results"]
    assert run["plan"]["changes"] == [
        {"what": "compared pairs", "used": "mean-pool with each other method", "planned": "all"}
    ]
    assert [(v["first"], v["second"], v["answer"]) for v in run["verdicts"]] == [
        (v.first, v.second, v.answer) for v in result.verdicts
    ]
    shown, verdict = run["verdicts"][0], result.verdicts[0]
    assert (shown["difference"], shown["interval"]) == (
        verdict.difference,
        [verdict.low, verdict.high],
    )
    assert (shown["p_adjusted"], shown["margin"]) == (verdict.adjusted, 0.01)
    assert run["tables"].keys() == result.tables.keys()
    accuracy = run["tables"]["fine"]["rows"]["max-pool"]["Accuracy"]
    assert accuracy["mean"] == result.tables["fine"].loc["max-pool", ("Accuracy", "mean")]
    assert run["summary"] == result.summary


def test_shards_have_one_plan_and_show_nothing_before_all_are_done(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["run", "--methods", "mean-pool", "--dataset", SMALL_TWIN, "--folds", "3"]
    words += ["--epochs", "1", "--on", "inline", "--no-tracking", "--margin", "2"]
    words += ["--results", str(tmp_path / "results"), "--data", str(results.parent / "data")]
    (first,) = document(capsys, *words, "--shard", "1/2")["runs"]
    assert "3 of 6 trainings are stored; others do the rest" in first["waiting"]
    assert not {"tables", "verdicts", "summary"} & first.keys()
    (second,) = document(capsys, *words, "--shard", "2/2")["runs"]
    (collected,) = document(capsys, *words, "--collect")["runs"]
    for run in (second, collected):
        assert run["plan"]["before_results"]
        assert run["plan"]["changes"] == []
        assert run["plan"]["shown_before_complete"] is None
    store = ResultStore(tmp_path / "results" / "runs")
    assert len(PlanRecords(store, "bracs-sim-twin").all()) == 1


def test_the_list_of_runs_as_json(results: Path, capsys: pytest.CaptureFixture) -> None:
    found = document(capsys, "runs", "list", "--results", str(results))
    assert found["runs"][only_run(results)]["Methods"] == "mean-pool, max-pool, lookup"


def test_numbers_that_are_none_are_null() -> None:
    from pathlib import Path

    from mil_bench.runs.document import run_document, text_of_document

    result = run_result({"a": trained_folds(1.0, folds=2), "b": ()})
    text = text_of_document({"runs": [run_document(result, Path("report.html"))]})
    (run,) = json.loads(text, parse_constant=pytest.fail)["runs"]
    assert run["plan"] is None
    assert run["tables"]["fine"]["rows"]["b"]["Accuracy"] == {"mean": None, "std": None}
