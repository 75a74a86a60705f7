from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from made_runs import HIERARCHY, evidence, trained_folds
from rich.console import Console

from mil_bench.evaluation.metrics import Measure, measure
from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.evaluation.verdicts import Evidence, verdicts
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.report.budget import budget_table
from mil_bench.report.render import terminal, write_report
from mil_bench.report.render.html import html_section, html_table
from mil_bench.report.render.latex import latex
from mil_bench.report.render.terminal import print_tables
from mil_bench.report.result_tables import pooled_tables, result_tables
from mil_bench.report.sentences import summary
from mil_bench.report.tables import Cell, ResultTable, ranked, text_of
from mil_bench.report.verdict_tables import main_measure, verdict_tables

if TYPE_CHECKING:
    from pathlib import Path

NAN = float("nan")
MACRO_AUC = Measure("fine", "macro_auc")


def tables_of(folds: int = 3, **methods: tuple[TrainedFold, ...]) -> dict[str, ResultTable]:
    return {t.name: t for t in result_tables(evidence(methods, folds), "Dataset: toy.")}


def values(done: tuple[TrainedFold, ...], level: str, key: str) -> list[float]:
    return [100 * measure(t.predictions, HIERARCHY).values[Measure(level, key)] for t in done]


def test_cells_are_mean_and_sample_standard_deviation_over_folds() -> None:
    good = trained_folds(2.0)
    expected = values(good, "fine", "macro_auc")
    cell = tables_of(good=good)["fine"].cells["good"]["Macro AUC"]
    assert cell.mean == pytest.approx(np.mean(expected))
    assert cell.std == pytest.approx(np.std(expected, ddof=1))
    assert cell.text() == f"{np.mean(expected):.1f} ± {np.std(expected, ddof=1):.1f}"


def test_the_coarse_table_is_made_from_lifted_probabilities() -> None:
    good = trained_folds(2.0)
    lifted = [
        t.predictions.fine.reshape(-1, 2, 2).sum(2).argmax(1) == t.predictions.labels // 2
        for t in good
    ]
    cell = tables_of(good=good)["coarse"].cells["good"]["Accuracy"]
    assert cell.mean == pytest.approx(100 * np.mean(lifted))


def test_a_coarse_head_has_a_row_of_its_own_beside_the_lifted_one_and_is_not_ranked() -> None:
    table = tables_of(plain=trained_folds(1.0), headed=trained_folds(2.0, head=True))["coarse"]
    assert list(table.cells) == ["plain", "headed", "headed (coarse head)"]
    # The made-up head names the wrong side exactly where the lifted probabilities name the right
    # one.
    head, lifted = (table.cells[row]["Accuracy"] for row in ("headed (coarse head)", "headed"))
    assert head.mean == pytest.approx(100 - lifted.mean)
    assert head.rank == 0
    assert "(coarse head)" in table.note
    assert table.job_keys["headed (coarse head)"] == table.job_keys["headed"]


def test_best_and_second_best_are_marked_and_equal_means_share_a_rank() -> None:
    table = tables_of(
        bad=trained_folds(0.5),
        good=trained_folds(3.0),
        same=trained_folds(3.0),
        worst=trained_folds(0.0),
    )["fine"]
    ranks = {method: row["Macro AUC"].rank for method, row in table.cells.items()}
    assert ranks == {"good": 1, "same": 1, "bad": 2, "worst": 0}


def test_the_lowest_calibration_error_is_the_best() -> None:
    row = tables_of(bad=trained_folds(0.0), good=trained_folds(3.0))["calibration"].cells
    assert row["good"]["NLL"].mean < row["bad"]["NLL"].mean
    assert row["good"]["NLL"].rank == 1
    assert row["good"]["NLL"].text().count(".") == 2  # a plain number, three decimals, with its ±


def test_a_column_whose_rows_lack_different_folds_is_not_ranked() -> None:
    cells = {"a": {"x": Cell(1.0, undefined_folds=(1,))}, "b": {"x": Cell(2.0)}}
    assert all(row["x"].rank == 0 for row in ranked(cells, ["a", "b"]).values())


