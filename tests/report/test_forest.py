"""The forest plot: order, band, intervals, dots, and names that a user chose."""

from __future__ import annotations

from html import unescape
from xml.etree import ElementTree as ET

import numpy as np
from made_runs import evidence, run_result, trained_folds

from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.verdicts import verdicts
from mil_bench.report.overview.forest import NARROW, WIDE, Forest

AUC = Measure("fine", "macro_auc")
NUMBERS = {"a": (0,), "b": (1,)}
SVG = "{http://www.w3.org/2000/svg}"


def forest_of(**skills: float) -> Forest:
    methods = {name.replace("_", " "): trained_folds(skill) for name, skill in skills.items()}
    measured = evidence(methods)
    forest = Forest.of(measured, verdicts(measured, AUC), AUC)
    assert forest is not None
    return forest


def test_rows_are_sorted_by_their_mean_and_yardsticks_have_no_rank() -> None:
    forest = forest_of(bad=0.3, lookup=0.0, good=3.0, fair=1.5)
    assert [(row.method, row.rank) for row in forest.rows] == [
        ("good", 1),
        ("fair", 2),
        ("bad", 3),
        ("lookup", None),
    ]
    means = [row.mean for row in forest.rows]
    assert means == sorted(means, reverse=True)


def test_the_band_holds_the_best_and_what_is_not_shown_to_be_worse() -> None:
    forest = forest_of(good=3.0, near=2.9, bad=0.0)
    assert [row.alike for row in forest.rows] == [True, True, False]
    assert "worse than the best" in forest.rows[2].words
    assert "not shown to be worse than the best" in forest.caption
    assert "Shaded: the best." in forest_of(good=3.0, bad=0.0).caption


def test_dots_and_intervals_are_those_of_the_evidence() -> None:
    measured = evidence({"a": trained_folds(1.0), "b": trained_folds(2.0)})
    forest = Forest.of(measured, verdicts(measured, AUC), AUC)
    assert forest is not None
    row = forest.rows[0]
    assert list(row.folds.values()) == [100 * v for v in measured.by_fold("b", AUC)]
    assert np.isclose(row.mean, np.mean(list(row.folds.values())))
    assert row.interval is not None
    assert row.interval[0] < row.mean < row.interval[1]
    root = ET.fromstring(forest.svg(WIDE, "x", NUMBERS))
    group = root.find(f"{SVG}g[@data-m='1']")
    small = [c for c in group.findall(f"{SVG}circle") if c.get("r") == "3.2"]
    assert [c.find(f"{SVG}title").text for c in small] == [
        f"b, fold {k}: {v:.1f}" for k, v in row.folds.items()
    ]
    assert all(0 <= float(c.get("cx")) <= WIDE for c in root.iter(f"{SVG}circle"))


def test_a_metric_of_which_less_is_better_has_its_lowest_first() -> None:
    measured = evidence({"bad": trained_folds(0.0), "good": trained_folds(3.0)})
    loss = Measure("fine", "nll")
    forest = Forest.of(measured, verdicts(measured, loss), loss)
    assert forest is not None
    assert [row.method for row in forest.rows] == ["good", "bad"]
    assert "Lower is better." in forest.caption


def test_a_name_is_text_whatever_it_holds_and_a_long_one_is_shortened() -> None:
    name = "</svg><script>alert(1)</script>\x07 & a long tail"
    measured = evidence({name: trained_folds(1.0), "b": trained_folds(2.0)})
    forest = Forest.of(measured, verdicts(measured, AUC), AUC)
    assert forest is not None
    for width in (WIDE, NARROW):
        drawn = forest.svg(width, "x", {name: (0,), "b": (1,)})
        assert "<script" not in drawn
        root = ET.fromstring(drawn)
        texts = [text.text for text in root.iter(f"{SVG}text")]
        assert any(text.startswith("</svg><scr") and "…" in text for text in texts)
        assert "\\x07 & a long tail" in unescape(drawn)


def test_a_run_whose_methods_have_equal_values_or_none_has_a_page() -> None:
    same = run_result({"a": trained_folds(1.0), "b": trained_folds(1.0)})
    forest = Forest.of(same.evidence, same.verdicts, same.measure)
    assert forest is not None
    assert [row.rank for row in forest.rows] == [1, 2]
    none = run_result({"a": (), "b": ()})
    assert Forest.of(none.evidence, none.verdicts, none.measure) is None
