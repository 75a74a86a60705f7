"""Dataset cards: what a dataset is, without paths and without reading anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mil_bench.bags.bag import Bag
    from mil_bench.hierarchy import LabelHierarchy


@dataclass(frozen=True)
class BagProfile:
    """How many instances a bag has: log-normal around a median.

    Args:
        median: median number of instances.
        spread: standard deviation of the logarithm of the number.
        basis: where the numbers come from.
    """

    median: int
    spread: float
    basis: str


@dataclass(frozen=True)
class GroupProfile:
    """What must not stand on two sides of a split, and how it is spread.

    Args:
        name: what a group is ("patient", "centre").
        count: number of groups in the whole dataset, 0 where it is not known.
        grows: whether a smaller sample of slides has fewer groups (patients do, centres do not).
        purity: share of slides placed next to others of their label when a twin deals slides to
            groups; 1 makes groups as pure as they can be, 0 deals labels at random.
        optional: whether a slide without a group is known to stand alone; else its group is
            unknown, and it counts as its own.
    """

    name: str
    count: int = 0
    grows: bool = True
    purity: float = 1.0
    optional: bool = False

    def may_be_blank(self, name: str) -> bool:
        """Whether a slide without a group of that name is known to have none; of others it is not known."""
        return self.optional and name == self.name


@dataclass(frozen=True)
class LabelColumns:
    """Accepted headings of a label sheet, upper and lower case alike; ``sheet`` is a workbook's sheet, "" for any.

    Two columns that fit one role must agree; of groups and centres the first name here is the
    dataset's own and wins.
    """

    slide: tuple[str, ...] = ("slide", "slide_id", "slide_name", "wsi filename", "filename")
    label: tuple[str, ...] = ("label", "fine_label", "class", "wsi label")
    group: tuple[str, ...] = ("patient", "patient_id", "patient id", "case_id", "case")
    split: tuple[str, ...] = ("split", "set")
    centre: tuple[str, ...] = (
        "centre",
        "center",
        "data_provider",
        "site",
        "institution",
        "hospital",
    )
    sheet: str = ""


class BagGenerator(Protocol):
    """Makes the bags of a dataset that needs no download. A frozen dataclass whose fields are its settings."""

    version: ClassVar[int]
    """Raise it when other bags are made of the same settings, so that stores of the older code are not used."""

    def generate(self, spec: DatasetSpec) -> Iterable[Bag]:
        """All bags, in a fixed order, the same on every call."""

    def size(self, spec: DatasetSpec) -> tuple[int, int]:
        """Number of bags, and of their instances together, known before the first bag is made."""

    def describe(self) -> str:
        """What was generated, for captions; differs whenever a setting differs."""


def check_limits(what: str, settings: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse settings of a generator outside their ranges.

    Raises:
        InputError: names every one of them.
    """
    problems = [
        f"{name}={getattr(settings, name)} is outside {low:g}..{high:g}"
        for name, (low, high) in limits.items()
        if not low <= getattr(settings, name) <= high
    ]
    if problems:
        raise InputError(f"settings of {what}", problems, "Choose values inside these ranges.")


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset's card.

    Args:
        name: the name on the command line.
        title: one line for lists.
        hierarchy: fine and coarse classes.
        class_counts: expected number of slides of each fine class; () where it is not known.
        groups: what a group is and how many there are.
        bags: bag sizes, None where they are not known.
        protocols: names of the protocols that make sense here, the default first.
        source: where the data come from.
        licence: under which terms.
        citation: what to cite.
        traps: known mistakes in or around the dataset, one sentence each.
        folds: usual number of folds where the protocol leaves it open; less than ten where groups
            are few.
        columns: column names of its label sheet.
        ordered: whether the fine classes are grades, in their order.
        generator: makes the bags where nothing is to be downloaded, else None.
        twin_of: for a generated twin the name of the real dataset, else None.
    """

    name: str
    title: str
    hierarchy: LabelHierarchy
    class_counts: tuple[int, ...]
    groups: GroupProfile
    bags: BagProfile | None
    protocols: tuple[str, ...]
    source: str
    licence: str
    citation: str
    traps: tuple[str, ...] = ()
    folds: int = 10
    columns: LabelColumns = field(default_factory=LabelColumns)
    ordered: bool = False
    generator: BagGenerator | None = None
    twin_of: str | None = None

    @property
    def slug(self) -> str:
        """Name for files and logged runs; a twin is called a twin."""
        return f"{self.name}-twin" if self.twin_of else self.name

    @property
    def caption(self) -> str:
        """How tables name the dataset; a twin can never be read as the real one."""
        if self.twin_of:
            made = self.generator.describe() if self.generator else ""
            return f"{self.name}, a generated twin, not {self.twin_of.upper()} ({made})"
        return f"{self.name} ({self.generator.describe()})" if self.generator else self.name

    def with_settings(self, settings: dict[str, Any]) -> DatasetSpec:
        """The card with other generator settings (field names of the generator)."""
        from dataclasses import replace

        return replace(self, generator=replace(self.generator, **settings)) if settings else self  # type: ignore[type-var]
