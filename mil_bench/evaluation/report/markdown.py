"""Tables as Markdown: best bold, second best underlined."""

from __future__ import annotations

from collections.abc import Sequence

from mil_bench.evaluation.tables import Cell, Table


def markdown(title: str, facts: Sequence[str], tables: Sequence[Table]) -> str:
    """A page with all tables."""
    parts = [f"# {title}\n"]
    if facts:
        parts.append("".join(f"- {fact}\n" for fact in facts))
    for table in tables:
        parts.append(f"## {table.title}\n\n{_grid(table)}\n{table.caption} **Best**, <u>second best</u>.\n")
    return "\n".join(parts)


def _grid(table: Table) -> str:
    head = ["method", *table.columns]
    rows = [[method, *map(_marked, row.values())] for method, row in table.cells.items()]
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |\n" for line in lines)


def _marked(cell: Cell) -> str:
    return {1: f"**{cell.text()}**", 2: f"<u>{cell.text()}</u>"}.get(cell.rank, cell.text())
