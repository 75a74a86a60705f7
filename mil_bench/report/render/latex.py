"""Tables as LaTeX for booktabs and xcolor: best red and bold, second best blue and underlined."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mil_bench.report.tables import Cell, ResultTable, rank_of, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "–": "--",
    "−": "$-$",
}
_HEAD = "% needs \\usepackage{booktabs} and \\usepackage{xcolor}\n"
_MARKS = r" \textcolor{red}{\textbf{Best}}, \textcolor{blue}{\underline{second best}}."


def latex(run: str, tables: Sequence[ResultTable]) -> str:
    r"""All tables as ``table`` environments for ``\input``; they need booktabs and xcolor.

    Labels are ``tab:<run>-<table>``, so that one document can hold the tables of several runs.
    """
    return _HEAD + "\n".join(_environment(run, table) for table in tables)


def _environment(run: str, table: ResultTable) -> str:
    columns = table.columns
    marks = _MARKS if table.is_ranked else ""
    label = re.sub(r"[^A-Za-z0-9:.-]", "-", f"{run}-{table.name}")
    rows = [[_escaped(name), *map(_marked, row.values())] for name, row in table.cells.items()]
    alignment = "l" + "".join("l" if table.is_text(name) else "c" for name in columns)
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escaped(table.title)}. {_escaped(table.legend)}{marks}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(map(_escaped, [table.row_heading.capitalize(), *columns])) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _marked(cell: Cell | str) -> str:
    text = _escaped(text_of(cell))
    return {
        1: rf"\textcolor{{red}}{{\textbf{{{text}}}}}",
        2: rf"\textcolor{{blue}}{{\underline{{{text}}}}}",
    }.get(rank_of(cell), text)


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
