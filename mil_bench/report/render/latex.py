"""Tables as LaTeX for booktabs and xcolor: best red and bold, second best blue and underlined.

TeX shrinks a table that is wider than the text. If that is because of many long headings, these are
turned. A table that is longer than a page is a ``longtable``.
"""

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
_PACKAGES = ("booktabs", "graphicx", "longtable", "xcolor")
_HEAD = f"% needs \\usepackage{{{','.join(_PACKAGES)}}}\n"
_ROWS_PER_PAGE = 40  # a page of 10-point article holds about 50 rows of \\small
_LETTERS_PER_LINE = 90  # about as many \\small letters fill the text width of article on A4
_SHRINKING = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
_OTHER_LETTERS = (
    "% Some names have letters that pdflatex lacks: use lualatex or xelatex, with a font that has "
    "them.\n"
)
_PDFLATEX_LACKS = re.compile("[^\\x00-\u024f‘’“”…—]")
"""Letters beyond Latin; what ``_SPECIAL`` replaces is no longer there."""
_MARKS = r" \textcolor{red}{\textbf{Best}}, \textcolor{blue}{\underline{second best}}."


def latex(run: str, tables: Sequence[ResultTable]) -> str:
    r"""All tables as environments for ``\input``; the first line names the packages they need.

    Labels are ``tab:<run>-<table>``, so that one document can hold the tables of several runs.
    """
    text = "\n".join(_environment(run, table) for table in tables)
    return _HEAD + _OTHER_LETTERS * bool(_PDFLATEX_LACKS.search(text)) + text


def _environment(run: str, table: ResultTable) -> str:
    marks = _MARKS if table.is_ranked else ""
    label = re.sub(r"[^A-Za-z0-9:.-]", "-", f"{run}-{table.name}")
    caption = rf"\caption{{{_escaped(table.title)}. {_escaped(table.legend)}{marks}}}"
    rows = [[_escaped(name), *map(_marked, row.values())] for name, row in table.cells.items()]
    alignment = "l" + "".join("l" if table.is_text(name) else "c" for name in table.columns)
    top = [r"\toprule", *_lines(_headings(table)), r"\midrule"]
    head = [caption, rf"\label{{tab:{label}}}"]
    if len(rows) > _ROWS_PER_PAGE:
        begin = [r"\begingroup\small\setlength{\LTcapwidth}{\linewidth}"]
        begin += [rf"\begin{{longtable}}{{{alignment}}}", *head, r"\\", *top, r"\endfirsthead"]
        begin += [*top, r"\endhead"]
        end = [r"\end{longtable}", r"\endgroup"]
    else:
        begin = [r"\begin{table}", r"\centering\small", *head]
        begin += [_SHRINKING + rf"\begin{{tabular}}{{{alignment}}}", *top]
        end = [r"\end{tabular}}", r"\end{table}"]
    return "\n".join([*begin, *_lines(*rows), r"\bottomrule", *end]) + "\n"


def _headings(table: ResultTable) -> list[str]:
    """The headings, upright if those of the columns make the table wider than the text."""
    first, columns = _escaped(table.row_heading.capitalize()), list(map(_escaped, table.columns))
    cells = [text_of(row[name]) for row in table.cells.values() for name in table.columns]
    widest = max(map(len, cells), default=0)
    is_wide = sum(max(len(name), widest) for name in table.columns) > _LETTERS_PER_LINE
    if is_wide and max(map(len, table.columns)) > widest:
        columns = [rf"\rotatebox{{90}}{{{name}}}" for name in columns]
    return [first, *columns]


def _lines(*rows: Sequence[str]) -> list[str]:
    return [" & ".join(row) + r" \\" for row in rows]


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