def test_an_incomplete_method_is_shown_but_not_ranked() -> None:
    table = tables_of(part=trained_folds(5.0, folds=2), whole=trained_folds(1.0))["fine"]
    assert table.cells["part"]["Accuracy"].rank == 0
    assert table.cells["whole"]["Accuracy"].rank == 1


def test_a_class_absent_from_a_test_fold_is_undefined_and_the_note_names_fold_and_reason() -> None:
    tables = tables_of(m=trained_folds(2.0, fold1=np.arange(39) % 3))
    cell = tables["classwise_auc"].cells["m"]["r1"]
    assert cell.undefined_folds == (1,)
    assert cell.text().endswith("†")
    assert (
        "† Mean over the folds in which the value is defined: no test slide is r1 in fold 1."
        in (tables["classwise_auc"].note)
    )
    assert tables["classwise_auc"].cells["m"]["l0"].undefined_folds == ()
    assert tables["fine"].cells["m"]["Macro AUC"].undefined_folds == (1,)
    assert tables["coarse"].cells["m"]["Macro AUC"].undefined_folds == ()


def test_a_coarse_class_absent_from_a_test_fold_is_named_under_the_coarse_table() -> None:
    table = tables_of(
        m=trained_folds(2.0, fold2=np.arange(40) % 2),
        h=trained_folds(1.0, head=True, fold2=np.arange(40) % 2),
    )["coarse"]
    assert table.cells["m"]["Macro AUC"].undefined_folds == (2,)
    assert "all test slides are left in fold 2" in table.note


def test_a_figure_undefined_in_every_fold_is_no_number() -> None:
    assert Cell(NAN, undefined_folds=(0, 1)).text() == "undefined"
    assert Cell(NAN).text() == "no result"


def test_one_training_gives_no_spread() -> None:
    assert (
        "±"
        not in tables_of(folds=1, m=trained_folds(2.0, folds=1))["fine"]
        .cells["m"]["Accuracy"]
        .text()
    )


def test_a_method_without_any_result_has_its_row() -> None:
    assert (
        tables_of(whole=trained_folds(1.0), none=())["fine"].cells["none"]["Accuracy"].text()
        == "no result"
    )


def test_a_flat_hierarchy_has_no_coarse_table() -> None:
    found = result_tables(
        evidence({"m": trained_folds(1.0)}, hierarchy=LabelHierarchy.flat("abcd")), ""
    )
    assert [t.name for t in found] == [
        "fine",
        "classwise_auc",
        "classwise_sensitivity",
        "classwise_ap",
        "more",
        "calibration",
    ]


def test_columns_that_no_method_has_are_left_out() -> None:
    assert tables_of(m=trained_folds(1.0))["hierarchy"].columns == ["Mistakes inside (%)"]
    assert (
        tables_of(m=trained_folds(1.0), h=trained_folds(1.0, head=True))["hierarchy"].cells["m"][
            "Head agreement (%)"
        ]
        == "–"
    )


def test_every_row_names_its_jobs() -> None:
    assert tables_of(good=trained_folds(2.0))["fine"].job_keys == {"good": ("key2.0",)}


def test_pooled_figures_stand_with_their_intervals() -> None:
    found = evidence({"good": trained_folds(1.0), "part": trained_folds(1.0, folds=2)})
    table = {t.name: t for t in pooled_tables(found, "")}["pooled"]
    assert list(table.cells) == ["good"]
    cell = table.cells["good"]["Accuracy"]
    right = [t.predictions.fine.argmax(1) == t.predictions.labels for t in trained_folds(1.0)]
    assert cell.mean == pytest.approx(100 * np.concatenate(right).mean())
    assert cell.interval[0] < cell.mean < cell.interval[1]
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", cell.text())
    assert "bootstrap over patients" in table.note


def test_a_mean_over_classes_with_a_rare_class_has_no_interval_and_the_note_names_the_class() -> (
    None
):
    # Two slides of r1 in each of three folds, of one patient each.
    rare = {f"fold{k}": np.where(np.arange(40) < 2, 3, np.arange(40) % 3) for k in range(3)}
    table = pooled_tables(evidence({"m": trained_folds(2.0, **rare)}), "")[0]
    row = table.cells["m"]
    without = [heading for heading, cell in row.items() if cell.interval is None]
    assert without == ["Macro AUC", "Balanced accuracy", "Specificity", "Macro F1"]
    assert (
        "No interval for Macro AUC, Balanced accuracy, Specificity, Macro F1: it is a mean over "
        "classes, and 3 patients with r1 are too few, 10 of every class are needed."
    ) in table.note


