"""Recipes: where public features are, how they are laid out, and on what terms they may be used.

Packages offer folders of TOML files under the entry-point group ``mil_bench.recipes``; a file's
name without its ending is the name of the recipe. A recipe says only what somebody has read: what
is not known (a commit, a size, a digest) is left out, and the hub is asked for it.
"""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mil_bench import registry
from mil_bench.datasets.card import DatasetSpec, GroupProfile
from mil_bench.errors import InputError, MilBenchError, UnknownNameError
from mil_bench.file_values import value_problems
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_HUB = "https://huggingface.co/datasets/"
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return text


def _commit(text: str) -> str:
    if text and not _COMMIT.fullmatch(text):
        raise ValueError(f"{text!r:.60} is not a commit of 40 hexadecimal digits")
    return text


def _sha256(text: str) -> str:
    if text and not _SHA256.fullmatch(text):
        raise ValueError(f"{text!r:.60} is not a SHA-256 of 64 hexadecimal digits")
    return text


def _with_bags(files: tuple[FilePattern, ...]) -> tuple[FilePattern, ...]:
    if not any(pattern.holds == "bags" for pattern in files):
        raise ValueError("no files hold bags")
    return files


def _below(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r:.60} is not a path inside the repository")
    return _filled(text)


_Text = Annotated[str, AfterValidator(_filled)]
_Bytes = Annotated[StrictInt, Field(ge=1)]


class FilePattern(BaseModel):
    """Files of a repository.

    Args:
        path: a path inside the repository; ``*`` in its last part stands for several files.
        holds: what is in them: bags, or what belongs to the bags of other files.
        split: the official role of their slides, "" if they have none or another file says it.
        size: bytes of the one file, None if unknown.
        sha256: its digest, "" if unknown.
    """

    model_config = ConfigDict(extra="forbid")

    path: Annotated[str, AfterValidator(_below)]
    holds: Literal["bags", "labels", "patch_labels", "coords", "splits"] = "bags"
    split: Literal["", "train", "val", "test"] = ""
    size: _Bytes | None = None
    sha256: Annotated[str, AfterValidator(_sha256)] = ""


class Columns(BaseModel):
    """Where a table's rows hold what.

    Args:
        features: a column of lists (parquet); of a plain table, all columns that have no other
            meaning are features.
        label: name (parquet) or position (plain table) of the column with the class.
        bag: position of the column with the bag's id (plain table).
        ignored: positions of columns without a meaning (plain table).
        leading: numbers in front of the features of each instance, which are left out (parquet).
    """

    model_config = ConfigDict(extra="forbid")

    features: str = "features"
    label: str | StrictInt = "label"
    bag: StrictInt = 0
    ignored: tuple[StrictInt, ...] = ()
    leading: Annotated[StrictInt, Field(ge=0)] = 0


class OwnCard(BaseModel):
    """The card of a dataset that is not in the registry; keys as in a card file."""

    model_config = ConfigDict(extra="forbid")

    slides_per_class: dict[str, _Bytes]
    group: _Text
    protocols: tuple[_Text, ...] = ("patient-kfold",)
    folds: StrictInt = 10
    traps: tuple[_Text, ...] = ()


