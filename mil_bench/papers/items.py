"""Protocol files: what makes a table or figure of a paper, as TOML.

Packages offer folders of them under the entry-point group ``mil_bench.papers``; a file's name
without its ending is the name of the item. Reading a file checks everything but the values of
methods' settings, which need the methods themselves: those are checked when the item is planned,
before anything trains.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, MilBenchError, UnknownNameError
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.file_values import value_problems
from mil_bench.papers.published import Named, Published, Text
from mil_bench.papers.questions import Question
from mil_bench.planning.rows import MethodRow
from mil_bench.report.result_tables import MAIN
from mil_bench.wording import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

FORMER_NAMES = {"twin": "simulated"}
"""Former name of an item to its name."""
_ALL = "all"
_CLASSWISE = ["auc"]
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Item:
    """A table or figure of a paper.

    Args:
        name: on the command line ("table1").
        title: heading.
        datasets: names of datasets, with settings if they are simulated.
        protocol: by which slides are split.
        level: "fine" or "coarse".
        metrics: keys of ``BUILT_IN``: some of the main tables' metrics, or "auc" alone for one
            column per class.
        seeds: training seeds.
        notes: what a reader must know, one sentence each.
        rows: methods with their settings.
        published: the published values that are known.
        named: methods that are named in a source without values, None if there are none.
        questions: what the verdicts answer.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    protocol: str
    level: str
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    notes: tuple[str, ...]
    rows: tuple[MethodRow, ...]
    published: tuple[Published, ...]
    named: Named | None
    questions: tuple[Question, ...]

    @property
    def is_classwise(self) -> bool:
        """Whether it has one column per class instead of one per metric."""
        return [*self.metrics] == _CLASSWISE

    @property
    def table(self) -> str:
        """Name of the run's table that holds the metrics."""
        if self.is_classwise:
            return "classwise_auc" if self.level == "fine" else "classwise_auc_coarse"
        return self.level


def item_names() -> list[str]:
    """Names of all items, sorted."""
    return sorted(_files())


def find_item(name: str) -> Item:
    """The item of that name.

    Raises:
        UnknownNameError: there is no such item.
        InputError: its file has errors; lists all of them.
    """
    files = _files()
    if name not in files:
        raise UnknownNameError("item to reproduce", name, [*files, "all"])
    return read_item(name, files[name].read_text(encoding="utf-8"))


def _files() -> dict[str, Traversable]:
    folders = (
        importlib.resources.files(registry.papers.load(paper)) for paper in registry.papers.names()
    )
    paths = (path for folder in folders for path in folder.iterdir() if path.name.endswith(".toml"))
    return {path.name.removesuffix(".toml"): path for path in paths}


def _require(value: _Value, problems: list[str]) -> _Value:
    if problems:
        raise ValueError(*problems)
    return value


def _filled(value: _Value) -> _Value:
    return _require(value, [] if value else ["it is empty"])


def _unknown(kind: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    """One problem per name that does not exist."""
    known = list(known)
    return [
        f"there is no {kind} '{name}'{suggestion(name, known)}"
        for name in names
        if name not in known
    ]


def _method(name: str) -> str:
    return _require(name, _unknown("method", [name], registry.methods.names()))


def _dataset(name: str) -> str:
    try:
        find_dataset(name)
    except MilBenchError as error:
        raise ValueError(str(error)) from error
    return name


def _written_out(rows: Any) -> Any:
    """The rows that "all" stands for; anything else as it is."""
    if isinstance(rows, str):
        _require(rows, [] if rows == _ALL else [f"'{rows}' is neither \"all\" nor [[rows]]"])
        return [{"method": name} for name in registry.methods.built_in()]
    return rows


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")

    method: Annotated[str, AfterValidator(_method)]
    label: str = ""
    settings: dict[str, Any] = {}


class _ProtocolFile(BaseModel):
    """The keys of a file. What a validator raises is a ``ValueError`` with one text per problem."""

    model_config = ConfigDict(extra="forbid")

    title: Text
    datasets: Annotated[list[Annotated[str, AfterValidator(_dataset)]], AfterValidator(_filled)]
    protocol: str
    level: Literal["fine", "coarse"]
    metrics: Annotated[list[str], AfterValidator(_filled)]
    seeds: Annotated[list[StrictInt], AfterValidator(_filled)]
    notes: list[Text] = []
    rows: Annotated[list[_Row], BeforeValidator(_written_out), AfterValidator(_filled)]
    published: list[Published] = []
    named: Named | None = None
    questions: list[Question] = []

    @field_validator("protocol")
    @classmethod
    def _fits(cls, protocol: str, info: ValidationInfo) -> str:
        specs = {name: find_dataset(name) for name in info.data.get("datasets", [])}
        problems = [
            f"{name}: {problem}"
            for name, spec in specs.items()
            for problem in _unknown("protocol", [protocol], spec.protocols)
        ]
        return _require(protocol, problems)

    @field_validator("metrics")
    @classmethod
    def _shown(cls, metrics: list[str]) -> list[str]:
        known = [*(key for key in BUILT_IN if key in MAIN), "auc alone"]
        return _require(
            metrics, [] if metrics == _CLASSWISE else _unknown("metric", metrics, known)
        )

    @field_validator("rows")
    @classmethod
    def _distinct(cls, rows: list[_Row]) -> list[_Row]:
        labels = [row.label or row.method for row in rows]
        twice = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
        return _require(rows, [f"two rows are called {label}" for label in twice])

    @field_validator("published")
    @classmethod
    def _of_this_item(cls, published: list[Published], info: ValidationInfo) -> list[Published]:
        if {"rows", "datasets", "metrics"} - info.data.keys():
            return published  # what is wrong with those comes first
        datasets, metrics = info.data["datasets"], info.data["metrics"]
        problems = [
            f"{each.row} on {each.dataset}: {problem}"
            for each in published
            for problem in (
                *_unknown("row", [each.row], _labels(info)),
                *_unknown("dataset of this item", [each.dataset], datasets),
                *_unknown("metric of this item", each.values, metrics),
            )
        ]
        return _require(published, problems)

    @field_validator("named")
    @classmethod
    def _of_rows_or_not(cls, named: Named | None, info: ValidationInfo) -> Named | None:
        if named is None or "rows" not in info.data:
            return named
        labels = _labels(info)
        built_in = [name for name in named.not_built_in if name in labels]
        problems = [
            *_unknown("row", named.rows, labels),
            *(f"not_built_in: {name} is a row" for name in built_in),
        ]
        return _require(named, problems)

    @field_validator("questions")
    @classmethod
    def _about_rows(cls, questions: list[Question], info: ValidationInfo) -> list[Question]:
        if "rows" not in info.data:
            return questions
        problems = [
            f"'{question.text}': {problem}"
            for question in questions
            for problem in _unknown("row", [question.better, question.than], _labels(info))
        ]
        return _require(questions, problems)


def _labels(info: ValidationInfo) -> list[str]:
    return [row.label or row.method for row in info.data["rows"]]


def read_item(name: str, text: str) -> Item:
    """An item from the text of its file.

    Raises:
        InputError: every problem of the file at once, by key.
    """
    what, remedy = f"protocol file {name}.toml", "Correct the file."
    try:
        file = _ProtocolFile.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise InputError(what, value_problems(error, _ProtocolFile), remedy) from error
    except ValueError as error:  # what TOML raises
        raise InputError(what, [f"it is not TOML: {error}"], remedy) from error
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in file
    }
    values["rows"] = tuple(
        MethodRow(row.method, row.settings, row.label or row.method) for row in file.rows
    )
    return Item(name=name, **values)
