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

_LONG_NAME = 70
_WIDEST_TEXT = 30  # letters of a text that are wanted in one line
_GAP = 2  # between columns


def print_tables(tables: Sequence[ResultTable]) -> None:
    """Print all tables to standard output, then their captions and notes, each of them once."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _NARROWEST))
    styled = console.is_terminal and console.color_system is not None
    for table in tables:
        console.print(Text(one_line(table.title), style="bold"), end="")
        for columns in _blocks(table, console.width):
            console.print(_grid(table, columns, console.width, styled))
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


def _blocks(table: ResultTable, width: int) -> list[list[str]]:
    """The columns in groups that fit a width, as no value is legible if it is broken in two."""
    blocks: list[list[str]] = [[]]
    rest = width - 3 - min(max(map(len, table.cells), default=0), _longest_name(width))
    left = rest
    for name in table.columns:
        needed = _needed(table, name) + _GAP
        if needed > left and blocks[-1]:
            blocks.append([])
            left = rest
        blocks[-1].append(name)
        left -= needed
    return blocks


def _needed(table: ResultTable, name: str) -> int:
    """Letters that a column needs; a heading and a text can be broken between words."""
    texts = [text_of(row[name]) for row in table.cells.values()]
    widest = max(map(len, texts), default=0) + 1  # for the sign of the best
    if table.is_text(name):
        widest = min(_WIDEST_TEXT, widest)
    return max(widest, *map(len, name.split() or [""]), 0)


def _longest_name(width: int) -> int:
    """Longest name of a row that is in one line; a longer one would leave no room for values."""
    return min(_LONG_NAME, width // 2)


def _grid(table: ResultTable, columns: Sequence[str], width: int, styled: bool) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    longest = _longest_name(width)
    short = max(map(len, table.cells), default=0) <= longest
    # Text, not str: rich would read "[x]" in a str as a style.
    grid.add_column(Text(table.row_heading), no_wrap=short, max_width=longest, overflow="fold")
    for name in columns:
        is_text = table.is_text(name)
        grid.add_column(
            Text(one_line(name)),
            justify="left" if is_text else "right",
            min_width=None if is_text else _needed(table, name),
        )
    for row, cells in table.cells.items():
        grid.add_row(Text(one_line(row)), *(_marked(cells[name], styled) for name in columns))
    return grid


def _marked(cell: Cell | str, styled: bool) -> Text:
    """With colours on a terminal, else with signs."""
    text, rank = one_line(text_of(cell)), rank_of(cell)
    if isinstance(cell, str):
        return Text(text)
    return Text(text, style=_STYLE[rank]) if styled else Text(text + _SIGN[rank])