class Recipe(BaseModel):
    """Where public features are and how they become a store.

    Args:
        name: on the command line.
        title: one line for lists.
        repository: a dataset repository of the Hugging Face hub.
        revision: its commit, "" to take the newest and keep to it.
        layout: how the files are laid out.
        files: which files, in the order in which they are read.
        size: bytes of all files as their data card or listing says, None if unknown.
        licence: on which terms the features may be used.
        open: whether anybody may use them without more than a citation.
        gate: what is asked for before the hub gives the files, "" for nothing.
        citation: what to cite.
        tried: when somebody has fetched it from the real hub, "" if nobody has.
        notes: what a user must know, one sentence each.
        encoder: what made the features, "" if that is no encoder.
        classes: names of the classes 0, 1, ... if the files number them.
        needs_labels: where the user gets the label table that the files lack, "" if they have
            labels.
        one_slide_per_group: whether each slide is known to be the only one of its patient.
        columns: of tables.
        card: the registry's name of the dataset, "" if it is not there.
        own_slides: whether the slides have names of their own, not those of the dataset of the
            card; else the store is one of several encoders of that dataset.
        own_card: the card of a dataset that is not in the registry.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    title: _Text
    repository: Annotated[str, Field(pattern=r"[\w.-]+/[\w.-]+")]
    revision: Annotated[str, AfterValidator(_commit)] = ""
    layout: Literal["parquet", "npy-tar", "folder", "table"]
    files: Annotated[tuple[FilePattern, ...], AfterValidator(_with_bags)]
    size: _Bytes | None = None
    licence: _Text
    open: StrictBool
    gate: str = ""
    citation: _Text
    tried: str = ""
    notes: tuple[_Text, ...] = ()
    encoder: Annotated[str, Field(pattern=r"([A-Za-z0-9][\w.+-]*)?")] = ""
    classes: tuple[_Text, ...] = ()
    needs_labels: str = Field("", validate_default=True)
    one_slide_per_group: StrictBool = False
    columns: Columns = Columns()
    card: str = ""
    own_slides: StrictBool = Field(False, validate_default=True)
    own_card: OwnCard | None = Field(None, validate_default=True)

    @field_validator("needs_labels")
    @classmethod
    def _labelled(cls, source: str, info: ValidationInfo) -> str:
        if bool(source) == bool(info.data.get("classes")):
            raise ValueError("either classes or needs_labels is given, not both and not neither")
        return source

    @field_validator("own_slides")
    @classmethod
    def _named(cls, own: bool, info: ValidationInfo) -> bool:
        if not own and info.data.get("encoder") == "" and info.data.get("card"):
            raise ValueError("the store of a dataset needs the name of its encoder")
        return own

    @field_validator("own_card")
    @classmethod
    def _described(cls, card: OwnCard | None, info: ValidationInfo) -> OwnCard | None:
        if (card is None) == (not info.data.get("card")):
            raise ValueError("either card or own_card is given, not both and not neither")
        return card

    @property
    def page(self) -> str:
        """The page of the repository."""
        return _HUB + self.repository

    @property
    def is_of_dataset(self) -> bool:
        """Whether its store is one of several encoders of a dataset in the registry."""
        return bool(self.card) and not self.own_slides

    def spec(self) -> DatasetSpec:
        """The card of the store: the dataset's, or one under the recipe's name that is like it."""
        if self.is_of_dataset:
            known: DatasetSpec = registry.datasets.load(self.card)
            return known
        base = _base(self.own_card) if self.own_card else registry.datasets.load(self.card)
        licence, citation = self.licence, self.citation
        if self.own_card is None:
            licence = f"features: {licence}; slides: {base.licence}"
            citation = f"{base.citation}; features: {citation}"
        return replace(
            base,
            name=self.name,
            title=self.title,
            source=self.page,
            licence=licence,
            citation=citation,
            traps=(*base.traps, *self.notes),
        )


def _base(card: OwnCard) -> DatasetSpec:
    return DatasetSpec(
        name="",
        title="",
        hierarchy=LabelHierarchy.flat(tuple(card.slides_per_class)),
        class_counts=tuple(card.slides_per_class.values()),
        groups=GroupProfile(card.group),
        bags=None,
        protocols=card.protocols,
        source="",
        licence="",
        citation="",
        traps=card.traps,
        folds=card.folds,
    )


def recipe_names() -> list[str]:
    """Names of all recipes, sorted."""
    return sorted(_files())


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UnknownNameError: there is none.
        InputError: every problem of its file at once, by key.
    """
    files = _files()
    if name not in files:
        raise UnknownNameError("recipe for public features", name, files)
    return read_recipe(name, files[name].read_text(encoding="utf-8"))


def read_recipe(name: str, text: str) -> Recipe:
    """A recipe from the text of its file.

    Raises:
        InputError: every problem of the file at once, by key.
    """
    what, remedy = f"recipe {name}.toml", "Correct the file."
    try:
        values: dict[str, Any] = tomllib.loads(text)
        recipe = Recipe.model_validate(values | {"name": name})
        recipe.spec()
    except ValidationError as error:
        raise InputError(what, value_problems(error, Recipe), remedy) from error
    except MilBenchError as error:  # no such card
        raise InputError(what, [f"card: {error}"], remedy) from error
    except ValueError as error:  # what TOML raises
        raise InputError(what, [f"it is not TOML: {error}"], remedy) from error
    return recipe


def _files() -> dict[str, Traversable]:
    folders = [
        importlib.resources.files(registry.recipes.load(package))
        for package in registry.recipes.names()
    ]
    return {
        path.name.removesuffix(".toml"): path
        for folder in folders
        for path in folder.iterdir()
        if path.name.endswith(".toml")
    }
