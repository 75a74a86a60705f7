"""Labels of another table for features that are packed already; no features are copied."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.bags.label_file import SlideLabels, matched, read_labels, write_labels
from mil_bench.bags.opening import open_bags
from mil_bench.datasets.catalogue import labels_path, packed_stores
from mil_bench.datasets.labels import read_label_table
from mil_bench.datasets.slide_ids import SlideNames
from mil_bench.errors import InputError
from mil_bench.wording import near_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.labels import LabelTable

_REMEDY = "Nothing was written. Correct the table, or leave such slides out with --allow-missing."


@dataclass(frozen=True)
class Labelled:
    """What was labelled.

    Args:
        path: the label file.
        table: the label table.
        stores: the stores with the features, each with these labels; one per encoder.
        without_features: slides of the table that no store has.
        former: digests of the stores with their former labels by path, if the dataset had labels.
    """

    path: Path
    table: LabelTable
    stores: Sequence[BagStore]
    without_features: tuple[str, ...]
    former: Mapping[Path, str]


def label(
    spec: DatasetSpec,
    labels: Path,
    data_dir: Path,
    features: str | None = None,
    allow_missing: bool = False,
) -> Labelled:
    """Write the label file of a dataset, or replace it.

    Args:
        spec: the dataset's card.
        labels: the label table.
        data_dir: folder of the stores.
        features: the dataset whose packed features the slides have; None for its own, or those that
            its label file names.
        allow_missing: leave slides out whose label is missing in the table, and those of the table
            that have no features.

    Raises:
        InputError: with every problem; nothing is written.
        StorageError: the disk refuses.
    """
    what = f"labels of {spec.name}"
    if spec.generator is not None:
        problem = f"{spec.name} is generated with its labels"
        raise InputError(what, [problem], "Name a dataset with packed features.")
    table, path = read_label_table(labels, spec, allow_missing), labels_path(spec, data_dir)
    features = _features(spec, path, features, data_dir)
    paths = packed_stores(features, data_dir).values()
    packed = {store: open_bags(store).stored for store in paths}
    found = {store: matched(table.slides, slides) for store, slides in packed.items()}
    with_features = {slide for slides in found.values() for slide in slides}
    missing = tuple(slide for slide in table.slides if slide not in with_features)
    if not with_features or (missing and not allow_missing):
        names = SlideNames({slide for slides in packed.values() for slide in slides})
        raise InputError(what, [_missing(slide, features, names) for slide in missing], _REMEDY)
    former = _digests(spec, path, paths)
    content = SlideLabels(
        spec.slug,
        spec.hierarchy,
        table.group_name,
        features,
        labels.name,
        tuple(table.slides.values()),
    )
    write_labels(path, content)
    stores = [open_bags(store, path) for store in paths if found[store]]
    return Labelled(path, table, stores, missing, former)


def _missing(slide: str, features: str, names: SlideNames) -> str:
    near = names.near_miss(slide, "the store")
    return f"slide '{slide}' has no features in the store of {features}{near and f'; {near}'}"


def _features(spec: DatasetSpec, path: Path, given: str | None, data_dir: Path) -> str:
    """The dataset whose stores have the features: as given, or as the dataset has it already."""
    name = Path(given).stem if given is not None and given.endswith(".toml") else given or spec.name
    other = path.with_name(f"{name}{path.name.removeprefix(spec.name)}")
    if not packed_stores(name, data_dir) and other.exists():
        name = read_labels(other).features  # of a dataset that has another one's features itself
    if not packed_stores(name, data_dir):
        names = {store.stem.partition("@")[0] for store in data_dir.glob("*.h5")}
        near = near_names(name, names)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        problem = f"no features of {name} are packed in {data_dir.resolve()}{hint}"
        remedy = (
            "Name a packed dataset with --features or another folder with --data, or pack the "
            "features (mil-bench data pack)."
        )
        raise InputError(f"labels of {spec.name}", [problem], remedy)
    return name


def _digests(spec: DatasetSpec, path: Path, stores: Iterable[Path]) -> dict[Path, str]:
    """Digests of the stores with the labels that the dataset has now, if it has any."""
    digests, labels = {}, path if path.exists() else None
    for store_path in stores:
        with contextlib.suppress(InputError):  # it holds none of the former slides
            store = open_bags(store_path, labels)
            if store.dataset == spec.slug:
                digests[store_path] = store.digest
    return digests
