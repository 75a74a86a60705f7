"""All test predictions of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