def test_too_few_patients_give_no_interval_and_the_note_says_so() -> None:
    few = tuple(
        TrainedFold(0, 0, "k", t.predictions)
        for t in trained_folds(1.0, folds=1, fold0=np.arange(8) % 4)
    )
    table = pooled_tables(evidence({"m": few}, 1), "")[0]
    assert table.cells["m"]["Accuracy"].interval is None
    assert "4 patients are too few" in table.note


def verdict_parts(found: Evidence) -> tuple[dict[str, ResultTable], list[str]]:
    figure, _ = main_measure(found)
    pairs = verdicts(found, figure)
    return {t.name: t for t in verdict_tables(found, pairs, figure, "")}, summary(
        found, pairs, figure
    )


def test_the_verdict_table_sets_the_best_against_every_other_method() -> None:
    found = evidence(
        {
            "bad": trained_folds(0.0),
            "good": trained_folds(3.0),
            "fair": trained_folds(1.5),
            "part": trained_folds(9.0, folds=1),
        }
    )
    tables, sentences = verdict_parts(found)
    assert list(tables["verdicts"].cells) == ["good vs fair", "good vs bad"]
    assert len(tables["verdicts_all"].cells) == 3
    row = tables["verdicts"].cells["good vs bad"]
    gap = found.by_fold("good", main_measure(found)[0]) - found.by_fold(
        "bad", main_measure(found)[0]
    )
    assert row["Difference [95 % interval]"].mean == pytest.approx(100 * gap.mean())
    assert row["Verdict"] == "good is better"
    assert sentences[0].startswith("Fine level: good has the best macro AUC")
    assert sentences[1].startswith("Coarse level: good has the best coarse macro AUC")


def test_the_answers_are_in_a_matrix_of_signs() -> None:
    found = evidence(
        {
            "bad": trained_folds(0.0),
            "copy": trained_folds(3.0),
            "good": trained_folds(3.0),
            "near": trained_folds(2.9),
        }
    )
    matrix = verdict_parts(found)[0]["verdict_matrix"]
    assert list(matrix.cells) == matrix.columns == ["copy", "good", "near", "bad"]
    assert matrix.cells["good"] == {"copy": "?", "good": "", "near": "=", "bad": ">"}
    assert matrix.cells["bad"] == {"copy": "<", "good": "<", "near": "<", "bad": ""}
    page = html_table(matrix)
    assert page.count('data-sign="&lt;"') == page.count('data-sign="&gt;"') == 3
    assert page.count('data-sign="="') == 4  # =
    assert '<td class="sign"></td>' in page
    assert all(f"{sign} " in matrix.note for sign in "<>=?–")
    undecided = evidence({"a": trained_folds(0.5, folds=2), "b": trained_folds(2, folds=2)}, 2)
    assert verdict_parts(undecided)[0]["verdict_matrix"].cells["a"]["b"] == "?"


def test_pairs_that_were_asked_for_are_in_one_table_which_says_so() -> None:
    every = evidence({name: trained_folds(k) for k, name in enumerate("abcd")})
    found = dataclasses.replace(every, pairs=(("a", "b"), ("c", "d")), margin=0.025)
    tables, _ = verdict_parts(found)
    assert list(tables) == ["verdicts", "verdict_matrix"]
    assert tables["verdicts"].title.endswith(": the pairs that were asked for")
    assert list(tables["verdicts"].cells) == ["b vs a", "d vs c"]
    note = tables["verdicts"].note
    assert "hold for the 2 pairs that were asked for, which were compared at once; no other" in note
    assert "closer to 0 than 2.5 points" in note
    assert tables["verdict_matrix"].cells["a"]["c"] == "–"
    assert "hold for all 6 pairs, which were compared at once." in (
        verdict_parts(every)[0]["verdicts"].note
    )


