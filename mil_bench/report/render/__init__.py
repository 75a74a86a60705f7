"""Renderers: tables as Markdown, CSV, LaTeX, HTML and on a terminal; the report as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.report.render.latex import latex
from mil_bench.report.render.markdown import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.report.tables import ResultTable


def write_report(
    folder: Path, title: str, facts: Sequence[str], tables: Sequence[ResultTable]
) -> Path:
    """Write ``report.md``, ``tables.tex`` and one CSV file per table.

    Args:
        folder: created if it does not exist; older files of the same names are replaced.
        title: name of the run.
        facts: lines before the tables, such as verdicts and failures.
        tables: the tables.

    Returns:
        Path of ``report.md``.
    """
    durable.replace(folder / "report.md", markdown(title, facts, tables))
    durable.replace(folder / "tables.tex", latex(title, tables))
    for table in tables:
        durable.replace(folder / f"{table.name}.csv", _csv(table))
    return folder / "report.md"


def _csv(table: ResultTable) -> str:
    frame = table.frame
    frame.columns = frame.columns.map(_heading)
    for column in table.columns:
        cells = [row[column] for row in table.cells.values()]
        undefined = [
            "" if isinstance(c, str) else " ".join(map(str, c.undefined_folds)) for c in cells
        ]
        if any(undefined):
            frame[f"{column} undefined folds"] = undefined
    if table.job_keys:
        frame["jobs"] = [" ".join(table.job_keys.get(name, ())) for name in frame.index]
    comment = "".join(f"# {line}\n" for line in (table.title, table.legend))
    return comment + frame.to_csv(float_format="%.4f", lineterminator="\n")


def _heading(column: tuple[str, str]) -> str:
    """A column of a frame in a CSV file: "Macro AUC mean"; text has only its name."""
    name, part = column
    return name if part == "text" else f"{name} {part}"
