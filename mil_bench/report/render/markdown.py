"""Tables as Markdown: best bold, second best underlined."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from mil_bench.errors import one_line
from mil_bench.report.tables import Cell, ResultTable, common_caption, rank_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_MARKUP = re.compile(
    r"""[\\`*~$]                     # anywhere
    | (?<![^\W_])_ | _(?![^\W_])     # beside a word; inside of one it is a letter
    | <(?=[\w/!?])                   # begins a tag; with a blank after it, it is "less than"
    | &(?=[\w#])                     # begins a character reference
    | ^[>\[] | ^\#(?=[\s\#]|$)       # begins a quotation, a checkbox, a heading
    | ^[+\-](?=[\s\-]|$) | ^[*](?=\s|$) | ^\d{1,9}(?=[.)](?:\s|$))  # begins a list
    | !(?=\[) | \[(?=\^) | \](?=[(\[:])  # makes an image, a footnote, a link
    """,
    re.VERBOSE,
)
"""What Markdown would not show as it is. Numbers and intervals stay readable without it."""

_PAIRED = "`*~$_"
"""One of these alone is a letter."""


def markdown(
    title: str,
    facts: Sequence[str],
    tables: Sequence[ResultTable],
    links: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A page with all tables; all texts are shown as they are, whatever they hold.

    Args:
        title: heading.
        facts: lines before the tables.
        tables: the tables.
        links: name of a row to the page that it leads to.
    """
    parts = [f"# {plain(title)}\n"]
    if facts:
        parts.append("".join(f"- {plain(fact)}\n" for fact in facts))
    common = common_caption(tables)
    if common:
        parts.append(f"All tables: {plain(common)}\n")
    for table in tables:
        marks = " **Best**, <u>second best</u>." if table.is_ranked else ""
        legend = f"{plain(table.note if common else table.legend)}{marks}".strip()
        below = f"\n{legend}\n" * bool(legend)
        parts.append(f"## {plain(table.title)}\n\n{_grid(table, links)}{below}")
    return "\n".join(parts)


def plain(text: str) -> str:
    """A text that Markdown shows as it is."""
    line = one_line(text)
    return _MARKUP.sub(lambda found: _escaped(found[0], line), line)


def _escaped(markup: str, line: str) -> str:
    if markup in _PAIRED and line.count(markup) == 1 and line.split()[:1] != ["*"]:
        return markup
    # A number at the beginning of a list: its point is escaped, not its digits.
    return markup + "\\" if markup.isdigit() else "\\" + markup


def _grid(table: ResultTable, links: Mapping[str, str]) -> str:
    head = [plain(table.row_heading), *map(plain, table.columns)]
    rows = [
        [_linked(name, links), *map(_marked, row.values())] for name, row in table.cells.items()
    ]
    lines = [[text.replace("|", r"\|") for text in line] for line in (head, *rows)]
    widths = [max(2, *(len(line[i]) for line in lines)) for i in range(len(head))]
    # A colon at the right end aligns a column to the right.
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, rule)
    return "".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


def _linked(name: str, links: Mapping[str, str]) -> str:
    return f"[{plain(name)}]({links[name]})" if name in links else plain(name)


def _marked(cell: Cell | str) -> str:
    text = plain(text_of(cell))
    return {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(rank_of(cell), text)
