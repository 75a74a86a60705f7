"""Writes a split in the format of another tool."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.errors import InputError
from mil_bench.split_files.formats.clam import clam_files
from mil_bench.split_files.formats.patho_bench import patho_bench_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.splits.plan import SplitPlan

FORMS: Mapping[str, Callable[[SplitPlan, DatasetSpec, pd.DataFrame], dict[str, str]]] = {
    "clam": clam_files,
    "patho-bench": patho_bench_files,
}


def export_plan(
    plan: SplitPlan, form: str, spec: DatasetSpec, slides: pd.DataFrame, folder: Path
) -> list[str]:
    """Write a split in the format of another tool.

    Args:
        plan: the folds.
        form: a key of ``FORMS``.
        spec: the dataset's card.
        slides: columns slide, label (fine index) and group of all slides of the plan.
        folder: made if absent.

    Returns:
        The names of the files.

    Raises:
        InputError: a file of such a name exists, then none is written; or the split has repeats,
            which other tools do not know.
        StorageError: the folder or the disk refuses.
    """
    if plan.repeats > 1:
        problem = (
            f"the split is {plan.repeats} repeats of a cross-validation, and the files of {form} "
            "cannot say which folds belong to which repeat"
        )
        remedy = "Export a split without repeats (mil-bench splits make without --repeats)."
        raise InputError(f"export to {folder}", [problem], remedy)
    texts = FORMS[form](plan, spec, slides)
    problems = [f"{name} exists already" for name in texts if (folder / name).exists()]
    if problems:
        remedy = "Name another folder: nothing is overwritten."
        raise InputError(f"export to {folder}", problems, remedy)
    for name, text in texts.items():
        durable.write_once(folder / name, methodcaller("write", text.encode()))
    return list(texts)
