"""A dataset's card as a TOML file: a dataset of the user's own without Python."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mil_bench import registry
from mil_bench.datasets.card import (
    CENTRE,
    MAIN_METRIC,
    PATIENT,
    SLIDE,
    UNITS,
    DatasetSpec,
    GroupProfile,
    LabelColumns,
)
from mil_bench.datasets.regular_file import read_toml
from mil_bench.errors import InputError
from mil_bench.file_values import value_problems
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.splits.protocols import PROTOCOLS
from mil_bench.wording import suggestion

if TYPE_CHECKING:
    from pathlib import Path

_Value = TypeVar("_Value")
_UNKNOWN = "not given on the card"
_REMEDY = "Correct the card; mil-bench data new NAME writes one with every key explained."


def _trimmed(text: str) -> str:
    if not text.strip() or text != text.strip():
        raise ValueError(f"{text!r} is blank or has blanks around it")
    return text


_Text = Annotated[str, AfterValidator(_trimmed)]
_Texts = Annotated[tuple[_Text, ...], Field(min_length=1)]
_Headings = Annotated[
    _Texts, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class _Columns(BaseModel):
    model_config = ConfigDict(extra="forbid")

    slide: _Headings = LabelColumns.slide
    slides: _Headings = LabelColumns.slides
    label: _Headings = LabelColumns.label
    group: _Headings = LabelColumns.group
    split: _Headings = LabelColumns.split
    centre: _Headings = LabelColumns.centre
    sheet: str = LabelColumns.sheet


class _Card(BaseModel):
    """The keys of a card. What a validator raises is a ``ValueError`` with one text per problem."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    name: str = ""
    title: str = ""
    labels: Annotated[_Texts, Field(validate_default=False)] = ()
    hierarchy: dict[str, _Texts] = {}
    slides_per_class: dict[str, Annotated[StrictInt, Field(ge=1)]] = {}
    protocols: _Texts = tuple(PROTOCOLS)
    folds: Annotated[StrictInt, Field(ge=2)] = 10
    columns: _Columns = _Columns()
    group: str = "patient"
    unit: str = SLIDE
    ordered: StrictBool = False
    main_metric: _Text = MAIN_METRIC
    source: str = ""
    licence: str = ""
    citation: str = ""
    traps: tuple[_Text, ...] = ()

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        return _sound(name, name_problems(name))

    @field_validator("labels")
    @classmethod
    def _flat(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        try:
            LabelHierarchy.flat(labels)
        except InputError as error:
            # Flat classes are their own coarse classes: what is wrong with them is said once.
            raise ValueError(
                *(line for line in error.problems if not line.startswith("a coarse class"))
            ) from error
        return labels

    @field_validator("hierarchy")
    @classmethod
    def _two_levels(
        cls, groups: dict[str, tuple[str, ...]], info: ValidationInfo
    ) -> dict[str, tuple[str, ...]]:
        labels = info.data.get("labels")
        if labels is not None and bool(groups) == bool(labels):
            given = (
                "both labels and a hierarchy are" if labels else "neither labels nor a hierarchy is"
            )
            raise ValueError(f"{given} given; write labels = [...] or hierarchy.COARSE = [...]")
        if groups:
            try:
                LabelHierarchy.from_groups(groups)
            except InputError as error:
                raise ValueError(*error.problems) from error
        return groups

    @field_validator("slides_per_class")
    @classmethod
    def _complete(cls, counts: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        groups, labels = info.data.get("hierarchy"), info.data.get("labels")
        if not counts or groups is None or labels is None:
            return counts
        classes = [label for children in groups.values() for label in children] or labels
        problems = [
            f"there is no class '{label}'{suggestion(label, classes)}"
            for label in counts
            if label not in classes
        ]
        missing = [label for label in classes if label not in counts]
        if missing:
            problems.append(f"{', '.join(missing)} is missing; give all classes or none")
        return _sound(counts, problems)

    @field_validator("unit")
    @classmethod
    def _of_one_patient(cls, unit: str, info: ValidationInfo) -> str:
        if unit not in UNITS:
            raise ValueError(f"there is none called '{unit}'{suggestion(unit, UNITS)}")
        if unit == PATIENT and info.data.get("group") == CENTRE:
            raise ValueError(f'it is "{PATIENT}", and the groups are not patients but centres')
        return unit

    @field_validator("protocols")
    @classmethod
    def _known(cls, protocols: tuple[str, ...]) -> tuple[str, ...]:
        problems = [
            f"there is none called '{protocol}'{suggestion(protocol, PROTOCOLS)}"
            for protocol in protocols
            if protocol not in PROTOCOLS
        ]
        return _sound(protocols, problems)


def _sound(value: _Value, problems: list[str]) -> _Value:
    if problems:
        raise ValueError(*problems)
    return value


def read_card(path: Path) -> DatasetSpec:
    """The card in a TOML file.

    Raises:
        InputError: every problem of the card at once, by key.
    """
    try:
        card = _Card.model_validate(read_toml(path, f"card {path}", _REMEDY))
    except ValidationError as error:
        raise InputError(f"card {path}", value_problems(error, _Card), _REMEDY) from error
    hierarchy = (
        LabelHierarchy.from_groups(card.hierarchy)
        if card.hierarchy
        else LabelHierarchy.flat(card.labels)
    )
    return DatasetSpec(
        name=card.name,
        title=card.title or card.name,
        hierarchy=hierarchy,
        class_counts=tuple(card.slides_per_class[label] for label in hierarchy.fine)
        if card.slides_per_class
        else (),
        groups=GroupProfile(card.group),
        bags=None,
        protocols=card.protocols,
        source=card.source or _UNKNOWN,
        licence=card.licence or _UNKNOWN,
        citation=card.citation or _UNKNOWN,
        traps=card.traps,
        folds=card.folds,
        columns=LabelColumns(**card.columns.model_dump()),
        ordered=card.ordered,
        main_metric=card.main_metric,
        unit=card.unit,
    )


def name_problems(name: str) -> list[str]:
    """Why a dataset of the user's own cannot have this name."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        return [f"'{name}' is not a name in lower case with hyphens, such as my-study"]
    if name in registry.datasets.names():
        return [f"'{name}' is taken by {registry.datasets.origin(name)}"]
    return []
