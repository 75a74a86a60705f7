"""Renderers: tables as Markdown, CSV, LaTeX, HTML and on a terminal; the report as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.report.render.csv_file import csv_file
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
        durable.replace(folder / f"{table.name}.csv", csv_file(table))
    return folder / "report.md"
