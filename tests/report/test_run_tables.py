"""What was trained, the data and the hardest slides, as tables; reasons on a page; inline SVG."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from made_runs import HIERARCHY, evidence, run_result, trained_folds

from mil_bench import registry
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.planning.data_facts import ClassFacts, DataFacts
from mil_bench.planning.plan import RunPlan
from mil_bench.report.overview.hardest_slides import hardest_slides
from mil_bench.report.render.html import html_table
from mil_bench.report.render.inline_svg import inline_svg
from mil_bench.report.tables import Cell, ResultTable, text_of
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.contents.data_table import data_table
from mil_bench.runs.contents.predictions_file import predictions_csv
from mil_bench.runs.contents.trained_table import trained_table
from mil_bench.runs.listing import write_index
from mil_bench.splits.plan import Fold, SplitPlan

if TYPE_CHECKING:
    from pathlib import Path


def changed(plan: RunPlan, **fields: object) -> RunPlan:
    """A plan whose jobs have other values."""
    return dataclasses.replace(
        plan, jobs=tuple(dataclasses.replace(j, **fields) for j in plan.jobs)
    )


def test_what_was_trained_has_recipe_settings_parameters_and_paper() -> None:
    folds = tuple(dataclasses.replace(f, parameters=1_234_567) for f in trained_folds(1.0))
    result = run_result({"abmil": folds, "other": trained_folds(0.5)})
    recipe = {**registry.methods.load("abmil").recipe.to_json(), "ema": 0.9}
    plan = changed(result.plan, recipe=recipe, params={"gated": True, "hidden": 256})
    table = trained_table(plan, result.trained, "C")
    row = {name: text_of(cell) for name, cell in table.cells["abmil"].items()}
    assert row["Learning rate"] == "0.0005"
    assert (row["Optimizer"], row["Batch size"], row["Epochs"]) == ("adam", "1", "20")
    assert row["Settings"] == "gated=true, hidden=256"
    assert row["Rest of the recipe"] == "ema=0.9"
    assert row["Parameters"] == "1,234,567"
    assert row["Paper"] == "Ilse et al., ICML 2018"
    assert row["Link"] == "https://arxiv.org/abs/1802.04712"
    other = table.cells["other"]
    assert text_of(other["Parameters"]) == "–"
    assert "older version" in other["Parameters"].why
    assert (other["Paper"], other["Link"]) == ("–", "–")


def test_folds_that_were_tuned_apart_show_all_their_values() -> None:
    result = run_result({"a": trained_folds(1.0)})
    job = result.plan.jobs[0]
    rates = (0.1, 0.02, 0.1)
    jobs = tuple(dataclasses.replace(job, recipe={"learning_rate": r, "epochs": 5}) for r in rates)
    table = trained_table(dataclasses.replace(result.plan, jobs=jobs), result.trained, "C")
    assert text_of(table.cells["a"]["Learning rate"]) == "0.1 / 0.02"


@pytest.mark.parametrize("name", registry.methods.built_in())
def test_a_paper_is_read_without_import_as_the_class_has_it(name: str) -> None:
    method = registry.methods.load(name)
    assert registry.methods.text(name, "paper") == method.paper
    assert registry.methods.text(name, "link") == method.link
    assert bool(method.paper) == bool(method.link)
    assert not method.link or method.link.startswith("https://")


def test_the_data_table_counts_slides_and_bags_or_says_why_not() -> None:
    plan = run_result({"a": trained_folds(1.0)}).plan
    older = data_table(plan)
    assert {text_of(row["Slides"]) for row in older.cells.values()} == {"–"}
    assert "older version" in older.cells["l0"]["Slides"].why
    counts = ClassFacts(12, 7, (1.0, 2.0, 3.0, 4.0, 50.0))
    empty = ClassFacts(0, 0, ())
    facts = DataFacts({"l0": counts, "l1": counts, "r0": counts, "r1": empty}, 1024, 3)
    table = data_table(dataclasses.replace(plan, data=facts))
    row = {name: text_of(cell) for name, cell in table.cells["l0"].items()}
    assert row == {
        "Coarse class": "left",
        "Slides": "12",
        "Patients": "7",
        "Smallest bag": "1",
        "Lower quartile": "2",
        "Median bag": "3",
        "Upper quartile": "4",
        "Largest bag": "50",
    }
    assert table.cells["r1"]["Median bag"].why == "No slide has this class."
    assert "3 labelled slides have no features and are in no fold." in table.note


def test_a_plan_keeps_what_is_known_of_its_data() -> None:
    facts = DataFacts({"l0": ClassFacts(1, 1, (1.0, 1.0, 1.0, 1.0, 1.0))}, 4, 0)
    plan = dataclasses.replace(run_result({"a": trained_folds(1.0)}).plan, data=facts)
    assert RunPlan.from_json(plan.to_json()).data == facts
    without = {k: v for k, v in plan.to_json().items() if k != "data"}
    assert RunPlan.from_json(without).data is None
    assert RunPlan.from_json(without).run_id == plan.run_id


def fold(probabilities: list[list[float]], labels: list[int]) -> tuple[TrainedFold, ...]:
    count = len(labels)
    tested = Predictions(
        np.array([f"s{i}" for i in range(count)]),
        np.array(labels),
        np.array(probabilities),
        np.array([f"p{i}" for i in range(count)]),
    )
    return tuple(TrainedFold(0, k, f"k{k}", tested) for k in range(3))


def test_the_hardest_slides_are_those_that_most_methods_get_wrong() -> None:
    good, bad, worst = [0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.0, 0.1, 0.8, 0.1]
    labels = [0, 0, 0, 0]
    methods = {
        "a": fold([good, bad, worst, good], labels),
        "b": fold([good, bad, worst, bad], labels),
    }
    table = hardest_slides(evidence(methods), ["a", "b"], "C")
    assert table is not None
    assert list(table.cells) == ["s2", "s1", "s3"]
    assert table.cells["s1"]["Class"] == "l0"
    assert text_of(table.cells["s1"]["Wrong"]) == "2 of 2"
    assert text_of(table.cells["s3"]["Wrong"]) == "1 of 2"
    assert table.cells["s2"]["Mostly taken for"] == "r0"
    assert [text_of(table.cells["s3"][m]) for m in ("a", "b")] == ["70.0", "10.0"]
    assert table.cells["s3"]["b"].why == "highest: l1, 60.0 %"
    assert table.method_columns == ("a", "b")
    assert hardest_slides(evidence({"a": fold([good] * 4, labels)}), ["a"], "C") is None


def test_a_missing_value_is_a_dash_with_its_reason() -> None:
    cells = {
        "none": {"x": Cell(float("nan"))},
        "fold": {"x": Cell(float("nan"), undefined_folds=(1, 2))},
        "why": {"x": Cell.absent(why='no <b> "count"')},
        "never": {"x": "–"},
        "value": {"x": Cell(1.0)},
    }
    page = html_table(ResultTable("t", "T", "", cells))
    found = re.findall(r"<td[^>]*?(?: title=\"(.*?)\")?>(.*?)</td>", page)
    assert [text for _, text in found] == ["–", "–", "–", "–", "1.0"]
    reasons = [reason for reason, _ in found]
    assert reasons[0] == "No result is stored."
    assert reasons[1].startswith("Undefined in fold 1, 2:")
    assert reasons[2] == "no &lt;b&gt; &quot;count&quot;"
    assert reasons[3] == "There is no such value."
    assert reasons[4] == ""


def test_rows_of_the_index_lead_to_the_reports_there_are(tmp_path: Path) -> None:
    results = Results(tmp_path)
    store, reports = ResultStore(results.runs), results.reports
    done = run_result({"a": trained_folds(1.0), "b": trained_folds(2.0)}, dataset="first")
    waiting = run_result({"a": ()}, dataset="second&<b>")
    for result in (done, waiting):
        store.save_plan(result.plan)
    for job in done.plan.jobs:
        for trained in done.trained[job.label]:
            store.save_fold(job, trained)
    (reports / done.run_id).mkdir(parents=True)
    for name in ("report.html", "report.md"):
        (reports / done.run_id / name).touch()
    (reports / "ranking_1 2").mkdir()
    (reports / "ranking_1 2" / "report.md").touch()
    page = write_index(store, results).read_text()
    links = dict(re.findall(r'<a href="([^"]+)">(.*?)</a>', page))
    assert links == {
        f"reports/{done.run_id}/report.html": done.run_id,
        "reports/ranking_1%202/report.md": "ranking_1 2",
    }
    assert '<th scope="row">second&amp;&lt;b&gt;_patient-kfold' in page
    assert "6 of 6" in page
    assert "Content-Security-Policy" in page
    assert re.search(r"b \d+\.\d ± \d", page)  # the best method and its value
    (store.root / waiting.plan.dataset / f"{waiting.run_id}.json").write_text("{")
    assert "second" not in write_index(store, results).read_text()


@pytest.mark.parametrize(
    ("address", "is_link"),
    [
        ("https://arxiv.org/abs/1", True),
        ("javascript:alert(1)", False),
        ('https://a.b/"onclick=x', False),
        ("http://a.b", False),
    ],
)
def test_only_an_https_address_becomes_a_link(address: str, is_link: bool) -> None:
    page = html_table(ResultTable("t", "T", "", {"m": {"Link": address, "Other": address}}))
    assert page.count("<a href=") == int(is_link)


def test_a_csv_of_predictions_runs_no_formula() -> None:
    frame = run_result({"=cmd()": trained_folds(1.0)}).predictions
    lines = predictions_csv(frame, "Caption\nof two lines").splitlines()
    assert lines[:2] == ["# All test predictions", "# Caption\\nof two lines"]
    assert re.match(r'"\'=cmd\(\)",0,0,"s0-0","p0-0","l0","l0",0\.\d+,', lines[3])


SVG = b"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 width="72pt" height="36pt" viewBox="0 0 72 36" version="1.1">
 <metadata>who</metadata><defs><style type="text/css">*{fill:red}</style></defs>
 <defs><path id="glyph" d="M 10 20
L 1.25 2.06
z
"/><clipPath id="clip"><rect x="0"/></clipPath></defs>
 <g id="unused"><g id="method-0123456789ab-7" clip-path="url(#clip)"><path d="LONG"
 style="fill: none; stroke: #123456"/><use xlink:href="#glyph"/></g></g></svg>"""


