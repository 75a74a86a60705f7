"""Renderers: tables as Markdown, CSV, LaTeX, HTML and on a terminal; the report as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.errors import StorageError
from mil_bench.report.render.csv_file import csv_file
from mil_bench.report.render.latex import latex
from mil_bench.report.render.markdown import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.report.tables import ResultTable


FIGURES = "figures"
"""The folder beside a report with all figures as files."""
PREDICTIONS = "predictions.csv"
"""The file beside a report with all test predictions."""


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

    Raises:
        StorageError: the folder is a symbolic link or a file, or cannot be written to.
    """
    check_folder(folder)
    durable.replace(folder / "report.md", markdown(title, facts, tables))
    durable.replace(folder / "tables.tex", latex(title, tables))
    for table in tables:
        durable.replace(folder / f"{table.name}.csv", csv_file(table))
    return folder / "report.md"


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files would replace files elsewhere.

    Folders above it may be links: a user who moves all results to another disk expects that.

    Raises:
        StorageError: the folder is a symbolic link or a file.
    """
    if folder.is_symlink():
        raise StorageError(
            f"{folder} is a symbolic link to {folder.readlink()}: a report would replace the files "
            "there. Remove the link; the report then gets a folder of its own. What was stored "
            "before is unchanged."
        )
    if folder.exists() and not folder.is_dir():
        raise StorageError(
            f"{folder} is a file, and a report needs a folder of this name. Move the file away; "
            "what was stored before is unchanged."
        )
