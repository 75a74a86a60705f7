"""Tables as HTML, for pages and notebooks: best bold, second best underlined."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.errors import one_line
from mil_bench.report.tables import Cell, ResultTable, coarse_head_row, rank_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MARKS = {1: '<b class="best">{}</b>', 2: '<u class="second">{}</u>'}


def html_table(table: ResultTable) -> str:
    """A ``table`` element without heading or caption; cells hold the number they are sorted by."""
    text = "sign" if table.colours else "words"
    kinds = [text if table.is_text(name) else "value" for name in table.columns]
    head = "".join(
        f'<th scope="col" class="{kind}">{_escaped(name)}</th>'
        for name, kind in zip(table.columns, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{_escaped(name)}</th>'
        f"{_cells(row.values(), kinds, table.colours)}</tr>"
        for name, row in table.cells.items()
    )
    first = f'<th scope="col">{_escaped(table.row_heading)}</th>'
    return f"<table><thead><tr>{first}{head}</tr></thead><tbody>{body}</tbody></table>"


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


def _cells(cells: Iterable[Cell | str], kinds: Sequence[str], colours: Mapping[str, str]) -> str:
    return "".join(
        f'<td class="{kind}"{_more(cell, colours)}>{_marked(cell)}</td>'
        for cell, kind in zip(cells, kinds, strict=True)
    )


def _more(cell: Cell | str, colours: Mapping[str, str]) -> str:
    """The number a cell is sorted by, or the colour of a sign."""
    if not isinstance(cell, str):
        return f' data-value="{cell.mean:.10g}"'
    return f' style="background:{colours[cell]}"' if cell in colours else ""


def _marked(cell: Cell | str) -> str:
    return _MARKS.get(rank_of(cell), "{}").format(_escaped(text_of(cell)))


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
