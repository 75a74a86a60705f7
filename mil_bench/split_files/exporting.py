"""A split in the form of another tool."""

from __future__ import annotations

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
    """Write a split as another tool has it; the names of the files.

    Args:
        plan: the folds.
        form: a key of ``FORMS``.
        spec: the dataset's card.
        slides: columns slide, label (fine index) and group of all slides of the plan.
        folder: made if absent.

    Raises:
        InputError: a file of such a name lies there already; none is written then.
        StorageError: the folder or the disk refuses.
    """
    files = FORMS[form](plan, spec, slides)
    there = [name for name in files if (folder / name).exists()]
    if there:
        problems = [f"{name} exists already" for name in there]
        raise InputError(
            f"export to {folder}", problems, "Name another folder: nothing is overwritten."
        )
    for name, text in files.items():
        durable.write_once(folder / name, lambda file, text=text: file.write(text.encode()))
    return list(files)
