"""Tables as LaTeX for booktabs and xcolor: best red and bold, second best blue and underlined."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mil_bench.errors import one_line
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
    "\N{ZERO WIDTH SPACE}": "{}",  # between two hyphens, which would be a dash
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
}
_HEAD = "% needs \\usepackage{booktabs} and \\usepackage{xcolor}\n"
_OTHER_LETTERS = (
    "% Some names have letters that pdflatex lacks: use lualatex or xelatex, with a font that has "
    "them.\n"
)
_PDFLATEX_LACKS = re.compile("[^\\x00-\u024f‘’“”…—]")
"""Letters beyond Latin; what ``_SPECIAL`` replaces is no longer there."""
_MARKS = r" \textcolor{red}{\textbf{Best}}, \textcolor{blue}{\underline{second best}}."


def latex(run: str, tables: Sequence[ResultTable]) -> str:
    r"""All tables as ``table`` environments for ``\input``; they need booktabs and xcolor.

    Labels are ``tab:<run>-<table>``, so that one document can hold the tables of several runs.
    """
    text = "\n".join(_environment(run, table) for table in tables)
    return _HEAD + _OTHER_LETTERS * bool(_PDFLATEX_LACKS.search(text)) + text


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
    text = re.sub("-(?=-)", "-\N{ZERO WIDTH SPACE}", one_line(text))
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    # After the end of a row, these two would be arguments of "\\\\".
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped
