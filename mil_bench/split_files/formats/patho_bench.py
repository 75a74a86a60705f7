"""Patho-Bench's splits: ``k=all.tsv`` (case_id, slide_id, a label, fold_0, fold_1, ...) and ``config.yaml``.

Source: patho_bench/SplitFactory.py and DataSplit.py in Patho-Bench's repository (660e770). Its
official splits have no validation part.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from mil_bench.datasets.slide_ids import without_ending
from mil_bench.errors import InputError
from mil_bench.regular_file import open_regular
from mil_bench.split_files.formats.interface import FileStart, SplitFormat, fold_of, read_frame
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, SplitPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec

_MOST_BYTES = 2**20  # a real config.yaml has some hundred
_SAMPLES = ("case_id", "slide_id")
_PLAIN = (str, int, float)  # truth values and dates are what YAML makes of texts without quotes


def _matches(start: FileStart) -> bool:
    # Also without fold columns: then it is a broken one of these rather than nothing.
    return b"\t" in start.content.split(b"\n", 1)[0] and set(_SAMPLES) <= set(start.columns)


def _fold_columns(table: pd.DataFrame) -> dict[int, str]:
    """Columns of folds by number; any name that contains ``fold_`` is one."""
    numbers = {name: re.search(r"fold_(\d+)", name) for name in table.columns}
    return dict(sorted((int(match[1]), name) for name, match in numbers.items() if match))


def _config(path: Path) -> Mapping[str, Any]:
    """The task's settings.

    Raises:
        ValueError: they are not there or lack what is needed; the text says what.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError("it is too large for a task's settings")
        value = yaml.safe_load(content.decode("utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}. It names the label column") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"is not plain YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(value, dict):
        raise ValueError("has no settings")
    if not isinstance(value.get("task_col"), str):
        raise ValueError("task_col must name the label column")
    if value.get("sample_col") not in _SAMPLES:
        raise ValueError(f"sample_col must be case_id or slide_id, not {value.get('sample_col')!r}")
    names = value.get("label_dict", {})
    if not isinstance(names, dict):
        raise ValueError("label_dict must give every label a name")
    for label, name in names.items():
        if type(label) not in _PLAIN or type(name) not in _PLAIN:
            shown = f"{label!r:.40}: {name!r:.40}"
            raise ValueError(
                f"label_dict has {shown}; labels and names must be texts or numbers, yes and no in quotes"
            )
    return value


def _read(files: Sequence[Path]) -> SplitLists:
    (path,), problems = files[:1], [f"{extra.name}: a second table of folds" for extra in files[1:]]
    config: Mapping[str, Any] = {}
    table = pd.DataFrame()
    try:
        config = _config(path.parent / "config.yaml")
    except ValueError as error:
        problems.append(f"config.yaml: {error}")
    try:
        table = read_frame(path, _SAMPLES)
    except ValueError as error:
        problems.append(f"{path.name}: {error}")
    columns = _fold_columns(table)
    if not problems:
        problems = _faults(path.name, table, columns, config)
    if problems:
        raise InputError(
            f"splits {path.parent}",
            problems,
            "Give k=all.tsv and config.yaml as Patho-Bench has them.",
        )
    names = {str(key): str(name) for key, name in config.get("label_dict", {}).items()}
    slides = table["slide_id"].map(without_ending)
    folds = [
        {role: list(slides[table[column] == role]) for role in ROLES} for column in columns.values()
    ]
    labels = {
        s: frozenset([names.get(label, label)])
        for s, label in zip(slides, table[config["task_col"]], strict=True)
    }
    folder = path.resolve().parent.name
    return SplitLists(
        f"Patho-Bench's {path.name} in {folder}",
        tuple(map(fold_of, folds)),
        tuple(columns),
        labels,
        dict(zip(slides, table["case_id"], strict=True)),
    )


def _faults(
    name: str, table: pd.DataFrame, columns: Mapping[int, str], config: Mapping[str, Any]
) -> list[str]:
    if not columns:
        return [f"{name}: no column fold_0, fold_1, ...; found {', '.join(table.columns)}"]
    if config["task_col"] not in table:
        return [f"{name}: no column '{config['task_col']}', which config.yaml names as task_col"]
    problems = []
    for column in columns.values():
        strange = table.loc[~table[column].isin([*ROLES, ""]), column]
        problems += [
            f"{name}, {place}: '{role}' in {column} is no role" for place, role in strange.items()
        ]
    blank = table.index[(table["slide_id"] == "") | (table["case_id"] == "")]
    problems += [f"{name}, {place}: an empty case_id or slide_id" for place in blank]
    again = table.loc[table["slide_id"].duplicated(), "slide_id"]
    problems += [
        f"{name}, {place}: slide {slide} stands in a row above" for place, slide in again.items()
    ]
    of_sample = table.groupby(config["sample_col"])
    for column in (*columns.values(), config["task_col"]):
        torn = of_sample[column].nunique()
        problems += [
            f"{name}: {config['sample_col']} {s} has several values in {column}"
            for s in torn.index[torn > 1]
        ]
    return problems


PATHO_BENCH = SplitFormat(
    "Patho-Bench's k=all.tsv with its config.yaml", r"^k=.*\.tsv$", _matches, _read
)


def patho_bench_files(plan: SplitPlan, spec: DatasetSpec, slides: pd.DataFrame) -> dict[str, str]:
    """``k=all.tsv`` and ``config.yaml``. A sample is a slide, since a case may have several labels and roles."""
    roles = [
        {slide: role for role in ROLES for slide in getattr(fold, role)} for fold in plan.folds
    ]
    listed = slides[slides["slide"].isin({slide for each in roles for slide in each})].sort_values(
        "slide"
    )
    table = pd.DataFrame(
        {"case_id": listed["group"], "slide_id": listed["slide"], spec.name: listed["label"]}
    )
    for k, each in enumerate(roles):
        table[f"fold_{k}"] = [each.get(slide, "") for slide in table["slide_id"]]
    config = {
        "task_col": spec.name,
        "sample_col": "slide_id",
        "extra_cols": [],
        "task_type": "classification",
        "label_dict": dict(enumerate(spec.hierarchy.fine)),
        "metrics": ["macro-ovr-auc"],
    }
    return {
        "k=all.tsv": table.to_csv(sep="\t", index=False, lineterminator="\n"),
        "config.yaml": yaml.safe_dump(config, sort_keys=False),
    }
