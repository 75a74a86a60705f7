"""Tables as HTML, for pages and notebooks: best bold, second best underlined."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from mil_bench.errors import one_line
from mil_bench.report.tables import (
    ABSENT,
    LINK,
    SIGNS,
    Cell,
    ResultTable,
    coarse_head_row,
    pair_row,
    rank_of,
    text_of,
)

_ADDRESS = re.compile(r"https://[^\s<>\"']+")
_MANY = 8  # headings of more methods are turned
_LONG = 40  # letters of a text that gets a wide column
_MARKS = {1: '<b class="best">{}</b>', 2: '<u class="second">{}</u>'}


Numbers = Mapping[str, tuple[int, ...]]
"""A row or column to the numbers of the methods that it is about."""


def html_table(
    table: ResultTable,
    numbers: Numbers = MappingProxyType({}),
    links: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A ``table`` element without heading or caption; cells hold the number they are sorted by.

    Args:
        table: the table.
        numbers: of the methods that a page can hide. The row or column that is about them has them
            as ``data-m``.
        links: name of a row to the page that it leads to.
    """
    kinds = {name: _kind(table, name) for name in table.columns}
    of_method = {n: _data(numbers.get(n, ())) for n in table.method_columns}
    marks = {name: f' class="{kind}"{of_method.get(name, "")}' for name, kind in kinds.items()}
    head = "".join(f'<th scope="col"{mark}>{_escaped(name)}</th>' for name, mark in marks.items())
    body = "".join(
        f'<tr{_data(numbers.get(name, ()))}><th scope="row">{_linked(name, links)}</th>'
        + "".join(
            f"<td{marks[column]}{_more(cell)}>{_shown(column, cell)}</td>"
            for column, cell in row.items()
        )
        + "</tr>"
        for name, row in table.cells.items()
    )
    first = f'<th scope="col">{_escaped(table.row_heading)}</th>'
    many = ' class="many"' if len(table.method_columns) > _MANY else ""
    return f"<table{many}><thead><tr>{first}{head}</tr></thead><tbody>{body}</tbody></table>"


def method_numbers(methods: Sequence[str]) -> Numbers:
    """Every row or column that can be about some methods to their numbers in ``methods``."""
    one = {name: (i,) for i, name in enumerate(methods)}
    heads = {coarse_head_row(name): (i,) for i, name in enumerate(methods)}
    pairs = {
        pair_row(first, second): (i, j)
        for i, first in enumerate(methods)
        for j, second in enumerate(methods)
    }
    return {**pairs, **heads, **one}


def by_rank(table: ResultTable, order: Sequence[str]) -> ResultTable:
    """A table with its methods in an order; further rows of a method follow it.

    Args:
        table: whose rows are sorted; one with other rows than methods stays as it is.
        order: the methods, the best first. Methods that are not among them are last.
    """
    if table.row_heading != "method":
        return table
    places = {method: place for place, method in enumerate(order)}
    places |= {coarse_head_row(method): place for method, place in places.items()}
    rows = sorted(table.cells, key=lambda row: places.get(row, len(order)))
    return replace(table, cells={row: table.cells[row] for row in rows})


def html_section(table: ResultTable) -> str:
    """A table with its heading and legend, for notebooks."""
    marks = (
        f" {_MARKS[1].format('Best')}, {_MARKS[2].format('second best')}."
        if table.is_ranked
        else ""
    )
    legend = f"<p><small>{_escaped(table.legend)}{marks}</small></p>"
    return f"<h4>{_escaped(table.title)}</h4>{html_table(table)}{legend}"


def _linked(name: str, links: Mapping[str, str]) -> str:
    text = _escaped(name)
    return f'<a href="{_escaped(links[name])}">{text}</a>' if name in links else text


def _kind(table: ResultTable, column: str) -> str:
    if not table.is_text(column):
        return "value"
    if table.is_signs:
        return "sign"
    longest = max((len(text_of(row[column])) for row in table.cells.values()), default=0)
    return "long" if longest > _LONG else "words"


def _data(numbers: Sequence[int]) -> str:
    return f' data-m="{" ".join(map(str, numbers))}"' if numbers else ""


def _more(cell: Cell | str) -> str:
    """The number a cell is sorted by, the sign that it shows, and what pointing at it says."""
    if isinstance(cell, str):
        sign = f' data-sign="{_escaped(cell)}"' if cell in SIGNS else ""
        return sign + (' title="There is no such value."' if cell == ABSENT else "")
    why = _reason(cell)
    return f' data-value="{cell.mean:.10g}"' + (f' title="{_escaped(why)}"' if why else "")


def _reason(cell: Cell) -> str:
    """Why a cell has no value, or what else is known of it; "" for nothing."""
    if cell.why or cell.words:
        return cell.why
    folds = ", ".join(map(str, cell.undefined_folds))
    if folds:
        return f"Undefined in fold {folds}: not every class that it needs has a test slide there."
    return "No result is stored." if math.isnan(cell.mean) else ""


def _shown(column: str, cell: Cell | str) -> str:
    if column == LINK and isinstance(cell, str) and _ADDRESS.fullmatch(cell):
        shown = cell.removeprefix("https://")
        return f'<a href="{_escaped(cell)}" rel="noreferrer">{_escaped(shown)}</a>'
    is_empty = not isinstance(cell, str) and not cell.words and math.isnan(cell.mean)
    return _MARKS.get(rank_of(cell), "{}").format(ABSENT if is_empty else _escaped(text_of(cell)))


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
