"""A frame as a CSV or Parquet file, by the ending of its name; the file is whole or absent."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.errors import InputError
from mil_bench.report.render.csv_file import harmless

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

ENDINGS = (".csv", ".parquet")


def require_ending(path: Path) -> None:
    """Refuse a file whose ending names no format, or that is a folder.

    Raises:
        InputError: before anything is computed.
    """
    problems = []
    if path.suffix.lower() not in ENDINGS:
        problems.append(f"its ending is {path.suffix or 'missing'}, not .csv or .parquet")
    if path.is_dir():
        problems.append("it is a folder")
    if problems:
        raise InputError(f"the file {path}", problems, "Name a file such as predictions.csv.")


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write all rows, without their numbers; a file of that name is replaced.

    In a CSV file, text that a spreadsheet would run begins with an apostrophe.

    Raises:
        StorageError: the folder or the disk refuses; a former file is unchanged.
    """
    content = io.BytesIO()
    if path.suffix.lower() == ".csv":
        texts = frame.select_dtypes(exclude="number").columns
        harmless_texts = {name: frame[name].astype(str).map(harmless) for name in texts}
        frame.assign(**harmless_texts).to_csv(content, index=False)
    else:
        frame.to_parquet(content, index=False)
    durable.replace(path, content.getvalue())
