"""Tables on a terminal: the best red and bold, the second best blue; signs without colours.

Every table is whole at any width, by one rule. Columns that do not fit beside the names of the rows
follow in further tables with the same rows. If a column does not fit by itself, the table becomes a
list of its rows. No value, word or path is broken; text is broken between words, and the name of a
row after a comma. What is no terminal has no width: there, tables are as wide as they are.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from mil_bench.errors import one_line
from mil_bench.report.tables import Cell, ResultTable, common_caption, rank_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STYLE = {0: "", 1: "bold red", 2: "underline blue"}
_SIGN = {0: " ", 1: "*", 2: "+"}
_UNLIMITED = 100_000

_WIDEST_TEXT = 30  # letters of a text that are wanted in one line
_GAP = 2  # between columns
_INDENT = "  "
_END = 1  # after the last column
_BREAKS = re.compile(r"[^\s,]+,?|,")
"""Parts of a text that are not broken: words, and settings (``a=1,``)."""


def print_tables(tables: Sequence[ResultTable]) -> None:
    """Print all tables to standard output, each with its note, then what holds for all of them.

    A note or caption that several tables have is printed once.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_UNLIMITED)
    styled = console.is_terminal and console.color_system is not None
    notes: set[str] = {""}
    for table in tables:
        title, signed = one_line(table.title), table.is_ranked and not styled
        layout = _layout(table, console.width, signed)
        for i, widths in enumerate(layout):
            _print(console, Text(f"{title}, continued" if i else title, style="bold"))
            _print(console, _grid(table, widths, signed))
            console.file.write("\n")
        if not layout:
            _print(console, Text(title, style="bold"))
            _print(console, _list(table, console.width, signed), soft_wrap=True)
        if table.note not in notes:
            _print(console, Text(f"{one_line(table.note)}\n"))
            notes.add(table.note)
    legend = (
        "Bold red: best; underlined blue: second best; no mark of significance."
        if styled
        else "*: best; +: second best; no mark of significance."
    )
    common = common_caption(tables)
    captions = [f"All tables: {common}"] if common else [t.caption for t in tables]
    texts = [legend if any(t.is_ranked for t in tables) else "", *captions]
    for text in dict.fromkeys(filter(None, texts)):
        _print(console, Text(one_line(text)))


def _print(console: Console, content: Grid | Text, soft_wrap: bool = False) -> None:
    """Print without blanks at the ends of lines."""
    with console.capture() as captured:
        console.print(content, soft_wrap=soft_wrap)
    lines = captured.get().split("\n")
    console.file.write("\n".join(line.rstrip() for line in lines))


def _layout(table: ResultTable, width: int, signed: bool) -> list[dict[str, int]]:
    """Widths of the columns of each table that is printed, "" for the names; [] for a list."""
    names = _names_width(table, width)
    blocks: list[dict[str, int]] = []
    left = 0
    for name in table.columns:
        needed = _needed(table, name, signed)
        if needed + _GAP > left:
            left = width - names - _END
            blocks.append({"": names})
        if needed + _GAP > left:
            return []
        blocks[-1][name] = needed
        left -= needed + _GAP
    for block in blocks:
        _widen(table, block, width)
    return blocks or [{"": names}]


def _names_width(table: ResultTable, width: int) -> int:
    """Columns for the names of rows: at most half of the width, unless a part needs more."""
    parts = _widest([table.row_heading, *table.cells], whole=False)
    return max(parts, min(_widest(table.cells, whole=True), width // 2))


def _widest(texts: Iterable[str], whole: bool) -> int:
    """Columns of the widest text, or of the widest part of one that is not broken."""
    lines = map(one_line, texts)
    parts = lines if whole else (part for line in lines for part in _BREAKS.findall(line))
    return max(map(cell_len, parts), default=0)


def _needed(table: ResultTable, name: str, signed: bool) -> int:
    """Columns that a table's column needs; a heading and a text can be broken between words."""
    texts = [text_of(row[name]) for row in table.cells.values()]
    heading = _widest([name], whole=False)
    if table.is_text(name):
        longest = min(_WIDEST_TEXT, _widest(texts, whole=True))
        return max(heading, longest, _widest(texts, whole=False))
    return max(heading, _widest(texts, whole=True) + signed)


def _widen(table: ResultTable, block: dict[str, int], width: int) -> None:
    """Give columns that would be broken what is left of the width, one after another."""
    left = width - sum(block.values()) - _GAP * (len(block) - 1) - _END
    for name in block:
        texts = [text_of(row[name]) for row in table.cells.values()] if name else table.cells
        wanted = _widest([name or table.row_heading, *texts], whole=True)
        more = max(0, min(left, wanted - block[name]))
        block[name] += more
        left -= more


def _grid(table: ResultTable, widths: Mapping[str, int], signed: bool) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    # Text, not str: rich would read "[x]" in a str as a style.
    for name, width in widths.items():
        heading = name or table.row_heading
        is_left = not name or table.is_text(name)
        grid.add_column(
            Text(_broken(one_line(heading), width)),
            justify="left" if is_left else "right",
            min_width=width,
            no_wrap=True,
        )
    for row, cells in table.cells.items():
        values = (_marked(cells[name], signed, widths[name]) for name in widths if name)
        grid.add_row(Text(_broken(one_line(row), widths[""])), *values)
    return grid


def _list(table: ResultTable, width: int, signed: bool) -> Text:
    """Each row with its values below."""
    lines = Text()
    for row, cells in table.cells.items():
        lines.append(f"\n{_broken(one_line(row), width)}\n")
        for name, cell in cells.items():
            value = _marked(cell, signed)
            if isinstance(cell, str):  # only text can be wider than a line
                within = _broken(f"{one_line(name)}: {value}", width - 2 * len(_INDENT))
                lines.append(textwrap.indent(within, 2 * _INDENT).removeprefix(_INDENT))
            else:
                lines.append(f"{_INDENT}{one_line(name)}: ").append_text(value)
            lines.append("\n")
    return lines


def _broken(text: str, width: int) -> str:
    """A text in lines of at most so many columns; its parts stay whole."""
    if cell_len(text) <= width:
        return text
    lines, end = [""], 0
    for part in _BREAKS.finditer(text):
        longer = lines[-1] + text[end : part.end()]
        if cell_len(longer) > width and lines[-1]:
            longer = part[0]
            lines.append("")
        lines[-1], end = longer, part.end()
    return "\n".join(lines)


def _marked(cell: Cell | str, signed: bool, width: int = _UNLIMITED) -> Text:
    """A cell with the mark of its rank: a sign, or a colour."""
    text, rank = one_line(text_of(cell)), rank_of(cell)
    if isinstance(cell, str):
        return Text(_broken(text, width))
    return Text(text + _SIGN[rank]) if signed else Text(text, style=_STYLE[rank])
