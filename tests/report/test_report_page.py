from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from html import escape, unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from made_runs import run_result, trained_folds

from mil_bench.errors import StorageError
from mil_bench.planning.asked import Asked
from mil_bench.runs.result import RunResult

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # pages hold all figures
VOID = {"meta", "img", "br", "input"}


class Reader(HTMLParser):
    """Follows open elements; fails if one is closed that is not the last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str]] = []
        self.drawings: list[dict[str, str]] = []
        self.styled: list[dict[str, str]] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids += [given["id"]] if "id" in given else []
        loaded = ("src", "href", "srcset", "data", "action", "poster", "background")
        links = [given[name] for name in loaded if name in given]
        if tag == "a":  # followed by the reader, never loaded
            self.links += links
        else:
            self.outside += [link for link in links if not link.startswith(("data:", "#"))]
        self.styled += [given] if "style" in given else []
        if tag == "svg":
            self.drawings.append(given)
        if tag == "img":
            self.images.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def result() -> RunResult:
    methods = {
        "<good>": trained_folds(3.0),
        "bad": trained_folds(0.5),
        "lookup": trained_folds(0.0),
        "part": trained_folds(1.0, folds=2),
    }
    return run_result(
        methods, "toy-twin", leaks=7, failures=("part seed 0 fold 2 failed: no memory & no time",)
    )


@pytest.fixture(scope="module")
def text(result: RunResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = result.write(tmp_path_factory.mktemp("report"))
    assert path.name == "report.html"
    assert {"report.md", "tables.tex", "fine.csv", "verdicts.csv"} <= {
        p.name for p in path.parent.iterdir()
    }
    return path.read_text()


def test_it_is_one_well_formed_file_that_asks_for_nothing(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.outside == []
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", text))
    assert len(set(reader.ids)) == len(reader.ids)
    inside = {link.removeprefix("#") for link in reader.links if link.startswith("#")}
    assert inside <= set(reader.ids)
    assert set(reader.links) - {f"#{name}" for name in inside} == {"predictions.csv"}
    assert all(drawing["aria-label"] and drawing["role"] == "img" for drawing in reader.drawings)
    assert len(reader.drawings) == 2 + 9


def test_the_policy_of_the_page_allows_its_own_style_and_script_alone(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert reader.styled == []
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)[1]
    assert unescape(policy).startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = [b64encode(sha256(c.encode()).digest()).decode() for c in contents]
        assert re.findall(rf"{tag}-src (.*?);", unescape(policy)) == [f"'sha256-{digests[0]}'"]
        assert len(digests) == 1
    assert not re.search(r"<[^>]* on\w+=", text)


def test_the_verdict_comes_first_with_the_leaks(text: str, result: RunResult) -> None:
    assert "&lt;good&gt; has the best macro AUC" in text
    assert text.index("has the best macro AUC") < text.index("<table")
    assert "LEAKS: 7 of 120 test slides" in text[: text.index("<table")]
    assert result.summary[0].startswith("Fine level: <good> has the best macro AUC")


def test_the_first_screen_has_the_answer_the_numbers_and_the_plot(
    text: str, result: RunResult
) -> None:
    start = text[: text.index("<table")]
    assert f'<p class="answer">{escape(result.answer)}</p>' in start
    facts = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", start)
    assert facts == [
        ("Date", "–"),
        ("Slides", "120"),
        ("Patients", "60"),
        ("Folds", "3"),
        ("Classes", "4 in 2 coarse"),
        ("Encoder", "–"),
    ]
    assert '<div title="The features do not say which encoder made them."><dt>Encoder' in start
    assert start.index('class="answer"') < start.index("<svg")
    assert len(re.findall(r'<svg id="forest-(?:wide|narrow)"', start)) == 2


def test_tables_of_methods_are_in_the_order_of_their_rank(text: str, result: RunResult) -> None:
    table = re.search(r'id="table-fine">(.*?)</table>', text, re.DOTALL)[1]
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == [
        "&lt;good&gt;",
        "bad",
        "lookup",
        "part",
    ]
    assert list(result.report_tables[0].cells) == list(result.trained)


def test_each_table_can_be_copied_as_it_is_on_the_page(text: str, result: RunResult) -> None:
    section = re.search(r'id="table-fine">(.*?)</section>', text, re.DOTALL)[1]
    found = re.findall(r'<template class="(\w+)">(.*?)</template>', section, re.DOTALL)
    parts = {kind: unescape(content) for kind, content in found}
    rows = ["<good>", "bad", "lookup", "part"]
    assert [line.partition(",")[0] for line in parts["csv"].splitlines()[3:]] == rows
    assert parts["latex"].startswith("% needs ")
    assert r"\label{tab:" in parts["latex"]
    assert r"\textcolor{red}{\textbf{" in parts["latex"]
    assert text.count('<template class="csv">') == len(result.report_tables)


def test_rows_columns_and_parts_of_figures_know_their_methods(text: str) -> None:
    boxes = re.findall(r'data-method="(\d)"> <span>(.*?)</span>', text)
    assert boxes == [("0", "&lt;good&gt;"), ("1", "bad"), ("2", "lookup"), ("3", "part")]
    table = re.search(r'id="table-verdicts">(.*?)</table>', text, re.DOTALL)[1]
    pairs = dict(re.findall(r'<tr data-m="([\d ]+)"><th scope="row">(.*?)</th>', table))
    assert pairs == {"0 1": "&lt;good&gt; vs bad", "0 2": "&lt;good&gt; vs lookup"}
    for figure in ("heat_map", "classwise_auc", "roc", "reliability", "training", "confusion_fine"):
        drawn = re.search(rf'<figure id="figure-{figure}">(.*?)</figure>', text, re.DOTALL)[1]
        marked = set(re.findall(r'data-m="(\d)"><title>(.*?)</title>', drawn))
        assert {("0", "&lt;good&gt;"), ("1", "bad")} <= marked <= {*boxes}, figure


def test_all_predictions_are_in_a_file_beside_the_page(result: RunResult, tmp_path: Path) -> None:
    path = result.write(tmp_path).with_name("predictions.csv")
    frame = pd.read_csv(path, comment="#")
    assert len(frame) == len(result.predictions) == 11 * 40
    assert list(frame.columns) == list(result.predictions.columns)
    assert np.allclose(frame["p(l0)"], result.predictions["p(l0)"], atol=1e-5)


def test_a_simulated_dataset_is_called_simulated_before_anything_else(text: str) -> None:
    assert text.index("nothing here is a result on the real dataset.") < text.index(
        '<section id="verdict">'
    )
    real = run_result({"a": trained_folds(1.0), "b": trained_folds(2.0)})
    assert real._report.warning == ""


def test_failures_versions_and_the_command_are_there(text: str) -> None:
    assert "part seed 0 fold 2 failed: no memory &amp; no time" in text
    assert "part: 2 of 3 trainings are stored; not ranked" in text
    assert "mil-bench run --dataset toy" in text
    assert '<th scope="row">torch</th><td>2.x</td>' in text


def test_every_table_carries_protocol_split_and_what_plus_minus_is(
    text: str, result: RunResult
) -> None:
    tables = re.findall(r'<section class="table" id="table-(\w+)">(.*?)</section>', text, re.DOTALL)
    assert {name for name, _ in tables} == set(result.tables)
    for _, content in tables:
        for part in (
            "Protocol: patient-kfold",
            f"split {result.plan.splits.digest}",
            "± is the sample standard",
        ):
            assert part in content


def test_the_same_run_gives_the_same_file(text: str, result: RunResult, tmp_path: Path) -> None:
    again = RunResult(result.plan, result.trained, result.failures)
    assert again.write(tmp_path).read_text() == text


def test_a_notebook_shows_verdict_tables_and_a_figure(result: RunResult) -> None:
    shown = result._repr_html_()
    reader = Reader()
    reader.feed(shown)
    assert reader.open == []
    assert shown.index("&lt;good&gt; has the best macro AUC") < shown.index(
        "Fine level, 4 classes (%)"
    )
    assert len(reader.images) == 1
    assert all(image["alt"] for image in reader.images)
    assert result.figures._repr_html_().count("<img") == len(result.figures) == 9
    assert result.figures["roc"] is result.figures["roc"]
    assert [v.measure.key for v in result.verdicts] == ["macro_auc"] * 3


def test_a_report_on_some_pairs_leaves_no_table_of_all_pairs_beside_it(tmp_path: Path) -> None:
    methods = {name: trained_folds(k) for k, name in enumerate("abc")}
    run_result(methods).write_tables(tmp_path)
    assert (tmp_path / "verdicts_all.csv").exists()
    run_result(methods, asked=Asked(pairs=("a:b",))).write_tables(tmp_path)
    assert not (tmp_path / "verdicts_all.csv").exists()
    assert "a vs c" not in (tmp_path / "verdicts.csv").read_text()


def test_answers_on_the_page_have_signs_and_colours(text: str) -> None:
    matrix = re.search(r'id="table-verdict_matrix">(.*?)</section>', text, re.DOTALL)[1]
    assert '<td class="sign" data-m="1" data-sign="&gt;">&gt;</td>' in matrix
    assert (
        "&lt; it is worse, = practically equivalent (by less than 1 point), ? undecided" in matrix
    )


def test_a_run_without_any_result_still_has_a_report(tmp_path: Path) -> None:
    text = run_result({"a": (), "b": ()}).write(tmp_path).read_text()
    assert "Nothing can be compared" in text
    assert "a: 0 of 3 trainings are stored; not ranked" in text


def test_the_fold_table_counts_slides_by_role_and_class(result: RunResult) -> None:
    frame = result.tables["folds"]
    assert frame[("Test", "mean")].tolist() == [40, 40, 40]
    assert frame[("Training", "mean")].tolist() == [80, 80, 80]
    assert frame[("Test l0", "mean")].tolist() == [10, 10, 10]
    assert frame[("Test, shared patient", "mean")].tolist() == [7, 0, 0]


def test_a_report_is_not_written_through_a_link_or_onto_a_file(
    result: RunResult, tmp_path: Path
) -> None:
    target, link, file = tmp_path / "paper", tmp_path / "link", tmp_path / "file"
    target.mkdir()
    (target / "fine.csv").write_text("my own")
    link.symlink_to(target)
    file.write_text("my own")
    with pytest.raises(StorageError, match=r"link is a symbolic link to .*/paper: .*Remove"):
        result.write(link)
    with pytest.raises(StorageError, match=r"file is a file, .* Move the file away"):
        result.write_tables(file)
    assert [path.name for path in target.iterdir()] == ["fine.csv"]
    assert (target / "fine.csv").read_text() == file.read_text() == "my own"
    moved = tmp_path / "moved"  # all reports may lie on another disk
    moved.symlink_to(target)
    assert result.write_tables(moved / "run").exists()


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy".*?>')
CLICKS = """<script>
const table = document.querySelector("#table-fine table");
const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(" ");
const heading = (index) => table.tHead.rows[0].cells[index];
const click = (index) => { heading(index).querySelector("button").click(); return order(); };
const shown = [click(1), heading(1).getAttribute("aria-sort"), click(1), click(0)];
const forest = document.querySelector("#forest-wide");
const height = forest.getAttribute("height");
const labels = [...document.querySelectorAll(".filter label")];
labels.find((label) => label.textContent.trim() === "bad").querySelector("input").click();
const visible = [...table.tBodies[0].rows].filter((row) => row.getClientRects().length);
shown.push(visible.map((row) => row.cells[0].textContent).join(" "));
shown.push(height, forest.getAttribute("height"));
document.body.textContent = "ORDERS " + shown.join("|") + " END";
</script></body>"""


def shown_by_a_browser(path: Path, page: str) -> str:
    """The page as it is once its scripts have run."""
    path.write_text(page)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={path.parent}/browser",
        "--dump-dom",
    ]
    return subprocess.run(
        [BROWSER, *flags, path.as_uri()], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_sorts_by_the_mean_hides_methods_and_runs_no_foreign_script(
    tmp_path: Path,
) -> None:
    methods = {
        "bad": trained_folds(0.0),
        "good": trained_folds(3.0),
        "none": (),
        "fair": trained_folds(1.5),
    }
    path = run_result(methods).write(tmp_path)
    page = path.read_text().replace("</body>", CLICKS)
    dom = shown_by_a_browser(path, page)
    assert "ORDERS good" not in dom  # the policy of the page: a foreign script does not run
    dom = shown_by_a_browser(path, POLICY.sub("", page))
    down, sign, up, names, few, left, rest = re.search(r"ORDERS (.*) END", dom)[1].split("|")
    assert (down, sign) == ("good fair bad none", "descending")
    assert up == "bad fair good none"
    assert names == "bad fair good none"
    assert few == "fair good none"
    assert float(rest) == float(left) - 30  # the forest plot closes the gap
