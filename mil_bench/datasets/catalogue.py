"""From a dataset's name to its card, and from a card to its bags on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.bags.store import VERSION, BagStore, StoreHeader, create_store
from mil_bench.datasets.card_file import read_card
from mil_bench.errors import InputError, MissingFeaturesError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mil_bench.bags.bag import Bag
    from mil_bench.datasets.card import DatasetSpec

_CARD_FILE = ".toml"


def find_dataset(text: str) -> DatasetSpec:
    """The card behind ``name``, ``name:setting=value,...`` or ``path/to/card.toml``.

    Raises:
        UnknownNameError: no such dataset, or its generator has no such setting.
        InputError: a value does not fit its setting, the dataset has no settings, or the card file
            is faulty.
    """
    if text.endswith(_CARD_FILE):
        return read_card(Path(text))
    name, _, settings = text.partition(":")
    own = f"{name}{_CARD_FILE}"
    if name not in registry.datasets.names() and os.path.isfile(own):
        raise UnknownNameError("dataset", name, [*registry.datasets.names(), own])
    spec: DatasetSpec = registry.datasets.load(name)
    return spec.with_settings(_parse(spec, settings)) if settings else spec


def on_the_command_line(slug: str) -> str:
    """What to write after ``--dataset`` for a dataset's slug: of an own dataset its card, by its usual name."""
    name = slug.removesuffix("-twin")
    return name if name in registry.datasets.names() else f"{slug}{_CARD_FILE}"


def _parse(spec: DatasetSpec, text: str) -> dict[str, Any]:
    where = f"dataset '{spec.name}:{text}'"
    if spec.generator is None:
        raise InputError(
            where, [f"{spec.name} is real data and has no settings"], f"Write {spec.name} alone."
        )
    known = {
        f.name: type(getattr(spec.generator, f.name)) for f in dataclasses.fields(spec.generator)
    }  # type: ignore[arg-type]
    parsed = {}
    for item in text.split(","):
        key, _, value = item.partition("=")
        if key not in known:
            raise UnknownNameError(f"setting of {spec.name}", key, known)
        try:
            parsed[key] = known[key](value)
        except ValueError as error:
            problem = f"'{item}': {key} takes a value of type {known[key].__name__}"
            raise InputError(
                where, [problem], "Write settings as name=value,name=value."
            ) from error
    return parsed


def store_path(spec: DatasetSpec, data_dir: Path) -> Path:
    """Where the dataset's store lies: real data under their name, generated ones with their settings' digest."""
    if spec.generator is None:
        return data_dir / f"{spec.name}.h5"
    # With the versions of the store and of the generator: files of older code are left alone and
    # not used.
    settings = repr(
        (
            VERSION,
            spec.hierarchy,
            spec.class_counts,
            spec.groups,
            spec.generator,
            spec.generator.version,
        )
    )
    return data_dir / f"{spec.slug}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}.h5"


def open_store(
    spec: DatasetSpec,
    data_dir: Path,
    watch: Callable[[Iterable[Bag], int], Iterable[Bag]] | None = None,
) -> BagStore:
    """The dataset's bags; a generated dataset is made on first use.

    Args:
        spec: the card.
        data_dir: folder of the stores.
        watch: wraps the iteration over the bags being made, given them and their number (a progress
            bar).

    Raises:
        MissingFeaturesError: a real dataset whose features are not packed here.
        InputError: the store is broken or has other classes than the card.
    """
    path = store_path(spec, data_dir)
    if not path.exists():
        if spec.generator is None:
            raise _missing(spec, path)
        _generate(spec, path, watch)
    store = BagStore(path)
    if store.dataset != spec.slug:
        problem = f"it holds {store.dataset}, not {spec.slug}"
        raise InputError(
            f"bag store {path}", [problem], f"Move it away and pack the features of {spec.name}."
        )
    if store.hierarchy != spec.hierarchy:
        problem = f"its classes are {list(store.hierarchy.fine)}, the card says {list(spec.hierarchy.fine)}"
        raise InputError(
            f"bag store {path}", [problem], "Pack the features again with this version's card."
        )
    return store


def _generate(spec: DatasetSpec, path: Path, watch: Callable[..., Iterable[Bag]] | None) -> None:
    generator = spec.generator
    assert generator is not None
    count, rows = generator.size(spec)
    bags = iter(generator.generate(spec))
    first = next(bags)
    header = StoreHeader(
        dataset=spec.slug,
        hierarchy=spec.hierarchy,
        rows=rows,
        width=first.features.shape[1],
        dtype=first.features.dtype.name,
        origin=generator.describe(),
        group_name=spec.groups.name,
        has_instance_labels=first.instance_labels is not None,
    )
    with create_store(path, header) as writer:
        writer.add(first)
        for bag in watch(bags, count - 1) if watch else bags:
            writer.add(bag)


def _missing(spec: DatasetSpec, path: Path) -> MissingFeaturesError:
    named = on_the_command_line(spec.slug)
    lines = [
        f"{spec.name}: no features are packed ({path} does not exist).",
        f"Pack yours:  mil-bench data pack FOLDER --dataset {named} --labels TABLE",
        f"  FOLDER: one feature file a slide. Source of the slides: {spec.source}",
        "  TABLE:  CSV, TSV or .xlsx with the columns "
        f"{spec.columns.slide[0]}, {spec.columns.label[0]}, {spec.columns.group[0]}.",
    ]
    if f"{spec.name}-sim" in registry.datasets.names():
        lines.append(f"Or run its generated twin, which needs nothing:  --dataset {spec.name}-sim")
    return MissingFeaturesError("\n".join(lines))
