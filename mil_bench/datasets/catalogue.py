"""From a dataset's name to its card, and from a card to its bags on disk."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.bags.index import VERSION
from mil_bench.bags.label_file import ENDING, read_labels
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.opening import open_bags
from mil_bench.bags.store import create_store
from mil_bench.datasets.card import SIMULATED_SUFFIX
from mil_bench.errors import InputError, MissingFeaturesError, UnknownNameError
from mil_bench.wording import split_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mil_bench.bags.bag import Bag
    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import BagGenerator, DatasetSpec

_CARD_FILE = ".toml"
_OTHER_FOLDER = "--data DIR (or MIL_BENCH_DATA) names another folder."


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


def store_path(spec: DatasetSpec, data_dir: Path, encoder: str = "") -> Path:
    """The dataset's own store; the name of a generated one has a digest of its settings."""
    if spec.generator is None:
        return data_dir / f"{spec.name}{encoder and f'@{encoder}'}.h5"
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


def labels_path(spec: DatasetSpec, data_dir: Path) -> Path:
    """The label file of a dataset whose labels are not those of its store, if there is one."""
    return data_dir / f"{spec.name}{ENDING}"


def packed_stores(features: str, data_dir: Path) -> dict[str, Path]:
    """The stores with features of a real dataset by encoder, "" for one that is named without."""
    plain = data_dir / f"{features}.h5"
    stores = {"": plain} if plain.exists() else {}
    for path in sorted(data_dir.glob(f"{glob.escape(features)}@*.h5")):
        stores[path.stem.partition("@")[2]] = path
    return stores


def labelled_stores(name: str, data_dir: Path) -> Iterator[BagStore]:
    """What is packed of a real dataset, one store per encoder with the labels that count."""
    labels = data_dir / f"{name}{ENDING}"
    features = read_labels(labels).features if labels.exists() else name
    for path in packed_stores(features, data_dir).values():
        yield open_bags(path, labels if labels.exists() else None)


def is_packed(spec: DatasetSpec, data_dir: Path) -> bool:
    """Whether a dataset's bags are there or can be made."""
    if spec.generator is not None or labels_path(spec, data_dir).exists():
        return True
    return bool(packed_stores(spec.name, data_dir))


def open_store(
    spec: DatasetSpec,
    data_dir: Path,
    watch: Callable[[Iterable[Bag], int], Iterable[Bag]] | None = None,
    encoder: str | None = None,
) -> BagStore:
    """The dataset's bags; a generated dataset is made on first use.

    Args:
        spec: the card.
        data_dir: folder of the stores.
        watch: wraps the iteration over the bags while they are made, given them and their number
            (a progress bar).
        encoder: which of several stores, None for the only one.

    Raises:
        MissingFeaturesError: a real dataset whose features are not packed here.
        InputError: the store is broken or has other classes than the card, or there are several.
        UnknownNameError: there is no store of this encoder.
    """
    labels: Path | None = None
    if spec.generator is not None:
        path = store_path(spec, data_dir)
        if encoder is not None:
            problem = f"{spec.name} is generated and has no encoder"
            raise InputError("the request", [problem], "Leave --encoder out.")
        if not path.exists():
            _generate(spec, spec.generator, path, watch)
    else:
        if (own := labels_path(spec, data_dir)).exists():
            labels = own
        path = _chosen(spec, data_dir, encoder)
    store = open_bags(path, labels)
    if store.dataset != spec.slug:
        problem = f"it holds {dataset_name(store.dataset)}, not {spec.name}"
        raise InputError(
            f"bag store {path}", [problem], f"Move it away and pack the features of {spec.name}."
        )
    if store.hierarchy != spec.hierarchy:
        classes, expected = list(store.hierarchy.fine), list(spec.hierarchy.fine)
        problem = f"its classes are {classes}, the card says {expected}"
        named = on_the_command_line(spec.slug)
        raise InputError(
            f"bag store {path}" if labels is None else f"label file {labels}",
            [problem],
            f"Give it labels of this card: mil-bench data label --dataset {named} --labels TABLE.",
        )
    return store


def stores_of(spec: DatasetSpec, data_dir: Path) -> dict[str, Path]:
    """The stores with the features of a real dataset by encoder, see ``packed_stores``."""
    labels = labels_path(spec, data_dir)
    features = read_labels(labels).features if labels.exists() else spec.name
    stores = packed_stores(features, data_dir)
    if not stores:
        raise _missing(spec, store_path(spec, data_dir), features)
    return stores


def _chosen(spec: DatasetSpec, data_dir: Path, encoder: str | None) -> Path:
    """The store of an encoder, or the only store."""
    stores = stores_of(spec, data_dir)
    if encoder is None and (len(stores) == 1 or "" in stores):
        return stores.get("") or next(iter(stores.values()))
    if encoder is None:
        problem = f"{spec.name} is packed with several encoders: {', '.join(stores)}"
        remedy = "Name one of them: --encoder NAME, or for data info and data inspect its file, "
        raise InputError("the request", [problem], f"{remedy}{next(iter(stores.values()))}.")
    if encoder in stores:
        return stores[encoder]
    names = {name or _encoder_in(path): path for name, path in stores.items()}
    if encoder not in names:
        raise UnknownNameError(f"encoder of {spec.name}", encoder, filter(None, names))
    return names[encoder]


def _encoder_in(path: Path) -> str:
    """The encoder that the feature files of a store named."""
    return open_bags(path).encoder


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


def _missing(spec: DatasetSpec, path: Path, features: str) -> MissingFeaturesError:
    if features != spec.name:
        return MissingFeaturesError(
            f"{spec.name} has the features of {features}, which are not packed: there is no "
            f"{features}.h5 in {path.parent.resolve()}. {_OTHER_FOLDER}"
        )
    named = on_the_command_line(spec.slug)
    lines = [
        f"{spec.name}: no features are packed; there is no {path.name} in "
        f"{path.parent.resolve()}. {_OTHER_FOLDER}",
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
