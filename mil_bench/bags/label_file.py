"""Labels beside a bag store: what one label table says of slides whose features are packed once.

A store holds the labels of the table with which it was packed. Every other table becomes a small
file that names the store; no features are copied. Slides are called as the table calls them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mil_bench import durable
from mil_bench.bags.bag import ROLES, Slide, slide_frame
from mil_bench.bags.index import TEXTS
from mil_bench.errors import InputError
from mil_bench.file_values import read_object, typed
from mil_bench.hierarchy import LabelHierarchy  # noqa: TC001 - pydantic needs the type

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from mil_bench.bags.index import StoreIndex

ENDING = ".labels.json"
_FORMAT = "mil-bench labels"
_VERSION = 1
_UUID = re.compile(r"\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)


@dataclass(frozen=True)
class SlideLabels:
    """What a label table says of the slides of a dataset.

    Args:
        dataset: slug of the dataset.
        hierarchy: its classes.
        group_name: what a group is, "" if groups are unknown.
        features: the dataset whose packed features they have, as its files are named.
        table: file name of the label table.
        slides: the slides of the table, also those without features.
    """

    dataset: str
    hierarchy: LabelHierarchy
    group_name: str
    features: str
    table: str
    slides: tuple[Slide, ...]


def write_labels(path: Path, labels: SlideLabels) -> None:
    """Write or replace a label file.

    Raises:
        StorageError: the disk refuses.
    """
    values = dataclasses.asdict(labels) | {"hierarchy": labels.hierarchy.to_json()}
    head = {"format": _FORMAT, "version": _VERSION, "digest": _digest(values)}
    durable.replace(path, json.dumps(head | values, indent=0, ensure_ascii=True) + "\n")


def read_labels(path: Path) -> SlideLabels:
    """What a label file holds.

    Raises:
        InputError: it is no label file, of another version, or was changed.
    """
    try:
        values = read_object(path)
        version, digest = values.pop("version", None), values.pop("digest", None)
        if values.pop("format", None) != _FORMAT or version != _VERSION:
            raise ValueError(f"is not a label file of version {_VERSION}")
        labels = typed(SlideLabels, values)
        if digest != _digest(values):
            raise ValueError("was changed after it was written")
        _check(labels)
    except (OSError, ValueError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        remedy = "Write it again from the label table: mil-bench data label."
        raise InputError(f"label file {path}", [f"{path.name} {reason}"], remedy) from error
    return labels


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(labels: SlideLabels) -> None:
    ids = [slide.id for slide in labels.slides]
    if len(set(ids)) != len(ids) or "" in ids:
        raise ValueError("has a slide without an id, or twice")
    if not all(0 <= slide.label < labels.hierarchy.n_fine for slide in labels.slides):
        raise ValueError("has labels that are none of its classes")
    if not {slide.split for slide in labels.slides} <= ROLES:
        raise ValueError("has roles of slides that are not train, val or test")
    if not labels.features or "/" in labels.features or "\\" in labels.features:
        raise ValueError("names features that are not in its own folder")


def without_uuid(slide: str) -> str:
    """A slide id without the UUID at the end of TCGA's file names, which many tables leave out."""
    return _UUID.sub("", slide)


def matched(named: Collection[str], packed: Collection[str]) -> dict[str, str]:
    """Which features the slides of a table have: id in the table to id of the features.

    An id that is in both is itself. Otherwise two ids match if one of them is the other one with
    TCGA's UUID, and no third id could be meant as well. Slides without features are left out.
    """
    found = {slide: slide for slide in named if slide in packed}
    if len(found) == len(named):
        return found
    taken = frozenset(found)
    rest = [
        {without_uuid(slide): slide for slide in side if slide not in taken}
        for side in (named, packed)
    ]
    counts = [Counter(without_uuid(slide) for slide in side) for side in (named, packed)]
    for base, slide in rest[0].items():
        other = rest[1].get(base)
        is_single = all(count[base] == 1 for count in counts)
        if other is not None and is_single and base in (slide, other):
            found[slide] = other
    return found


def relabelled(index: StoreIndex, labels: SlideLabels) -> StoreIndex:
    """The index of the slides of a store that a table names, with what the table says of them.

    They are in the order of the store.
    """
    features_of = matched([slide.id for slide in labels.slides], index.texts["slides"])
    position = {slide: i for i, slide in enumerate(index.texts["slides"])}
    slides = sorted(
        (slide for slide in labels.slides if slide.id in features_of),
        key=lambda slide: position[features_of[slide.id]],
    )
    part = index.part(np.array([position[features_of[s.id]] for s in slides], dtype=np.int64))
    frame = slide_frame(slides)
    own = {"dataset": labels.dataset, "group_name": labels.group_name}
    return replace(
        part,
        attributes={**index.attributes, **own},
        hierarchy=labels.hierarchy,
        labels=frame["label"].to_numpy(dtype=np.int64),
        texts={
            name: frame[column].tolist()
            for name, column in zip(TEXTS, ("slide", "group", "split", "centre"), strict=True)
        },
        without_features=len(labels.slides) - len(slides),
    )
