from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from made_runs import run_result, trained_folds

from mil_bench.errors import StorageError
from mil_bench.planning.asked import Asked
from mil_bench.runs.result import RunResult

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # pages hold all figures
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Follows open elements; fails if one is closed that is not the last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str]] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids += [given["id"]] if "id" in given else []
        self.outside += [
            v for n, v in given.items() if n in ("src", "href") and not v.startswith(("data:", "#"))
        ]
        if tag == "a":
            self.links.append(given["href"].removeprefix("#"))
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
    assert "url(" not in text
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.links) <= set(reader.ids)
    assert all(image["alt"] for image in reader.images)
    assert len(reader.images) == 8


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
    assert result.figures._repr_html_().count("<img") == len(result.figures) == 8
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
    assert '<td class="sign" style="background:#8fbce6">&gt;</td>' in matrix
    assert "&lt; it is worse, = practically equivalent (within ±1 point), ? undecided" in matrix


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
CLICKS = """<script>
const table = document.querySelector("#table-fine table");
const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(" ");
const heading = (index) => table.tHead.rows[0].cells[index];
const click = (index) => { heading(index).querySelector("button").click(); return order(); };
const shown = [click(1), heading(1).getAttribute("aria-sort"), click(1), click(0)];
document.body.textContent = "ORDERS " + shown.join("|") + " END";
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_click_on_a_heading_sorts_by_the_mean_and_a_second_one_turns_it_round(
    tmp_path: Path,
) -> None:
    methods = {
        "bad": trained_folds(0.0),
        "good": trained_folds(3.0),
        "none": (),
        "fair": trained_folds(1.5),
    }
    path = run_result(methods).write(tmp_path)
    path.write_text(path.read_text().replace("</body>", CLICKS))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/browser",
        "--dump-dom",
    ]
    dom = subprocess.run(
        [BROWSER, *flags, path.as_uri()], capture_output=True, text=True, check=True
    ).stdout
    down, sign, up, names = re.search(r"ORDERS (.*) END", dom)[1].split("|")
    assert (down, sign) == ("good fair bad none", "descending")
    assert up == "bad fair good none"
    assert names == "bad fair good none"