def test_two_folds_are_compared_by_a_reason_alone() -> None:
    tables, _ = verdict_parts(
        evidence({"a": trained_folds(0.0, folds=2), "b": trained_folds(3.0, folds=2)}, 2)
    )
    assert tables["verdicts_all"].cells["a vs b"]["Verdict"] == "only 2 folds, 3 are needed"
    assert tables["verdicts_all"].cells["a vs b"]["p, adjusted"].text() == "–"


def test_where_the_macro_auc_is_undefined_methods_are_compared_on_accuracy() -> None:
    without = np.arange(39) % 3

    def lacking(*folds: int) -> Evidence:
        labels = {f"fold{k}": without for k in folds}
        return evidence({"a": trained_folds(0.0, **labels), "b": trained_folds(3.0, **labels)})

    figure, reason = main_measure(lacking(0, 1))
    assert figure == Measure("fine", "accuracy")
    assert reason == (
        "Methods are compared on accuracy, because macro AUC is undefined in fold 0: "
        "no test slide is r1; fold 1: no test slide is r1."
    )
    assert main_measure(lacking(1)) == (MACRO_AUC, "")
    note = verdict_parts(lacking(1))[0]["verdicts"].note
    words = "each class counts by its mean over the folds that have it"
    assert words in note
    assert words not in verdict_parts(lacking())[0]["verdicts"].note


def test_methods_that_do_not_beat_the_lookup_are_named() -> None:
    _, sentences = verdict_parts(
        evidence({"lookup": trained_folds(2.9), "near": trained_folds(3.0)})
    )
    assert sentences[-1] == (
        "Fine level: Practically equivalent to lookup, which uses no image: near."
    )


def test_every_method_beats_the_lookup_only_where_every_method_was_compared_with_it() -> None:
    def said(*names: str, **more: tuple[TrainedFold, ...]) -> str:
        skills = {name: trained_folds(4.0 + k, folds=9) for k, name in enumerate(names)}
        given = evidence({"lookup": trained_folds(0.0, folds=9), **skills, **more}, 9)
        given = dataclasses.replace(given, replicates=1000)  # of few draws no p value is small
        return verdict_parts(given)[1][-1].removeprefix("Fine level: ")

    assert said("good", "fine") == "Every method is better than lookup, which uses no image."
    assert (
        said("good", "fine", half=trained_folds(5.0))
        == "Better than lookup, which uses no image: good, fine."
    )


def test_the_note_of_verdicts_names_the_patients_only_where_they_had_a_say() -> None:
    many = verdict_parts(evidence({"a": trained_folds(0.5), "b": trained_folds(2.0)}))[0][
        "verdicts"
    ].note
    assert "the variance over test patients (paired bootstrap)" in many
    labels = np.arange(8) % 4
    few = {"fold0": labels, "fold1": labels, "fold2": labels}
    note = verdict_parts(
        evidence({"a": trained_folds(0.5, **few), "b": trained_folds(2.0, **few)})
    )[0]["verdicts"].note
    assert "bootstrap" not in note
    assert "12 patients are too few to draw from" in note


def test_a_single_method_is_compared_with_nothing() -> None:
    tables, sentences = verdict_parts(evidence({"only": trained_folds(1.0)}))
    assert tables == {}
    assert sentences == [
        "Nothing can be compared: fewer than two methods have all their trainings."
    ]


@pytest.mark.parametrize(
    ("tuned", "said"), [(False, "Settings were not tuned"), (True, "the table on tuning")]
)
def test_the_budget_says_whether_trials_were_spent(tuned: bool, said: str) -> None:
    assert said in budget_table({"m": trained_folds(1.0)}, 3, "", tuned).note


def test_the_budget_counts_epochs_from_one() -> None:
    row = budget_table({"m": trained_folds(1.0)}, 3, "", tuned=False).cells["m"]
    assert {name: cell if isinstance(cell, str) else cell.text() for name, cell in row.items()} == {
        "Max epochs": "20",
        "Epochs run": "10.0 ± 0.0",
        "Selected epoch": "6.0 ± 0.0",
        "Trainings": "3 of 3",
        "Seconds per training": "12.5 ± 0.0",
        "Total seconds": "38",
    }