def test_an_inline_figure_keeps_its_drawing_without_styles_and_foreign_ids() -> None:
    points = np.round(np.random.default_rng(0).uniform(0, 500, (40, 2)), 2)
    lines = " \n".join(f"{'L' if i else 'M'} {x} {y}" for i, (x, y) in enumerate(points))
    file = SVG.replace(b"LONG", lines.encode())
    drawn = inline_svg(file, "roc-", 'a "b" <c>', {"method-0123456789ab": ("<m>", (3,))})
    assert "style" not in drawn
    assert "who" not in drawn
    assert "unused" not in drawn
    assert '<g clip-path="url(#roc-clip)" data-m="3"><title>&lt;m&gt;</title>' in drawn
    assert 'href="#roc-glyph"' in drawn
    assert 'id="roc-glyph"' in drawn
    assert 'd="M10 20L1.2 2.1z"' in drawn
    assert 'fill="none" stroke="#123456"' in drawn
    assert 'width="96" height="48"' in drawn
    long = re.search(r'd="(M[^"]*?l[^"]*)"', drawn)[1]
    start, *steps = [
        [float(n) for n in re.findall(r"-?[\d.]+", part)] for part in long[1:].split("l")
    ]
    assert np.abs(np.cumsum([start, *steps], axis=0) - points).max() <= 0.0501
    assert "method-" not in inline_svg(file, "x-", "", {})


