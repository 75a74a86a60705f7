"""Fine classes, coarse classes, and which belongs to which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class LabelHierarchy:
    """A two-level label tree; class indices are positions in ``fine`` and ``coarse``.

    Args:
        fine: names of the C fine classes, in the order of all probability columns.
        coarse: names of the G coarse classes.
        parent: for each fine class the index of its coarse class, length C.

    Raises:
        InputError: a name is used twice, a fine class has no parent, or a coarse class no child.
    """

    fine: tuple[str, ...]
    coarse: tuple[str, ...]
    parent: tuple[int, ...]

    def __post_init__(self) -> None:
        problems = []
        for level, names in (("fine", self.fine), ("coarse", self.coarse)):
            if len(set(names)) != len(names):
                problems.append(f"a {level} class is named twice in {list(names)}")
        if len(self.fine) < 2:
            problems.append(f"at least two fine classes are needed, there are {len(self.fine)}")
        if len(self.parent) != len(self.fine):
            problems.append(f"{len(self.fine)} fine classes but {len(self.parent)} parents")
        outside = [p for p in self.parent if not 0 <= p < len(self.coarse)]
        if outside:
            problems.append(f"parents {outside} are outside 0..{len(self.coarse) - 1}")
        childless = [name for g, name in enumerate(self.coarse) if g not in self.parent]
        if childless:
            problems.append(f"coarse classes without a fine class: {', '.join(childless)}")
        if problems:
            raise InputError(
                "label hierarchy", problems, "Give every fine class exactly one coarse class."
            )

    @classmethod
    def from_groups(cls, groups: Mapping[str, Sequence[str]]) -> LabelHierarchy:
        """From ``{coarse name: [fine names]}``; fine classes are numbered in reading order."""
        fine = tuple(name for names in groups.values() for name in names)
        parent = tuple(g for g, names in enumerate(groups.values()) for _ in names)
        return cls(fine, tuple(groups), parent)

    @classmethod
    def flat(cls, fine: Sequence[str]) -> LabelHierarchy:
        """No hierarchy: every fine class is its own coarse class."""
        return cls(tuple(fine), tuple(fine), tuple(range(len(fine))))

    @property
    def is_flat(self) -> bool:
        """Whether every fine class is its own coarse class, so that the two levels are the same."""
        return self.n_coarse == self.n_fine

    @property
    def fine_classes(self) -> str:
        """What texts call the fine classes: "classes" if there are no others."""
        return "classes" if self.is_flat else "fine classes"

    @property
    def n_fine(self) -> int:
        """C."""
        return len(self.fine)

    @property
    def n_coarse(self) -> int:
        """G."""
        return len(self.coarse)

    @cached_property
    def lift_matrix(self) -> np.ndarray:
        """Membership of fine in coarse classes, float64 ``[C, G]``; rows sum to 1."""
        return np.eye(self.n_coarse)[list(self.parent)]

    def lift(self, fine_probabilities: np.ndarray) -> np.ndarray:
        """Coarse probabilities as sums over children: ``[..., C]`` -> ``[..., G]``."""
        return fine_probabilities @ self.lift_matrix

    def coarse_of(self, fine_labels: np.ndarray) -> np.ndarray:
        """Coarse label of each fine label, same shape."""
        return np.asarray(self.parent)[fine_labels]

    def to_json(self) -> dict[str, list[str] | list[int]]:
        """A plain value; ``LabelHierarchy.from_json`` is its inverse."""
        return {"fine": list(self.fine), "coarse": list(self.coarse), "parent": list(self.parent)}

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence]) -> LabelHierarchy:
        """The inverse of ``to_json``."""
        return cls(tuple(value["fine"]), tuple(value["coarse"]), tuple(value["parent"]))
