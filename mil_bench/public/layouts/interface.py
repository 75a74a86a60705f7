"""What a layout gives: the bags of a fetched file, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.intake.readers import RawBag
    from mil_bench.public.recipe import Recipe
    from mil_bench.public.source import SourceFile


@dataclass(frozen=True, eq=False)
class PublicBag:
    """A slide as it is published.

    Args:
        slide: slide id.
        raw: its rows.
        label: its class, "" if the files do not say.
        split: its official role, "" if it has none.
    """

    slide: str
    raw: RawBag
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class Fetched:
    """A file that holds bags, on this disk.

    Args:
        path: where it is.
        file: what it is on the hub.
        number: its place among the files of its role, from 0.
        recipe: how it is to be read.
        beside: files that belong to the bags, by what they hold.
    """

    path: Path
    file: SourceFile
    number: int
    recipe: Recipe
    beside: Mapping[str, Sequence[Path]]

    @property
    def name(self) -> str:
        """Its path on the hub, for messages."""
        return self.file.remote.path

    def unreadable(self, reason: object) -> InputError:
        """The error of a file that is not what the recipe says."""
        return InputError(
            f"file {self.name} of {self.recipe.page}",
            [f"it cannot be read: {reason}"],
            "The recipe may no longer fit what is published; please report it.",
        )

    def class_name(self, value: object) -> str:
        """The class of a number in the file.

        Raises:
            InputError: there is none of that number.
        """
        number = int(float(str(value))) if _is_whole(value) else -1
        if not 0 <= number < len(self.recipe.classes):
            known = ", ".join(f"{n} ({name})" for n, name in enumerate(self.recipe.classes))
            raise self.unreadable(f"a label {value!r}, expected one of {known}")
        return self.recipe.classes[number]


def _is_whole(value: object) -> bool:
    try:
        return float(str(value)).is_integer()
    except ValueError:
        return False


Layout = Callable[[Fetched, Container[str]], Iterator[PublicBag]]
"""Gives the bags of a file, without those whose slides are written already."""


def in_store_type(features: np.ndarray) -> np.ndarray:
    """Features in a type that a store has: float16 as it is, all else as float32."""
    return features if features.dtype == np.float16 else features.astype(np.float32, copy=False)
