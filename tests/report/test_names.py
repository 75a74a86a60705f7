"""Names are text everywhere: one run with the worst names there are, through every renderer."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from made_runs import run_result, trained_folds
from markdown_it import MarkdownIt
from matplotlib.text import Text
from rich.console import Console

from mil_bench.errors import one_line
from mil_bench.evaluation.statistics import rank_methods
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.report.figures.gallery import Gallery, Picture
from mil_bench.report.figures.names import text_of_name, texts_of
from mil_bench.report.figures.ranking import critical_difference
from mil_bench.report.figures.style import svg
from mil_bench.report.render import terminal
from mil_bench.report.render.csv_file import csv_file, harmless
from mil_bench.report.render.html import html_table
from mil_bench.report.render.latex import latex
from mil_bench.report.render.markdown import markdown, plain
from mil_bench.report.render.terminal import print_tables
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

LONG = "very-long" * 34
NAMES = [
    "a$_$b",
    r"\frac{",
    "x^{2}_1",
    "[x]",
    "[/nos]",
    "[bold]name[/bold]",
    "[a](http://b.c)",
    "![a][b]",
    "a|b",
    "**a** *b*",
    "`a` `b`",
    "_a_ __b__",
    "<b>bold</b>",
    "&amp;",
    "100 %",
    "# heading",
    "1. item",
    "~a~ ~~b~~",
    "a\nb",
    "a\r\tb",
    "\x1b[31mred\x1b[0m",
    "\u202eright to left",
    "肿瘤",
    "\U0001f9ec cell",
    LONG,
    f"{LONG}s",
    "=1+2",
    "+1",
    "-1 and",
    "@SUM(A1)",
    "\t=1",
    "*",
    "--",
    '"quoted", with a comma',
    " blanks ",
    "{}",
    "%s {0}",
    "a\\",
    "\ud800",
]


@pytest.fixture(scope="module")
def result() -> RunResult:
    """Four classes and five methods with such names."""
    hierarchy = LabelHierarchy.from_groups(
        {"[/co$_$arse]": ["a$_$b", "[x]\n"], "\u202e肿瘤|": ["=1+2", f"<b>\x1b[31m{LONG}"]}
    )
    methods = {
        "$\\frac{$ [/bold] `_a_`": trained_folds(3.0, head=True),
        f"{LONG}s": trained_folds(0.5),
        f"{LONG}t": trained_folds(0.6),
        "@SUM(A1)|\x1b[2J</td>": trained_folds(0.0),
        "_part": trained_folds(1.0, folds=2),
    }
    return run_result(methods, "[da]ta$_$", failures=("a\nb [/x] $_$ <b>",), hierarchy=hierarchy)


class Cells(HTMLParser):
    """The texts of all table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th"):
            self.inside, self.texts = True, [*self.texts, ""]

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def cells_of(text: str) -> list[str]:
    reader = Cells()
    reader.feed(text)
    return reader.texts


@pytest.mark.slow
def test_a_report_with_such_names_is_whole(result: RunResult, tmp_path: Path) -> None:
    page = result.write(tmp_path).read_text(encoding="utf-8")
    assert result.figures.failures == {}
    assert page.count('<div class="picture"') == len(result.figures)
    assert not set("\x1b\u202e") & set(page)
    assert "<b>bold</b>" not in page
    shown = cells_of(page)
    assert all(
        one_line(name) in shown for name in (*result.plan.methods, *result.plan.hierarchy.fine)
    )
    for path in (tmp_path / "figures").iterdir():
        ET.fromstring(path.read_text(encoding="utf-8"))
    for name, frame in result.tables.items():
        assert len(pd.read_csv(tmp_path / f"{name}.csv", comment="#", index_col=0)) == len(frame)
    assert len(pd.read_csv(tmp_path / "predictions.csv", comment="#")) == len(result.predictions)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(NAMES), 4))
def test_figures_show_any_name_of_a_class_and_of_a_method(start: int) -> None:
    fine = (NAMES + NAMES)[start : start + 4]
    hierarchy = LabelHierarchy.from_groups({fine[0]: fine[:2], fine[2]: fine[2:]})
    methods = {name: trained_folds(k / 2) for k, name in enumerate(fine)}
    figures = run_result(methods, hierarchy=hierarchy).figures
    for name in ("classwise_auc", "confusion_fine", "roc", "cost"):
        ET.fromstring(figures.svg(name))  # a control character would make it no XML
        texts = [t for t in figures[name].findobj(Text) if t.get_text().strip()]
        assert not any(t.get_usetex() or t.get_parse_math() for t in texts if "$" in t.get_text())
        shown = "".join(t.get_text() for t in texts).replace("\n", "").replace(" ", "")
        assert all(text_of_name(n).replace(" ", "") in shown for n in fine if len(n) < 40)
    ET.fromstring(svg(critical_difference(rank_methods(fine, np.eye(4)))))


def test_names_of_one_figure_differ_however_they_are_shortened() -> None:
    texts = texts_of([f"{LONG}a{LONG}", f"{LONG}b{LONG}", "a\nb", "a\\nb"])
    assert len(set(texts.values())) == 4
    assert max(map(len, texts.values())) <= 64


def test_what_no_font_can_draw_is_shown_by_its_code() -> None:
    assert text_of_name("a\U000e0041\x1b\u202e") == r"a\U000e0041\x1b\u202e"


