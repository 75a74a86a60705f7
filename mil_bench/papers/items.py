"""Protocol files: what makes a table or figure of a paper, as TOML.

Packages offer folders of them under the entry-point group ``mil_bench.papers``; a file's name
without its ending is the name of the item. Everything in a file is checked when it is read, but for
the values of methods' settings, which need the methods themselves: those are checked when the item
is planned, before anything trains.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, MilBenchError, UnknownNameError
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.papers.questions import STANDINGS, Published, Question
from mil_bench.planning.rows import MethodRow
from mil_bench.report.result_tables import MAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.resources.abc import Traversable

_KEYS = (
    "title",
    "datasets",
    "protocol",
    "level",
    "metrics",
    "seeds",
    "notes",
    "rows",
    "published",
    "questions",
)
_ROW_KEYS = ("method", "label", "settings")
_PUBLISHED_KEYS = ("row", "dataset", "standing", "source", "values")
_QUESTION_KEYS = ("text", "better", "than")
_CLASSWISE = "auc"
_LEVELS = ("fine", "coarse")


@dataclass(frozen=True)
class Item:
    """A table or figure of a paper.

    Args:
        name: on the command line ("table1").
        title: heading.
        datasets: names of datasets, with settings if they are generated.
        protocol: by which slides are split.
        level: "fine" or "coarse".
        metrics: keys of ``BUILT_IN``: some of the main tables' metrics, or "auc" alone for a column
            a class.
        seeds: training seeds.
        notes: what a reader must know, one sentence each.
        rows: methods with their settings.
        published: figures we know.
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
    questions: tuple[Question, ...]

    @property
    def is_classwise(self) -> bool:
        """Whether it has a column a class instead of one a metric."""
        return self.metrics == (_CLASSWISE,)

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
        InputError: its file is faulty; lists everything.
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


def read_item(name: str, text: str) -> Item:
    """An item from the text of its file.

    Raises:
        InputError: every problem of the file at once, by key.
    """
    try:
        content = tomllib.loads(text)
    except ValueError as error:
        raise InputError(
            f"protocol file {name}", [f"it is no TOML: {error}"], "Correct the file."
        ) from error
    read = _Reader()
    read.keys("", content, _KEYS)
    rows = tuple(_row(read, at, value) for at, value in read.tables(content, "rows"))
    published = tuple(
        _published(read, at, value) for at, value in read.tables(content, "published")
    )
    questions = tuple(
        Question(*(read.text(at, value, key) for key in read.keys(at, value, _QUESTION_KEYS)))
        for at, value in read.tables(content, "questions")
    )
    item = Item(
        name=name,
        title=read.text("", content, "title"),
        datasets=read.list_of(str, content, "datasets"),
        protocol=read.text("", content, "protocol"),
        level=read.text("", content, "level"),
        metrics=read.list_of(str, content, "metrics"),
        seeds=read.list_of(int, content, "seeds"),
        notes=read.list_of(str, content, "notes"),
        rows=rows,
        published=published,
        questions=questions,
    )
    read.problems += [] if read.problems else _problems(item)
    if read.problems:
        raise InputError(f"protocol file {name}", read.problems, "Correct the file.")
    return item


class _Reader:
    """Values by key; what is wrong with them is collected."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def keys(self, at: str, value: Mapping[str, Any], known: tuple[str, ...]) -> tuple[str, ...]:
        """The known keys; complains about others."""
        self.problems += [
            f"{at}{UnknownNameError('key', key, known)}" for key in value if key not in known
        ]
        return known

    def of(
        self, kind: type, at: str, value: Mapping[str, Any], key: str, default: Any = None
    ) -> Any:
        """The value of this very type, which must be there unless it has a default."""
        found = value.get(key, default)
        if type(found) is kind:  # true and false are whole numbers to isinstance
            return found
        said = (
            "is missing" if key not in value else f"is {found!r:.60}, not of type {kind.__name__}"
        )
        self.problems.append(f"{at}{key} {said}")
        return kind()

    def text(self, at: str, value: Mapping[str, Any], key: str, default: str | None = None) -> str:
        """A text that is not empty."""
        found = self.of(str, at, value, key, default)
        if not found and isinstance(value.get(key), str):
            self.problems.append(f"{at}{key} is empty")
        return found

    def list_of(self, kind: type, value: Mapping[str, Any], key: str) -> tuple[Any, ...]:
        """A list of values of one type; only notes may be absent."""
        found = self.of(list, "", value, key, [] if key == "notes" else None)
        wrong = [entry for entry in found if type(entry) is not kind]
        self.problems += [f"{key}: {entry!r:.60} is not of type {kind.__name__}" for entry in wrong]
        if not found and isinstance(value.get(key), list):
            self.problems.append(f"{key} is empty")
        return tuple(found)

    def tables(self, value: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        """The tables of a ``[[key]]``, each with its place; only rows must be there."""
        found = self.of(list, "", value, key, None if key == "rows" else [])
        if not all(isinstance(entry, dict) for entry in found):
            self.problems.append(f"{key} must be written as [[{key}]]")
            return []
        return [(f"{key} {number}: ", entry) for number, entry in enumerate(found, 1)]


def _row(read: _Reader, at: str, value: Mapping[str, Any]) -> MethodRow:
    read.keys(at, value, _ROW_KEYS)
    method = read.text(at, value, "method")
    return MethodRow(
        method, read.of(dict, at, value, "settings", {}), read.text(at, value, "label", method)
    )


def _published(read: _Reader, at: str, value: Mapping[str, Any]) -> Published:
    read.keys(at, value, _PUBLISHED_KEYS)
    values = read.of(dict, at, value, "values")
    for key, figure in values.items():
        if type(figure) not in (int, float):
            read.problems.append(f"{at}{key} is {figure!r:.60}, not a number")
    return Published(*(read.text(at, value, key) for key in _PUBLISHED_KEYS[:4]), values)


def _problems(item: Item) -> list[str]:
    """What the values of an item name that does not exist."""
    labels = [row.label for row in item.rows]
    problems = [
        f"two rows are called {label}" for label in dict.fromkeys(labels) if labels.count(label) > 1
    ]

    def named(kind: str, names: Iterable[str], known: Iterable[str], at: str = "") -> None:
        known = list(known)
        problems.extend(
            f"{at}{UnknownNameError(kind, name, known)}" for name in names if name not in known
        )

    named("method", (row.method for row in item.rows), registry.methods.names())
    named("level", [item.level], _LEVELS)
    if not item.is_classwise:
        named(
            "metric",
            item.metrics,
            [key for key in BUILT_IN if key in MAIN] + [f"{_CLASSWISE} alone"],
        )
    for number, each in enumerate(item.published, 1):
        at = f"published {number}: "
        named("row", [each.row], labels, at)
        named("dataset of this item", [each.dataset], item.datasets, at)
        named("standing", [each.standing], STANDINGS, at)
        named("metric of this item", each.values, item.metrics, at)
    for number, each in enumerate(item.questions, 1):
        named("row", [each.better, each.than], labels, f"questions {number}: ")
    return problems + [
        problem for text in item.datasets for problem in _dataset_problems(text, item.protocol)
    ]


def _dataset_problems(text: str, protocol: str) -> list[str]:
    try:
        spec = find_dataset(text)
    except MilBenchError as error:
        return [str(error)]
    return (
        []
        if protocol in spec.protocols
        else [f"{text}: {UnknownNameError('protocol', protocol, spec.protocols)}"]
    )
