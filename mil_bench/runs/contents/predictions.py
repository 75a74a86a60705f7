"""All test predictions of a run."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from mil_bench.errors import one_line
from mil_bench.report.render.csv_file import harmless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.hierarchy import LabelHierarchy


def prediction_frame(
    trained: Mapping[str, Sequence[TrainedFold]], hierarchy: LabelHierarchy
) -> pd.DataFrame:
    """One row per method, seed, fold and slide.

    Args:
        trained: method to its trained folds.
        hierarchy: the classes.
    """
    import pandas as pd  # a third of a second, and lists of runs do without it

    frames = [
        fold.predictions.frame(hierarchy).assign(method=method, seed=fold.seed, fold=fold.fold)
        for method, folds in trained.items()
        for fold in folds
    ]
    if not frames:
        return pd.DataFrame(columns=["method", "seed", "fold", "slide", "label", "predicted"])
    frame = pd.concat(frames, ignore_index=True)
    return frame[["method", "seed", "fold", *frames[0].columns[:-3]]]


def predictions_csv(frame: pd.DataFrame, caption: str) -> str:
    """Predictions as a CSV file; text that a spreadsheet would run begins with an apostrophe.

    Args:
        frame: as of ``prediction_frame``. Probabilities are written with six digits.
        caption: of the run; it is a comment (``#``) at the beginning, as in the files of tables.
    """
    texts = [name for name in ("method", "slide", "label", "predicted") if name in frame]
    safe = frame.assign(
        **{name: frame[name].map({v: harmless(v) for v in frame[name].unique()}) for name in texts}
    )
    safe.columns = [harmless(name) for name in frame.columns]
    # All texts are quoted: an unquoted "#" would begin a comment.
    content = safe.to_csv(
        index=False, float_format="%.6g", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
    )
    return f"# All test predictions\n# {one_line(caption)}\n{content}"
