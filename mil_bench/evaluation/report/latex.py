"""Tables as LaTeX for the booktabs package: best bold, second best underlined."""

from __future__ import annotations

from collections.abc import Sequence

from mil_bench.evaluation.tables import Cell, Table

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
    "±": r"$\pm$",
}


def latex(run: str, tables: Sequence[Table]) -> str:
    r"""All tables as ``table`` environments, to be included with ``\input``; needs ``\usepackage{booktabs}``.

    Labels are ``tab:<run>-<table>``, so that the tables of several runs go into one document.
    """
    return "% needs \\usepackage{booktabs}\n" + "\n".join(_environment(run, table) for table in tables)


def _environment(run: str, table: Table) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(table.title)}. {_escaped(table.caption)} \textbf{{Best}}, \underline{{second best}}.}}",
        rf"\label{{tab:{run}-{table.name}}}".replace("_", "-"),
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(_escaped, ["Method", *table.columns])) + r" \\",
        r"\midrule",
        *(" & ".join([_escaped(method), *map(_marked, row.values())]) + r" \\" for method, row in table.cells.items()),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _marked(cell: Cell) -> str:
    text = _escaped(cell.text())
    return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.rank, text)


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
