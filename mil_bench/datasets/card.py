"""Dataset cards: what a dataset is, without paths and without reading anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mil_bench.bags.bag import Bag
    from mil_bench.hierarchy import LabelHierarchy

SIMULATED_SUFFIX = "-twin"
"""End of a simulated dataset's slug; see ``DatasetSpec.slug``."""
CENTRE = "centre"
"""Name of groups that are centres, not patients."""
MAIN_METRIC = "macro_auc"
"""Key of the metric on which methods are compared if a card names no other."""
SLIDE, PATIENT = "slide", "patient"
UNITS = (SLIDE, PATIENT)
"""What a label may belong to, which is one item of a comparison; see ``DatasetSpec.unit``."""
BAG, MEAN = "bag", "mean"
COMBINATIONS = (BAG, MEAN)
"""How slides of a patient whose label they share are combined: their instances are one bag, or they
are predicted apart and their probabilities are averaged."""


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
    """What must not be on two sides of a split, and how slides are spread over it.

    Args:
        name: what a group is ("patient", "centre").
        count: number of groups in the whole dataset, 0 if unknown.
        grows: whether a smaller sample of slides has fewer groups (patients do, centres do not).
        purity: share of slides placed next to others of their label when a simulated dataset
            assigns slides to groups; 1 makes groups as pure as possible, 0 assigns at random.
        optional: whether a slide without a group is known to have none; else its group is unknown,
            and it counts as its own.
    """

    name: str
    count: int = 0
    grows: bool = True
    purity: float = 1.0
    optional: bool = False

    def may_be_blank(self, name: str) -> bool:
        """Whether a slide without a group of that name is known to have none."""
        return self.optional and name == self.name


@dataclass(frozen=True)
class LabelColumns:
    """Accepted headings of a label table, in any case; ``sheet`` is a workbook's sheet, "" for any.

    ``slides`` is a column with a list of slides per row, for tables without a ``slide`` column.

    Two columns that fit one role must agree; of groups and centres the first heading here is the
    dataset's own and wins.
    """

    slide: tuple[str, ...] = ("slide", "slide_id", "slide_name", "wsi filename", "filename")
    slides: tuple[str, ...] = ("slides", "slide_ids", "slide ids", "filenames")
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
    """Makes the bags of a dataset that needs no download.

    A frozen dataclass whose fields are its settings.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    version: ClassVar[int]
    """Increase it when the same settings give other bags, so that older stores are not used."""

    def generate(self, spec: DatasetSpec) -> Iterable[Bag]:
        """All bags, in a fixed order, the same on every call."""

    def size(self, spec: DatasetSpec) -> tuple[int, int]:
        """Number of bags and of their instances, known before the first bag is made."""

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
        class_counts: expected number of slides of each fine class; () if unknown.
        groups: what a group is and how many there are.
        bags: bag sizes, None if unknown.
        protocols: names of the protocols that make sense here, the default first.
        source: where the data come from.
        licence: under which terms.
        citation: what to cite.
        traps: known mistakes in or around the dataset, one sentence each.
        folds: usual number of folds if the protocol leaves it open; less than ten if there are few
            groups.
        columns: column names of its label table.
        ordered: whether the fine classes are grades, in their order.
        main_metric: key of the metric on which methods are compared, at the fine level, unless a
            run is asked for another.
        generator: makes the bags of a generated dataset, else None.
        simulates: the name of the real dataset that a simulated one is like, else None.
        unit: what a label belongs to: "slide", or "patient", whose slides (those of a group) then
            share it; splits, metrics and tables count these.
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
    main_metric: str = MAIN_METRIC
    generator: BagGenerator | None = None
    simulates: str | None = None
    unit: str = SLIDE

    @property
    def slug(self) -> str:
        """Name in stored results, slide ids and digests; show ``name`` instead.

        It ends with "-twin" for a simulated dataset: results are stored under this name, and a
        new one would give them other keys.
        """
        return f"{self.name}{SIMULATED_SUFFIX}" if self.simulates else self.name

    @property
    def caption(self) -> str:
        """How tables name the dataset, so that nobody takes a simulated one for the real one."""
        if self.simulates:
            made = self.generator.describe() if self.generator else ""
            return f"{self.name}, a simulated dataset, not {self.simulates.upper()} ({made})"
        return f"{self.name} ({self.generator.describe()})" if self.generator else self.name

    def with_settings(self, settings: dict[str, Any]) -> DatasetSpec:
        """The card with other generator settings (field names of the generator)."""
        if self.generator is None or not settings:
            return self
        return replace(self, generator=replace(self.generator, **settings))
