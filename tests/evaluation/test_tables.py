from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.evaluation.metrics import level_metrics
from mil_bench.evaluation.predictions import Predictions
from mil_bench.evaluation.report import write_report
from mil_bench.evaluation.report.terminal import print_tables
from mil_bench.evaluation.tables import Cell, Table, Trial, result_tables

HIERARCHY = LabelHierarchy.from_groups({"left": ["l0", "l1"], "right": ["r0", "r1"]})


def predictions(seed: int, skill: float, labels: np.ndarray | None = None) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % 4 if labels is None else labels
    logits = skill * np.eye(4)[labels] + rng.standard_normal((len(labels), 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(np.array([f"s{i}" for i in range(len(labels))]), labels, p)


def trials(skill: float, folds: int = 3, **changed: np.ndarray) -> tuple[Trial, ...]:
    return tuple(Trial(0, k, f"key{skill}", predictions(k, skill, changed.get(f"fold{k}"))) for k in range(folds))


def tables_of(**methods: tuple[Trial, ...]) -> dict[str, Table]:
    return {t.name: t for t in result_tables(methods, 3, HIERARCHY, "Dataset: toy.")}


def test_cells_are_mean_and_sample_standard_deviation_over_folds() -> None:
    good = trials(2.0)
    table = tables_of(good=good)["fine"]
    values = [100 * level_metrics(t.predictions.labels, t.predictions.fine).values["macro_auc"] for t in good]
    cell = table.cells["good"]["Macro AUC"]
    assert cell.mean == pytest.approx(np.mean(values))
    assert cell.std == pytest.approx(np.std(values, ddof=1))
    assert cell.text() == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def test_the_coarse_table_is_made_from_lifted_probabilities() -> None:
    good = trials(2.0)
    lifted = [
        100 * level_metrics(t.predictions.labels // 2, t.predictions.fine.reshape(-1, 2, 2).sum(2)).values["accuracy"]
        for t in good
    ]
    assert tables_of(good=good)["coarse"].cells["good"]["Accuracy"].mean == pytest.approx(np.mean(lifted))


def test_best_and_second_best_are_marked_and_equal_means_share_a_rank() -> None:
    table = tables_of(bad=trials(0.5), good=trials(3.0), twin=trials(3.0), worst=trials(0.0))["fine"]
    ranks = {method: row["Macro AUC"].rank for method, row in table.cells.items()}
    assert ranks == {"good": 1, "twin": 1, "bad": 2, "worst": 0}


def test_an_incomplete_method_is_shown_but_not_ranked() -> None:
    table = tables_of(part=trials(5.0, folds=2), whole=trials(1.0))["fine"]
    assert table.cells["part"]["Accuracy"].rank == 0
    assert table.cells["whole"]["Accuracy"].rank == 1


def test_a_class_absent_from_a_test_fold_is_undefined_with_the_folds_number() -> None:
    without = np.arange(39) % 3
    tables = tables_of(m=trials(2.0, fold1=without))
    cell = tables["classwise_auc"].cells["m"]["r1"]
    assert cell.undefined_folds == (1,)
    assert cell.text().endswith("(undefined in fold 1)")
    assert tables["classwise_auc"].cells["m"]["l0"].undefined_folds == ()
    assert tables["fine"].cells["m"]["Macro AUC"].undefined_folds == (1,)
    assert tables["coarse"].cells["m"]["Macro AUC"].undefined_folds == ()


def test_a_figure_undefined_in_every_fold_is_no_number() -> None:
    assert Cell(float("nan"), float("nan"), (0, 1)).text() == "undefined in folds 0, 1"
    assert Cell(float("nan"), float("nan")).text() == "no result"


def test_one_training_gives_no_spread() -> None:
    table = {t.name: t for t in result_tables({"m": trials(2.0, folds=1)}, 1, HIERARCHY, "")}["fine"]
    assert "±" not in table.cells["m"]["Accuracy"].text()


def test_a_method_without_any_result_has_its_row() -> None:
    tables = tables_of(whole=trials(1.0), none=())
    assert tables["fine"].cells["none"]["Accuracy"].text() == "no result"


def test_a_flat_hierarchy_has_no_coarse_table() -> None:
    names = [t.name for t in result_tables({"m": trials(1.0)}, 3, LabelHierarchy.flat("abcd"), "")]
    assert names == ["fine", "classwise_auc"]


def test_every_row_names_its_jobs() -> None:
    assert tables_of(good=trials(2.0))["fine"].job_keys == {"good": ("key2.0",)}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    tables = list(tables_of(bad_name=trials(0.5, fold1=np.arange(39) % 3), good=trials(3.0)).values())
    write_report(tmp_path, "toy", ["bad_name: 1 of 3"], tables)
    return tmp_path


def test_the_markdown_page_holds_all_tables_with_marks_and_caption(report: Path) -> None:
    page = (report / "report.md").read_text()
    assert page.count("Dataset: toy.") == 4
    assert "**" in page
    assert "<u>" in page
    assert "undefined in fold 1" in page
    assert "- bad_name: 1 of 3" in page


def test_the_csv_reads_back_as_the_frame(report: Path) -> None:
    frame = pd.read_csv(report / "fine.csv", comment="#", index_col="method")
    expected = tables_of(good=trials(3.0))["fine"].frame.loc["good", ("Macro AUC", "mean")]
    assert frame.loc["good", "Macro AUC mean"] == pytest.approx(expected, abs=1e-4)
    assert frame.loc["bad_name", "Macro AUC undefined folds"] == 1
    assert frame.loc["good", "jobs"] == "key3.0"


def test_the_latex_escapes_names_and_uses_booktabs(report: Path) -> None:
    text = (report / "tables.tex").read_text()
    assert r"bad\_name" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 4
    assert r"\textbf{" in text
    assert "±" not in text


def test_the_latex_compiles(report: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no TeX engine on this machine")
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{tables}\end{document}"
    (report / "page.tex").write_text(document)
    subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=report, check=True, capture_output=True)
    assert (report / "page.pdf").exists()


def test_the_terminal_shows_every_figure_and_the_caption_once(capsys: pytest.CaptureFixture) -> None:
    tables = list(tables_of(bad=trials(0.5), good=trials(3.0)).values())
    print_tables(tables)
    shown = capsys.readouterr().out
    assert shown.count("Dataset: toy.") == 1
    for table in tables:
        assert table.title in shown
        assert all(cell.text() in shown for row in table.cells.values() for cell in row.values())


def test_predictions_survive_the_round_trip_and_always_give_the_same_bytes(tmp_path: Path) -> None:
    made = predictions(0, 1.0)
    contents = []
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            made.write(file)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    read = Predictions.read(contents[0])
    assert (read.fine == made.fine).all()
    assert (read.slides == made.slides).all()
    assert read.coarse_head is None
