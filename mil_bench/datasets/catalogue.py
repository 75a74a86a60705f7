"""From a dataset's name to its card, and from a card to its bags on disk."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.bags.opening import open_bags
from mil_bench.bags.store import VERSION, StoreHeader, create_store
from mil_bench.datasets.card import SIMULATED_SUFFIX
from mil_bench.errors import InputError, MissingFeaturesError, UnknownNameError
from mil_bench.wording import split_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mil_bench.bags.bag import Bag
    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import BagGenerator, DatasetSpec

_CARD_FILE = ".toml"


def find_dataset(text: str) -> DatasetSpec:
    """The card behind ``name``, ``name:setting=value,...`` or ``path/to/card.toml``.

    Raises:
        UnknownNameError: no such dataset, or its generator has no such setting.
        InputError: a value does not fit its setting, the dataset has no settings, or the card file
            is faulty.
    """
    if text.endswith(_CARD_FILE):
        from mil_bench.datasets.card_file import read_card  # pydantic, which few calls need

        return read_card(Path(text))
    name, settings = split_settings(text)
    card = f"{name}{_CARD_FILE}"
    if name not in registry.datasets.names() and Path(card).is_file():
        raise UnknownNameError("dataset", name, [*registry.datasets.names(), card])
    spec: DatasetSpec = registry.datasets.load(name)
    return spec.with_settings(_converted(spec, settings)) if settings else spec


def dataset_name(slug: str) -> str:
    """The name of the dataset that has a slug; they differ for simulated datasets."""
    name = slug.removesuffix(SIMULATED_SUFFIX)
    return name if name in registry.datasets.names() else slug


def on_the_command_line(slug: str) -> str:
    """What to write after ``--dataset``: a dataset's name, or the usual name of its card file."""
    name = dataset_name(slug)
    return name if name in registry.datasets.names() else f"{slug}{_CARD_FILE}"


def _converted(spec: DatasetSpec, settings: dict[str, str]) -> dict[str, Any]:
    """The settings in the types of the generator's fields."""
    written = {key: f"{key}={text}" if text else key for key, text in settings.items()}
    where = f"dataset '{spec.name}:{','.join(written.values())}'"
    if spec.generator is None:
        problem = f"{spec.name} is real data and has no settings"
        raise InputError(where, [problem], f"Write {spec.name} alone.")
    kinds = {
        field.name: type(getattr(spec.generator, field.name))
        for field in dataclasses.fields(spec.generator)
    }
    values, problems = {}, []
    for key, text in settings.items():
        if key not in kinds:
            raise UnknownNameError(f"setting of {spec.name}", key, kinds)
        try:
            values[key] = kinds[key](text)
        except ValueError:
            problems.append(f"'{written[key]}': {key} takes a value of type {kinds[key].__name__}")
    if problems:
        raise InputError(where, problems, "Write settings as name=value,name=value.")
    return values


def store_path(spec: DatasetSpec, data_dir: Path) -> Path:
    """The dataset's store; the file name of a generated dataset has a digest of its settings."""
    if spec.generator is None:
        return data_dir / f"{spec.name}.h5"
    # With the versions of the store and of the generator, so that files of older code are not used.
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
    return data_dir / f"{spec.name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}.h5"


def open_store(
    spec: DatasetSpec,
    data_dir: Path,
    watch: Callable[[Iterable[Bag], int], Iterable[Bag]] | None = None,
) -> BagStore:
    """The dataset's bags; a generated dataset is made on first use.

    Args:
        spec: the card.
        data_dir: folder of the stores.
        watch: wraps the iteration over the bags while they are made, given them and their number
            (a progress bar).

    Raises:
        MissingFeaturesError: a real dataset whose features are not packed here.
        InputError: the store is broken or has other classes than the card.
    """
    path = store_path(spec, data_dir)
    if not path.exists():
        if spec.generator is None:
            raise _missing(spec, path)
        _generate(spec, spec.generator, path, watch)
    store = open_bags(path)
    if store.dataset != spec.slug:
        problem = f"it holds {dataset_name(store.dataset)}, not {spec.name}"
        raise InputError(
            f"bag store {path}", [problem], f"Move it away and pack the features of {spec.name}."
        )
    if store.hierarchy != spec.hierarchy:
        classes, expected = list(store.hierarchy.fine), list(spec.hierarchy.fine)
        problem = f"its classes are {classes}, the card says {expected}"
        raise InputError(
            f"bag store {path}", [problem], "Pack the features again with this version's card."
        )
    return store


def _generate(
    spec: DatasetSpec,
    generator: BagGenerator,
    path: Path,
    watch: Callable[[Iterable[Bag], int], Iterable[Bag]] | None,
) -> None:
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
        f"  FOLDER: one feature file per slide. Source of the slides: {spec.source}",
        "  TABLE:  CSV, TSV or .xlsx with the columns "
        f"{spec.columns.slide[0]}, {spec.columns.label[0]}, {spec.columns.group[0]}.",
    ]
    if f"{spec.name}-sim" in registry.datasets.names():
        lines.append(
            f"Or run the simulated dataset, which needs no download:  --dataset {spec.name}-sim"
        )
    return MissingFeaturesError("\n".join(lines))
