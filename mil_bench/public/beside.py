"""What is written beside a store of public features: its label table, its card, its split."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.datasets.slide_ids import own_group
from mil_bench.datasets.slides import known_slides
from mil_bench.split_files.formats.own import SplitFile
from mil_bench.splits.plan import ROLES
from mil_bench.splits.protocols import make_splits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mil_bench.bags.bag import Slide
    from mil_bench.datasets.card import DatasetSpec

_OFFICIAL = "official"


@dataclass(frozen=True)
class Places:
    """Where a store of public features is, and what is written beside it.

    Args:
        store: the bag store.
    """

    store: Path

    @property
    def card(self) -> Path:
        """The card of a dataset that is not in the registry."""
        return self.store.with_suffix(".toml")

    @property
    def labels(self) -> Path:
        """The label table."""
        return self.store.with_suffix(".csv")

    @property
    def split(self) -> Path:
        """The official split."""
        return self.store.with_name(f"{self.store.stem}-official.json")

    @property
    def source(self) -> Path:
        """Which files of which commit the store is made of."""
        return self.store.with_name(f"{self.store.stem}.source.json")


def write_labels(path: Path, spec: DatasetSpec, slides: Iterable[Slide], group_name: str) -> None:
    """Write a label table with the headings that the card names first.

    Args:
        path: the file, which is replaced.
        spec: the card.
        slides: its rows.
        group_name: what a group is, "" if groups are unknown.
    """
    rows = [
        {
            spec.columns.slide[0]: slide.id,
            spec.columns.label[0]: spec.hierarchy.fine[slide.label],
            spec.columns.group[0]: ""
            if not group_name or slide.group == own_group(slide.id)
            else slide.group,
            spec.columns.split[0]: slide.split,
            spec.columns.centre[0]: slide.centre,
        }
        for slide in slides
    ]
    needed = (spec.columns.slide[0], spec.columns.label[0])
    filled = [name for name in rows[0] if name in needed or any(row[name] for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, filled, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    durable.replace(path, text.getvalue())


def write_card(path: Path, spec: DatasetSpec) -> None:
    """Write a dataset's card as a card file, which is replaced."""
    lines = [f"{key} = {_toml(value)}" for key, value in _keys(spec).items()]
    durable.replace(path, "\n".join(lines) + "\n")


def _keys(spec: DatasetSpec) -> dict[str, object]:
    hierarchy = spec.hierarchy
    keys: dict[str, object] = {"name": spec.name, "title": spec.title}
    if hierarchy.is_flat:
        keys["labels"] = list(hierarchy.fine)
    else:
        for c, coarse in enumerate(hierarchy.coarse):
            pairs = zip(hierarchy.fine, hierarchy.parent, strict=True)
            keys[f"hierarchy.{_toml(coarse)}"] = [fine for fine, parent in pairs if parent == c]
    if spec.class_counts:
        for name, count in zip(hierarchy.fine, spec.class_counts, strict=True):
            keys[f"slides_per_class.{_toml(name)}"] = count
    keys |= {
        "group": spec.groups.name,
        "ordered": spec.ordered,
        "main_metric": spec.main_metric,
        "protocols": list(spec.protocols),
        "folds": spec.folds,
        "source": spec.source,
        "licence": spec.licence,
        "citation": spec.citation,
        "traps": list(spec.traps),
    }
    columns = {f"columns.{name}": value for name, value in vars(spec.columns).items() if value}
    return keys | columns


def _toml(value: object) -> str:
    """A value as TOML; its texts and lists are written as those of JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_split(places: Places, spec: DatasetSpec) -> bool:
    """Write the official split, if the label table has a role for every slide.

    Returns:
        Whether there is one.

    Raises:
        InputError: the label table or another file of that name is in the way.
        SplitError: the official split cannot be followed.
    """
    slides = known_slides(spec, places.labels, places.store.parent)
    if _OFFICIAL not in spec.protocols or slides is None:
        return False
    if not _all_roles(slides.frame["split"].tolist()):
        return False
    plan = make_splits(_OFFICIAL, slides.frame, spec.hierarchy, 1, slides.group_name)
    source = "; ".join(filter(None, [plan.source, f"made from the {slides.origin}"]))
    SplitFile(spec.slug, plan.protocol, source, plan.folds).write(places.split)
    return True


def _all_roles(roles: Sequence[str]) -> bool:
    return bool(roles) and all(role in ROLES for role in roles)
