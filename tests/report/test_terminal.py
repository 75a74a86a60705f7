"""Tables at every width: whole, with no value, word or path broken."""

from __future__ import annotations

import itertools
import re
import sys

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from mil_bench.report.render import terminal
from mil_bench.report.render.markdown import markdown
from mil_bench.report.render.terminal import print_tables
from mil_bench.report.tables import Cell, ResultTable, ranked, text_of

WIDTHS = [60, 80, 120, 200]
METHODS = [
    "abmil",
    "hmil:align_bags=false,temperature=0.2",
    "clam-sb (from Lab A)",
    *(f"transformer:layers={n},learning_rate=0.0001" for n in range(17)),
]


def shown_at(
    width: int, table: ResultTable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> str:
    console = Console(force_terminal=True, color_system=None, width=width)
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    monkeypatch.setattr(type(console), "file", property(lambda _: sys.stdout))
    print_tables([table])
    return capsys.readouterr().out


def classwise(methods: int, classes: int) -> ResultTable:
    rng = np.random.default_rng(0)
    names = [f"class {n} of tumours" if n % 2 else f"IC{n}" for n in range(classes)]
    cells = {
        method: {name: Cell.of(rng.uniform(50, 100, 3).tolist()) for name in names}
        for method in METHODS[:methods]
    }
    return ResultTable("t", "Class-wise AUC (%)", "Dataset: toy.", ranked(cells, METHODS))


def pairs(methods: int) -> ResultTable:
    cells: dict[str, dict[str, Cell | str]] = {
        f"{a} vs {b}": {
            "Difference [95 % interval]": Cell(-12.3, interval=(-18.2, -7.4)),
            "p, adjusted": Cell.p_value(0.03),
            "Verdict": f"{a} is better",
        }
        for a, b in itertools.pairwise(METHODS[:methods])
    }
    return ResultTable("t", "Comparisons", "Dataset: toy.", cells, row_heading="pair")


def parts(text: str) -> list[str]:
    """What may not be broken in a name or a text."""
    return re.findall(r"[^\s,]+,?", text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("methods", [3, 20])
@pytest.mark.parametrize("classes", [2, 7, 9])
def test_a_table_of_classes_is_whole(
    width: int,
    methods: int,
    classes: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    table = classwise(methods, classes)
    shown = shown_at(width, table, monkeypatch, capsys)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert not re.search(r" $", shown, re.MULTILINE)
    for row, cells in table.cells.items():
        assert all(part in shown for part in parts(row))
        for name, cell in cells.items():
            assert text_of(cell) in shown
            assert all(word in shown for word in name.split())
    # A table goes on below, with all of its rows, only if a column did not fit.
    for name in ("abmil", "clam-sb"):
        lines = re.findall(rf"^{name}\b", shown, re.MULTILINE)
        assert len(lines) == 1 + shown.count(", continued")
    if (methods, width) == (3, 200):
        assert "continued" not in shown


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("methods", [3, 20])
def test_a_table_of_pairs_is_whole(
    width: int, methods: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    table = pairs(methods)
    shown = shown_at(width, table, monkeypatch, capsys)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert shown.count("-12.3 [-18.2, -7.4]") == len(table.cells)
    assert shown.count("better") == len(table.cells)
    assert all(part in shown for row in table.cells for part in parts(row))


def test_a_column_that_fits_nowhere_makes_the_table_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = "results/" + "x" * 60
    table = ResultTable("t", "T", "", {"run": {"folder": path, "folds": Cell.count(3)}})
    shown = shown_at(60, table, monkeypatch, capsys)
    assert f"\nrun\n  folder:\n    {path}\n  folds: 3\n" in shown


def test_a_pipe_gets_whole_tables_and_lines_at_any_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table = classwise(20, 9)
    note = "word " * 100
    print_tables([ResultTable("t", "T", note.strip(), table.cells)])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("abmil") for line in lines) == 1
    assert lines[-1].startswith(note.strip())
    for row, cells in table.cells.items():
        [line] = [line for line in lines if line.startswith(row)]
        assert all(text_of(cell) in line for cell in cells.values())
    assert "\x1b" not in "".join(lines)


def test_what_holds_for_all_tables_is_said_once_and_a_note_below_its_table(
    capsys: pytest.CaptureFixture,
) -> None:
    cells = {"a": {"x": "1"}}
    print_tables([ResultTable(name, name, "Dataset.", cells, note=f"{name}!") for name in "pq"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[-1] == "All tables: Dataset."
    assert [line for line in lines if line in ("p", "p!", "q", "q!")] == ["p", "p!", "q", "q!"]
    page = markdown("t", [], [ResultTable(name, name, "Dataset.", cells) for name in "pq"])
    assert page.count("Dataset.") == 1
