"""Published values next to ours, on made-up values."""

from __future__ import annotations

import math

from mil_bench.papers.published import Named, Published, alone, published_beside
from mil_bench.report.tables import Cell, ResultTable

TABLE = ResultTable(
    "fine",
    "T",
    "caption",
    {
        "hmil": {"Accuracy": Cell(57.1, 2.0), "Macro F1": Cell(40.0)},
        "abmil": {"Accuracy": Cell(50.0, 1.0), "Macro F1": Cell(30.0)},
    },
)
COLUMNS = {"Accuracy": "accuracy", "Macro F1": "macro_f1"}
PUBLISHED = Published(
    row="hmil",
    dataset="bracs",
    standing="second-hand",
    source="a note",
    values={"accuracy": 55.6},
)
NAMED = Named(rows=["abmil"], not_built_in=["hipt"], standing="second-hand", source="the same note")


def test_a_published_value_is_next_to_ours_with_its_standing_and_the_difference() -> None:
    table = published_beside(TABLE, COLUMNS, [PUBLISHED])
    assert table.columns == ["Accuracy", "Accuracy, published", "Macro F1"]
    assert table.cells["hmil"]["Accuracy, published"].text() == "55.6 second-hand (ours +1.5)"
    assert table.frame.loc["hmil", ("Accuracy, published", "value")] == 55.6
    assert table.cells["abmil"]["Accuracy, published"].text() == "not available"
    assert table.cells["hmil"]["Accuracy"] == TABLE.cells["hmil"]["Accuracy"]
    assert "hmil: second-hand, a note" in table.note


def test_a_published_value_without_ours_has_no_difference() -> None:
    cells = {"hmil": {"Accuracy": Cell(math.nan)}}
    table = published_beside(
        ResultTable("fine", "T", "", cells), {"Accuracy": "accuracy"}, [PUBLISHED]
    )
    assert table.cells["hmil"]["Accuracy, published"].text() == "55.6 second-hand"


def test_without_a_source_there_is_no_published_column_and_the_note_says_so() -> None:
    table = published_beside(TABLE, COLUMNS, [])
    assert table.columns == ["Accuracy", "Macro F1"]
    assert "not available" in table.note


def test_simulated_data_are_never_next_to_published_values() -> None:
    table = alone(TABLE, ["Macro F1"])
    assert table.columns == ["Macro F1"]
    assert "not comparable with simulated data" in table.note


def test_a_method_that_is_named_without_values_gets_none() -> None:
    table = published_beside(TABLE, COLUMNS, [PUBLISHED], NAMED)
    published = "Accuracy, published"
    assert table.cells["abmil"][published].text() == "named second-hand, no value"
    assert table.cells["hmil"][published].text() == "55.6 second-hand (ours +1.5)"
    assert "Named without values: abmil, hipt (second-hand, the same note)." in table.note


def test_a_method_that_mil_bench_lacks_has_a_row_without_any_number() -> None:
    table = published_beside(TABLE, COLUMNS, [PUBLISHED], NAMED)
    assert {heading: cell.text() for heading, cell in table.cells["hipt"].items()} == {
        "Accuracy": "not built in",
        "Accuracy, published": "named second-hand, no value",
        "Macro F1": "not built in",
    }
    assert table.frame.loc["hipt"].isna().all()
    assert "mil-bench lacks hipt." in table.note
    assert "hipt" not in published_beside(TABLE, COLUMNS, [PUBLISHED]).cells
