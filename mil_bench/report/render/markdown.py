"""Tables as Markdown: best bold, second best underlined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.report.tables import Cell, ResultTable, rank_of, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def markdown(title: str, facts: Sequence[str], tables: Sequence[ResultTable]) -> str:
    """A page with all tables."""
    parts = [f"# {title}\n"]
    if facts:
        parts.append("".join(f"- {fact}\n" for fact in facts))
    for table in tables:
        marks = " **Best**, <u>second best</u>." if table.is_ranked else ""
        parts.append(f"## {table.title}\n\n{_grid(table)}\n{table.legend}{marks}\n")
    return "\n".join(parts)


def _grid(table: ResultTable) -> str:
    head = [table.row_heading, *table.columns]
    rows = [[name, *map(_marked, row.values())] for name, row in table.cells.items()]
    lines = [[text.replace("|", r"\|") for text in line] for line in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    # A colon at the right end aligns a column to the right.
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, rule)
    return "".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


def _marked(cell: Cell | str) -> str:
    text = text_of(cell)
    return {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(rank_of(cell), text)