@pytest.fixture
def report(tmp_path: Path) -> Path:
    tables = tables_of(
        bad_name=trained_folds(0.5, fold1=np.arange(39) % 3), good=trained_folds(3.0)
    )
    chosen = [tables[name] for name in ("fine", "coarse", "classwise_auc", "calibration")]
    words = ResultTable(
        "words", "50 % & more <>{}", "", {"a|b_~^": {"What": "x|y", "Number": Cell(1.0, digits=0)}}
    )
    write_report(tmp_path, "toy_run", ["bad_name: 1 of 3"], [*chosen, words])
    return tmp_path


def test_the_markdown_page_holds_all_tables_with_marks_and_caption(report: Path) -> None:
    page = (report / "report.md").read_text()
    assert page.count("Dataset: toy.") == 4
    assert "**" in page
    assert "<u>" in page
    assert "no test slide is r1 in fold 1" in page
    assert "- bad_name: 1 of 3" in page
    assert r"| a\|b_~^ | x\|y |" in page  # a bar in a cell does not end it


def test_the_csv_reads_back_as_the_frame(report: Path) -> None:
    frame = pd.read_csv(report / "fine.csv", comment="#", index_col="method")
    expected = tables_of(good=trained_folds(3.0))["fine"].frame.loc["good", ("Macro AUC", "mean")]
    assert frame.loc["good", "Macro AUC mean"] == pytest.approx(expected, abs=1e-4)
    assert frame.loc["bad_name", "Macro AUC undefined folds"] == 1
    assert frame.loc["good", "jobs"] == "key3.0"
    words = pd.read_csv(report / "words.csv", comment="#", index_col="method")
    assert words.loc["a|b_~^", "What"] == "x|y"
    assert words.loc["a|b_~^", "Number mean"] == 1


def test_the_latex_escapes_names_and_closes_what_it_opens(report: Path) -> None:
    text = (report / "tables.tex").read_text()
    assert r"bad\_name" in text
    assert r"50 \% \& more \textless{}\textgreater{}\{\}" in text
    assert r"\textcolor{red}{\textbf{" in text
    assert r"\label{tab:toy-run-fine}" in text
    assert not set("±†–<>") & set(text.replace(r"\ifdim\width>\linewidth", ""))
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 5


def test_the_latex_compiles(report: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no TeX engine on this machine")
    packages = (report / "tables.tex").read_text().partition("\n")[0].removeprefix("% needs ")
    head = r"\documentclass{article}" + packages
    (report / "page.tex").write_text(head + r"\begin{document}\input{tables}\end{document}")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "page.tex"],
        cwd=report,
        capture_output=True,
        text=True,
        check=False,
    )
    if re.search(r"File `\w+\.sty' not found", done.stdout):
        pytest.skip("this TeX lacks a package")
    assert done.returncode == 0, done.stdout
    assert (report / "page.pdf").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine on this machine")
def test_no_table_in_latex_is_wider_or_longer_than_the_page(tmp_path: Path) -> None:
    names = [f"method-number-{i}" for i in range(21)]
    matrix = {name: dict.fromkeys(names, "?") for name in names}
    long = {f"{a} - {b}": {"Difference": "1.5"} for a in names for b in names}
    tables = [ResultTable("matrix", "M", "", matrix), ResultTable("long", "L", "", long)]
    text = latex("run", tables)
    assert r"\rotatebox{90}{method-number-3}" in text
    assert r"\rotatebox" not in text.partition(r"\begin{longtable}")[2]
    (tmp_path / "tables.tex").write_text(text)
    packages = text.partition("\n")[0].removeprefix("% needs ")
    page = r"\documentclass{article}" + packages + r"\begin{document}\input{tables}\end{document}"
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-halt-on-error", "page.tex"]
    for _ in range(2):  # longtable needs a second look for its widths
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    assert not re.search("Overfull|too large", done.stdout)


