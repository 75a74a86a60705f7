"""All test predictions of a run as a file."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from mil_bench.errors import one_line
from mil_bench.report.render.csv_file import harmless

if TYPE_CHECKING:
    import pandas as pd


_DECIMALS = 8


def predictions_csv(frame: pd.DataFrame, caption: str) -> str:
    """Predictions as a CSV file; text that a spreadsheet would run begins with an apostrophe.

    Args:
        frame: as of ``fold_table.all_predictions``. Probabilities are rounded to ``_DECIMALS``.
        caption: of the run; it is a comment (``#``) at the beginning, as in the files of tables.
    """
    texts = frame.select_dtypes(exclude="number").columns
    safe = frame.assign(
        **{name: frame[name].map({v: harmless(v) for v in frame[name].unique()}) for name in texts}
    )
    safe.columns = [harmless(name) for name in frame.columns]
    # All texts are quoted: an unquoted "#" would begin a comment.
    content = safe.round(_DECIMALS).to_csv(
        index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
    )
    return f"# All test predictions\n# {one_line(caption)}\n{content}"