def test_a_figure_that_cannot_be_drawn_costs_the_figure_alone(tmp_path: Path) -> None:
    run = run_result({"a": trained_folds(1.0), "b": trained_folds(2.0)})
    whole = run.figures

    def fails() -> object:
        raise RuntimeError("first line\nno [/room] here")

    run.__dict__["figures"] = Gallery(
        {"roc": whole.pictures["roc"], "bad": Picture("Bad one", "Never drawn.", fails)}
    )
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "bad.svg").write_text("of an earlier report")
    page = run.write(tmp_path).read_text()
    line = "The figure 'Bad one' is missing; it could not be drawn: RuntimeError: no [/room] here"
    assert line in (tmp_path / "report.md").read_text()
    assert page.count(line.replace("'", "&#39;")) == 2  # among the remarks, and in its place
    assert page.count('<div class="picture"') == 1
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["roc.svg"]
    assert (tmp_path / "tables.tex").exists()
    assert "no [/room] here" in run.figures._repr_html_()


def table(**more: Cell | str) -> ResultTable:
    """All names as rows, as columns and as texts."""
    cells = {row: {**{column: column for column in NAMES}, **more} for row in NAMES}
    return ResultTable("t", "$_$ [/title] <b>", "\x1b[2J [/caption] *a* *b*", cells, note="_n_")


def test_html_shows_every_name_as_it_is() -> None:
    expected = ["method", *NAMES, *(text for row in NAMES for text in (row, *NAMES))]
    assert cells_of(html_table(table())) == list(map(one_line, expected))


def test_markdown_shows_every_name_as_it_is() -> None:
    read = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    page = markdown(NAMES[0], NAMES, [table()])
    shown = read.render(page)
    expected = ["method", *NAMES, *(text for row in NAMES for text in (row, *NAMES))]
    # Blanks at the ends of a cell mean nothing in Markdown.
    assert [text.strip() for text in cells_of(shown)] == [one_line(t).strip() for t in expected]
    for name in NAMES:
        (paragraph,) = re.findall("<p>(.*)</p>", read.render(f"{plain(name)} end\n"), re.DOTALL)
        assert "<" not in paragraph, name
    assert "<em>" not in shown.replace("<b>Best", "")
    assert shown.count("<li>") == len(NAMES)


def test_intervals_and_common_names_stay_readable_in_markdown() -> None:
    for text in ("71.2 [65.0, 77.1]", "hmil:align_bags=false", "p < .05", "bad_name: 1 of 3", "a~"):
        assert plain(text) == text


def test_a_terminal_shows_every_name_as_it_is(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [name for name in NAMES if len(name) < 40]
    for colours in (False, True):
        monkeypatch.setattr(
            terminal,
            "Console",
            lambda colours=colours, **_: Console(
                force_terminal=colours, color_system="standard" if colours else None, width=2000
            ),
        )
        cells = {row: {column: column for column in short} for row in short}
        print_tables([ResultTable("t", "[/title] \x1b[2J", "[/caption]", cells)])
        shown = capsys.readouterr().out
        assert not set("\u202e\r\t") & set(shown)
        assert "\x1b[2J" not in shown
        assert "[/title] \\x1b[2J" in shown
        for name in short:
            assert shown.count(one_line(name)) >= len(short) + 2, name


def test_a_long_name_leaves_room_for_the_values(capsys: pytest.CaptureFixture) -> None:
    print_tables([ResultTable("t", "T", "", {LONG: {"Accuracy": Cell(71.25, 3.5)}})])
    assert "71.2 ± 3.5" in capsys.readouterr().out


def test_the_latex_of_every_name_is_closed_and_begins_no_argument() -> None:
    text = latex("run", [table()])
    plain_text = re.sub(r"\\[{}]", "", text)
    assert plain_text.count("{") == plain_text.count("}")
    assert (
        re.search(r"(?<!\\)[&%#_$^~]", re.sub(r" & |^%.*$|\$\S{,10}\$", "", text, flags=re.M))
        is None
    )
    assert re.search(r"\\\\\s*[\[*]", text) is None
    assert not {"\\frac", "--"} & set(re.findall(r"\\[a-z]+|--", text))
    assert "use lualatex or xelatex" in text
    assert "lualatex" not in latex("run", [ResultTable("t", "Café", "± – … ’", {"a": {"b": "†"}})])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine on this machine")
def test_the_latex_of_names_in_latin_letters_compiles(tmp_path: Path) -> None:
    latin = [name for name in map(one_line, NAMES) if name.isascii() and len(name) < 40]
    tables = [ResultTable("t", name, "", {n: {name: n} for n in latin}) for name in latin]
    (tmp_path / "tables.tex").write_text(latex("run", tables))
    head = r"\documentclass{article}\usepackage{booktabs,graphicx,longtable,xcolor}"
    (tmp_path / "page.tex").write_text(head + r"\begin{document}\input{tables}\end{document}")
    command = ["pdflatex", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_cell_of_a_csv_file_is_a_formula_or_a_comment() -> None:
    lines = csv_file(table(Number=Cell(-1.5, 0.25))).splitlines()
    assert [line[0] for line in lines[:3]] == ["#", "#", "m"]
    head, *rows = csv.reader(lines[2:])
    assert head == ["method", *map(harmless, NAMES), "Number mean", "Number std"]
    assert rows == [[harmless(name), *map(harmless, NAMES), "-1.5", "0.25"] for name in NAMES]
    begins = {text[0] for row in (head, *rows) for text in row[:-2]}
    assert not begins & set("=-@\t\r")
    assert [
        harmless(text) for text in ("=1+2", "-1 and", "@SUM(A1)", "\t=1", "+1", "-1.5", "a-b")
    ] == [
        "'=1+2",
        "'-1 and",
        "'@SUM(A1)",
        "'\\t=1",
        "+1",
        "-1.5",
        "a-b",
    ]