def test_the_terminal_shows_every_figure_and_the_caption_once(
    capsys: pytest.CaptureFixture,
) -> None:
    tables = list(tables_of(bad=trained_folds(0.5), good=trained_folds(3.0)).values())
    print_tables(tables)
    shown = capsys.readouterr().out
    assert shown.count("Dataset: toy.") == 1
    for table in tables:
        assert table.title in shown
        assert all(cell.text() in shown for row in table.cells.values() for cell in row.values())
    best = tables[0].cells["good"]["Accuracy"].text()
    assert f"{best}*" in shown


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_breaks_no_value_and_no_heading(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        terminal,
        "Console",
        lambda **_: Console(force_terminal=True, color_system=None, width=width),
    )
    rows = {f"abmil:learning_rate=0.{n}": trained_folds(n) for n in range(20)}
    for table in tables_of(**rows).values():
        print_tables([table])
        shown = capsys.readouterr().out
        for name in table.columns:
            assert all(word in shown for word in name.split())
            cells = [] if table.is_text(name) else [row[name] for row in table.cells.values()]
            assert all(text_of(cell) in shown for cell in cells)
        assert all(len(line.rstrip()) <= width for line in shown.splitlines())
        assert "…" not in shown


def test_a_terminal_with_colours_gets_red_and_blue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        terminal, "Console", lambda **_: Console(force_terminal=True, color_system="standard")
    )
    print_tables([tables_of(bad=trained_folds(0.5), good=trained_folds(3.0))["fine"]])
    shown = capsys.readouterr().out
    assert "\x1b[1;31m" in shown  # bold red
    assert "\x1b[4;34m" in shown  # underlined blue
    assert "Bold red: best" in shown


def test_html_marks_sorts_by_number_and_escapes() -> None:
    cells = {
        "<a>": {"F&1": Cell(61.25, 1.0, rank=1), "W": "1 < 2"},
        "b": {"F&1": Cell(NAN), "W": "–"},
    }
    table = ResultTable("t", "T", "caption", cells)
    text = html_table(table)
    assert '<th scope="row">&lt;a&gt;</th>' in text
    best = '<b class="best">61.2 ± 1.0</b>'
    assert f'<td class="value" data-value="61.25">{best}</td>' in text
    assert '<td class="words">1 &lt; 2</td>' in text
    assert "F&amp;1" in text
    assert "second best" in html_section(table)
    assert "second best" not in html_section(ResultTable("t", "T", "", {"a": {"x": "y"}}))


def test_frames_hold_text_and_intervals_under_their_own_names() -> None:
    frame = ResultTable(
        "t", "T", "", {"a": {"p": Cell(1.0, interval=(0.0, 2.0)), "w": "word"}}
    ).frame
    assert list(frame.columns) == [("p", "mean"), ("p", "low"), ("p", "high"), ("w", "text")]
    assert frame.loc["a", ("w", "text")] == "word"


def test_p_values_are_numbers_in_files_adjusted_and_not(tmp_path: Path) -> None:
    found = evidence({f"m{k}": trained_folds(k) for k in (0.0, 1.0, 3.0)})
    pairs = verdicts(found, MACRO_AUC)
    tables = verdict_tables(found, pairs, MACRO_AUC, "")
    write_report(tmp_path, "run", [], tables)
    read = pd.read_csv(tmp_path / "verdicts_all.csv", comment="#", index_col="pair")
    for pair in pairs:
        row = read.loc[f"{pair.first} vs {pair.second}"]
        assert row["p, adjusted"] == pair.adjusted
        assert row["p, unadjusted"] == pair.p
        assert row["Difference [95 % interval] low"] == 100 * pair.low
    assert any(pair.p != pair.adjusted for pair in pairs)
    assert "." in tables[-1].cells[read.index[0]]["p, adjusted"].text()


def test_columns_of_numbers_are_numbers_in_files_even_if_none_has_a_value(tmp_path: Path) -> None:
    found = evidence({"a": trained_folds(0.0, folds=2), "b": trained_folds(3.0, folds=2)}, 2)
    write_report(
        tmp_path, "run", [], verdict_tables(found, verdicts(found, MACRO_AUC), MACRO_AUC, "")
    )
    read = pd.read_csv(tmp_path / "verdicts_all.csv", comment="#", index_col="pair")
    for column in (
        "p, adjusted",
        "p, unadjusted",
        "Difference [95 % interval] mean",
    ):
        assert read[column].isna().all()
