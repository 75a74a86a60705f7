"""Patho-Bench's splits: ``k=all.tsv`` and ``config.yaml``.

The table has the columns case_id, slide_id, a label, fold_0, fold_1, ...; official splits have no
validation part.
Source: patho_bench/SplitFactory.py and DataSplit.py in Patho-Bench's repository (660e770).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError

from mil_bench.datasets.regular_file import open_regular
from mil_bench.datasets.slide_ids import without_ending
from mil_bench.errors import InputError
from mil_bench.file_values import value_problems
from mil_bench.split_files.formats.interface import (
    FileStart,
    SplitFormat,
    fold_of,
    read_frame,
)
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, SplitPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec

_MOST_BYTES = 2**20
"""A real config.yaml has some hundred."""
_SAMPLES = ("case_id", "slide_id")


def _plain(value: Any) -> str:
    """A text; YAML makes truth values and dates of texts without quotes."""
    if type(value) not in (str, int, float):
        raise ValueError(
            f"{value!r:.60} is neither a text nor a number; put yes, no and dates in quotes"
        )
    return str(value)


_Plain = Annotated[str, BeforeValidator(_plain)]


class _Config(BaseModel):
    """The keys of config.yaml that folds and labels need."""

    task_col: str
    sample_col: Literal["case_id", "slide_id"]
    label_dict: dict[_Plain, _Plain] = {}


def _matches(start: FileStart) -> bool:
    # Also without columns of folds: then the table is broken, and its error says so.
    return b"\t" in start.content.split(b"\n", 1)[0] and set(_SAMPLES) <= set(start.columns)


def _fold_columns(table: pd.DataFrame) -> dict[int, str]:
    """Columns of folds by number: those whose names contain ``fold_`` and a number."""
    numbers = {name: re.search(r"fold_(\d+)", name) for name in table.columns}
    return dict(sorted((int(match[1]), name) for name, match in numbers.items() if match))


def _config(path: Path) -> tuple[_Config | None, list[str]]:
    """The task's settings, or what is wrong with them."""
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            return None, ["is too large for the settings of a task"]
        value = yaml.safe_load(content.decode("utf-8"))
        if not isinstance(value, dict):
            return None, ["has no settings"]
        return _Config.model_validate(value), []
    except ValidationError as error:
        return None, value_problems(error, _Config)
    except OSError as error:
        return None, [f"cannot be read: {error.strerror}. It names the label column"]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return None, [f"is not plain YAML: {' '.join(str(error).split())[:200]}"]


def _read(files: Sequence[Path]) -> SplitLists:
    path = files[0]
    config, faults = _config(path.parent / "config.yaml")
    problems = [f"{extra.name}: a second table of folds" for extra in files[1:]]
    problems += [f"config.yaml: {fault}" for fault in faults]
    table = pd.DataFrame()
    try:
        table = read_frame(path, _SAMPLES)
    except ValueError as error:
        problems.append(f"{path.name}: {error}")
    columns = _fold_columns(table)
    if config is not None and not problems:
        problems = _faults(path.name, table, columns, config)
    if config is None or problems:
        remedy = "Give k=all.tsv and config.yaml as Patho-Bench has them."
        raise InputError(f"splits {path.parent}", problems, remedy)
    slides = table["slide_id"].map(without_ending)
    folds = [
        {role: list(slides[table[column] == role]) for role in ROLES} for column in columns.values()
    ]
    labels = {
        slide: frozenset([config.label_dict.get(label, label)])
        for slide, label in zip(slides, table[config.task_col], strict=True)
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
    name: str, table: pd.DataFrame, columns: Mapping[int, str], config: _Config
) -> list[str]:
    """What is wrong with the table, one line each."""
    if not columns:
        return [f"{name}: no column fold_0, fold_1, ...; found {', '.join(table.columns)}"]
    if config.task_col not in table:
        return [f"{name}: no column '{config.task_col}', which config.yaml names as task_col"]
    problems = []
    for column in columns.values():
        strange = table.loc[~table[column].isin([*ROLES, ""]), column]
        problems += [
            f"{name}, {location}: '{role}' in {column} is not a role"
            for location, role in strange.items()
        ]
    blank = table.index[(table["slide_id"] == "") | (table["case_id"] == "")]
    problems += [f"{name}, {location}: case_id or slide_id is empty" for location in blank]
    again = table.loc[table["slide_id"].duplicated(), "slide_id"]
    problems += [
        f"{name}, {location}: slide {slide} is in a row above" for location, slide in again.items()
    ]
    of_sample = table.groupby(config.sample_col)
    for column in (*columns.values(), config.task_col):
        values = of_sample[column].nunique()
        problems += [
            f"{name}: {config.sample_col} {sample} has several values in {column}"
            for sample in values.index[values > 1]
        ]
    return problems


PATHO_BENCH = SplitFormat(
    "Patho-Bench's k=all.tsv with its config.yaml", r"^k=.*\.tsv$", _matches, _read
)


def patho_bench_files(plan: SplitPlan, spec: DatasetSpec, slides: pd.DataFrame) -> dict[str, str]:
    """``k=all.tsv`` and ``config.yaml``.

    A sample is a slide, since a case may have several labels and roles.
    """
    roles = [
        {slide: role for role in ROLES for slide in getattr(fold, role)} for fold in plan.folds
    ]
    listed = slides[slides["slide"].isin({slide for role_of in roles for slide in role_of})]
    listed = listed.sort_values("slide")
    table = pd.DataFrame(
        {"case_id": listed["group"], "slide_id": listed["slide"], spec.name: listed["label"]}
    )
    for k, role_of in enumerate(roles):
        table[f"fold_{k}"] = [role_of.get(slide, "") for slide in table["slide_id"]]
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
