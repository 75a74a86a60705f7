"""Tables on a terminal: best bold, second best underlined."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from mil_bench.evaluation.tables import Cell, Table

_STYLE = {0: "", 1: "bold", 2: "underline"}
_SIGN = {0: " ", 1: "*", 2: "+"}
_NARROWEST = 120  # a file or pipe has no width of its own; seven classes fit into this


def print_tables(tables: Sequence[Table]) -> None:
    """Print all tables to standard output; the caption once, since all tables of a run share it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _NARROWEST))
    for table in tables:
        console.print(Text(table.title, style="bold"), end="")
        grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        grid.add_column("method", no_wrap=True)
        for name in table.columns:
            grid.add_column(name, justify="right")
        for method, row in table.cells.items():
            grid.add_row(method, *(_marked(cell, console.is_terminal) for cell in row.values()))
        console.print(grid)
    shared = tables[0].caption
    notes = [t.caption.removeprefix(shared).strip() for t in tables]
    legend = "Bold: best; underlined: second best." if console.is_terminal else "*: best; +: second best."
    console.print(Text(" ".join(dict.fromkeys([shared, *filter(None, notes), legend]))))


def _marked(cell: Cell, styled: bool) -> Text:
    """Bold and underlined on a terminal; signs where text is all there is."""
    return Text(cell.text(), style=_STYLE[cell.rank]) if styled else Text(cell.text() + _SIGN[cell.rank])
