"""Tables on a terminal: the best red and bold, the second best blue; signs without colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from mil_bench.errors import one_line
from mil_bench.report.tables import Cell, ResultTable, rank_of, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_STYLE = {0: "", 1: "bold red", 2: "underline blue"}
_SIGN = {0: " ", 1: "*", 2: "+"}
_NARROWEST = 120  # for files and pipes, which have no width; wide enough for seven classes

_LONG_NAME = 70  # a longer one is broken into lines, or there would be no room for values


def print_tables(tables: Sequence[ResultTable]) -> None:
    """Print all tables to standard output, then their captions and notes, each of them once."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _NARROWEST))
    styled = console.is_terminal and console.color_system is not None
    for table in tables:
        console.print(Text(one_line(table.title), style="bold"), end="")
        grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        # Text, not str: rich would read "[x]" in a str as a style.
        short = max(map(len, table.cells), default=0) <= _LONG_NAME
        grid.add_column(Text(table.row_heading), no_wrap=short)
        for name in table.columns:
            grid.add_column(
                Text(one_line(name)), justify="left" if table.is_text(name) else "right"
            )
        for name, row in table.cells.items():
            grid.add_row(Text(one_line(name)), *(_marked(cell, styled) for cell in row.values()))
        console.print(grid)
    legend = (
        "Bold red: best; underlined blue: second best; no mark of significance."
        if styled
        else "*: best; +: second best; no mark of significance."
    )
    texts = [
        *(t.caption for t in tables),
        *(t.note for t in tables),
        legend if any(t.is_ranked for t in tables) else "",
    ]
    console.print(Text(one_line(" ".join(dict.fromkeys(filter(None, texts))))))


def _marked(cell: Cell | str, styled: bool) -> Text:
    """With colours on a terminal, else with signs."""
    text, rank = one_line(text_of(cell)), rank_of(cell)
    if isinstance(cell, str):
        return Text(text)
    return Text(text, style=_STYLE[rank]) if styled else Text(text + _SIGN[rank])