def test_facts_of_data_are_counted_in_the_slides_of_the_folds() -> None:
    class Store:
        labels = np.array([0, 0, 3, 1])
        sizes = np.array([5, 15, 7, 900])
        slides = pd.DataFrame({"slide": list("abcd"), "group": ["p", "p", "q", "r"]})
        hierarchy, group_name, width, without_features = HIERARCHY, "patient", 8, 2

        def index_of(self, names: tuple[str, ...]) -> np.ndarray:
            return np.array(["abcd".index(name) for name in names])

    splits = SplitPlan("x", (Fold(("a",), (), ("b", "c")),), "patient", (0,), (0,))
    facts = DataFacts.of(Store(), splits)
    assert facts.classes["l0"] == ClassFacts(2, 1, (5.0, 7.5, 10.0, 12.5, 15.0))
    assert facts.classes["r1"].slides == 1
    assert facts.classes["l1"] == ClassFacts(0, 0, ())
    assert (facts.width, facts.without_features) == (8, 2)


def test_an_index_prefers_the_report_on_the_usual_question(tmp_path: Path) -> None:
    results = Results(tmp_path)
    store = ResultStore(results.runs)
    done = run_result({"a": trained_folds(1.0), "b": trained_folds(2.0)})
    store.save_plan(done.plan)
    asked = results.report(done.run_id, "reference-a")
    usual = results.report(done.run_id, "")
    for folder, link in (
        (asked, f"reports/{done.run_id}/asked-reference-a/report.html"),
        (usual, f"reports/{done.run_id}/report.html"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").touch()
        assert f'href="{link}"' in write_index(store, results).read_text()
