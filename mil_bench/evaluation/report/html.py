"""Tables as HTML, for notebooks: best bold, second best underlined."""

from __future__ import annotations

from html import escape

from mil_bench.evaluation.tables import Cell, Table


def html_table(table: Table) -> str:
    """A table with its heading and caption."""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("method", *table.columns))
    body = "".join(
        f"<tr><td>{escape(method)}</td>{''.join(map(_marked, row.values()))}</tr>"
        for method, row in table.cells.items()
    )
    legend = f"{escape(table.caption)} <b>Best</b>, <u>second best</u>."
    return f"<h4>{escape(table.title)}</h4><table><tr>{head}</tr>{body}</table><p>{legend}</p>"


def _marked(cell: Cell) -> str:
    text = escape(cell.text())
    return "<td>" + {1: f"<b>{text}</b>", 2: f"<u>{text}</u>"}.get(cell.rank, text) + "</td>"
