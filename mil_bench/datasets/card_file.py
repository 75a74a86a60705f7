"""A dataset's card as a TOML file: an own dataset without Python."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.datasets.card import DatasetSpec, GroupProfile, LabelColumns
from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.regular_file import open_regular
from mil_bench.splits.plan import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_KEYS = (
    *(
        "name",
        "title",
        "labels",
        "hierarchy",
        "ordered",
        "group",
        "protocols",
        "folds",
        "slides_per_class",
    ),
    *("columns", "source", "licence", "citation", "traps"),
)
_COLUMNS = tuple(field.name for field in dataclasses.fields(LabelColumns))
_MOST_BYTES = 2**20
_UNKNOWN = "not given on the card"
_REMEDY = "Correct the card; mil-bench data new NAME writes one with every key explained."


def read_card(path: Path) -> DatasetSpec:
    """The card in a TOML file.

    Raises:
        InputError: every problem of the card at once, by key.
    """
    values = _Values(_content(path))
    name = values.text("name", "")
    for problem in name_problems(name):
        values.problems.append(f"name: {problem}")
    hierarchy = _hierarchy(values)
    counts = _counts(values, hierarchy)
    protocols = values.texts("protocols", tuple(PROTOCOLS))
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            values.problems.append(
                f"protocols: there is none called '{protocol}'{_near(protocol, PROTOCOLS)}"
            )
    folds = values.of("folds", int, 10, "a whole number")
    if folds < 2:
        values.problems.append(f"folds: {folds}, at least 2 are needed")
    columns = _columns(values)
    group, ordered = (
        values.text("group", "patient"),
        values.of("ordered", bool, False, "true or false"),
    )
    texts = {key: values.text(key, "") for key in ("title", "source", "licence", "citation")}
    traps = values.texts("traps", (), empty=True)
    if values.problems or hierarchy is None:
        raise InputError(f"card {path}", values.problems, _REMEDY)
    return DatasetSpec(
        name=name,
        title=texts["title"] or name,
        hierarchy=hierarchy,
        class_counts=counts,
        groups=GroupProfile(group),
        bags=None,
        protocols=protocols,
        source=texts["source"] or _UNKNOWN,
        licence=texts["licence"] or _UNKNOWN,
        citation=texts["citation"] or _UNKNOWN,
        traps=traps,
        folds=folds,
        columns=columns,
        ordered=ordered,
    )


def name_problems(name: str) -> list[str]:
    """Why a dataset of one's own cannot have this name."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        return [f"'{name}' is not a name in lower case with hyphens, such as my-study"]
    if name in registry.datasets.names():
        return [f"'{name}' is taken by {registry.datasets.origin(name)}"]
    return []


def _content(path: Path) -> Mapping[str, Any]:
    try:
        with open_regular(path) as file:
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise InputError(
                f"card {path}", [f"it has more than {_MOST_BYTES:,} bytes; no card has"], _REMEDY
            )
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # TOML's and decoding errors are ValueErrors
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"card {path}", [f"it cannot be read as TOML in UTF-8: {reason}"], _REMEDY
        ) from error


class _Values:
    """The values of a card by key; what is wrong with them is collected."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self.problems = [
            f"unknown key '{key}'{_near(key, _KEYS)}" for key in content if key not in _KEYS
        ]

    def of(self, key: str, kind: type, default: Any, what: str) -> Any:
        """The value if it is of this very type, else the default."""
        value = self._content.get(key, default)
        if type(value) is kind:  # true and false are whole numbers to isinstance
            return value
        self.problems.append(f"{key}: {value!r} is not {what}")
        return default

    def text(self, key: str, default: str) -> str:
        """A text."""
        return self.of(key, str, default, "a text in quotation marks")

    def table(self, key: str) -> dict[str, Any]:
        """Keys with values, {} where the card has none."""
        return self.of(key, dict, {}, f"a table of keys and values, such as {key}.KEY = VALUE")

    def texts(self, key: str, default: tuple[str, ...], empty: bool = False) -> tuple[str, ...]:
        """A list of texts."""
        if key not in self._content:
            return default
        return self.listed(key, self._content[key], empty)

    def listed(self, key: str, value: Any, empty: bool = False) -> tuple[str, ...]:
        """Texts out of a list, none of them blank, at a key that may stand inside a table."""
        if not isinstance(value, list) or not (value or empty):
            self.problems.append(f'{key}: {value!r} is not a list of texts, such as ["one", "two"]')
            return ()
        for text in value:
            if not isinstance(text, str):
                self.problems.append(
                    f'{key}: {text!r} is not text; write it in quotation marks: "{text}"'
                )
            elif not text.strip() or text != text.strip():
                self.problems.append(f"{key}: {text!r} is blank or has blanks around it")
        return tuple(text for text in value if isinstance(text, str))


def _hierarchy(values: _Values) -> LabelHierarchy | None:
    groups = {
        key: values.listed(f"hierarchy.{key}", fine)
        for key, fine in values.table("hierarchy").items()
    }
    labels = values.texts("labels", ())
    if bool(groups) == bool(labels):
        which = "both labels and a hierarchy are" if labels else "neither labels nor a hierarchy is"
        values.problems.append(
            f"labels: {which} given; write labels = [...] or hierarchy.COARSE = [...]"
        )
        return None
    try:
        return LabelHierarchy.from_groups(groups) if groups else LabelHierarchy.flat(labels)
    except InputError as error:
        key = "hierarchy" if groups else "labels"
        # Flat classes are their own coarse classes: what is wrong with them is said once.
        said = [
            problem
            for problem in error.problems
            if groups or not problem.startswith("a coarse class")
        ]
        values.problems += [f"{key}: {problem}" for problem in said]
        return None


def _counts(values: _Values, hierarchy: LabelHierarchy | None) -> tuple[int, ...]:
    given = values.table("slides_per_class")
    for label, count in given.items():
        if type(count) is not int or count < 1:
            values.problems.append(
                f"slides_per_class.{label}: {count!r} is not a whole number from 1 on"
            )
        if hierarchy and label not in hierarchy.fine:
            near = _near(label, hierarchy.fine)
            values.problems.append(
                f"slides_per_class.{label}: there is no class of that name{near}"
            )
    if not given or hierarchy is None:
        return ()
    missing = [label for label in hierarchy.fine if label not in given]
    if missing:
        values.problems.append(
            f"slides_per_class: {', '.join(missing)} is missing; give all classes or none"
        )
    return tuple(given.get(label, 0) for label in hierarchy.fine)


def _columns(values: _Values) -> LabelColumns:
    chosen: dict[str, Any] = {}
    for role, heading in values.table("columns").items():
        key = f"columns.{role}"
        if role not in _COLUMNS:
            values.problems.append(f"unknown key '{key}'{_near(role, _COLUMNS)}")
        elif role == "sheet" and not isinstance(heading, str):
            values.problems.append(f"{key}: {heading!r} is not a text in quotation marks")
        else:
            one = isinstance(heading, str)
            chosen[role] = (
                heading if role == "sheet" else values.listed(key, [heading] if one else heading)
            )
    return LabelColumns(**chosen)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"
