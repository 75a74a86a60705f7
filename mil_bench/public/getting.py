"""From a recipe to a store: each file is fetched, packed and removed before the next one."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.bags.bag import Slide
from mil_bench.bags.opening import open_bags
from mil_bench.datasets.catalogue import store_path
from mil_bench.datasets.labels import LabelTable, read_label_table
from mil_bench.datasets.slide_ids import own_group
from mil_bench.errors import InputError
from mil_bench.intake.growing_store import GrowingStore, open_growing
from mil_bench.intake.row_packing import all_finite
from mil_bench.progress import unwatched
from mil_bench.public.beside import Places, write_card, write_labels, write_split
from mil_bench.public.fetch import Hub
from mil_bench.public.layouts import LAYOUTS, Fetched
from mil_bench.public.source import Source, SourceFile, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.progress import Watch
    from mil_bench.public.layouts import PublicBag
    from mil_bench.public.recipe import Recipe

_MANY = 20  # files from which on progress is counted in files, not in the slides of each
_EMPTY = "has no instances"
_UNLABELLED = "is not in the label table"


@dataclass(frozen=True)
class Gotten:
    """What a recipe has become.

    Args:
        store: the store.
        places: its files.
        dataset: what to give as ``--dataset``.
        encoder: what to give as ``--encoder``, "" for nothing.
        has_split: whether there is an official split.
        protocol: the dataset's usual protocol.
        skipped: slides that are left out: reason to number; empty for a store that was there.
    """

    store: BagStore
    places: Places
    dataset: str
    encoder: str
    has_split: bool
    protocol: str
    skipped: Mapping[str, int]


def get(recipe: Recipe, data: Path, labels: Path | None, watch: Watch) -> Gotten:
    """Fetch and pack public features; write label table, card and official split beside them.

    A call that was interrupted, even killed, continues where it was.

    Args:
        recipe: what to fetch.
        data: folder of the stores.
        labels: the user's label table, for recipes that need one.
        watch: wraps the iterations over files and slides.

    Raises:
        InputError: the label table has errors, or the repository is not what the recipe says.
        MilBenchError: the hub does not answer, or refuses.
        StorageError: the disk refuses, or another process packs the same dataset.
    """
    spec, encoder = recipe.spec(), recipe.encoder if recipe.is_of_dataset else ""
    places = Places(store_path(spec, data, encoder))
    skipped: Mapping[str, int] = {}
    if not places.store.exists():
        skipped = _fetch(recipe, spec, places, _label_table(recipe, spec, labels), watch)
    store = open_bags(places.store)
    if store.dataset != spec.slug or not places.labels.exists():
        problem = f"{places.store} is there already and does not come from this recipe"
        raise InputError(
            f"data get {recipe.name}", [problem], "Move it away, or name another folder (--data)."
        )
    dataset = recipe.card if recipe.is_of_dataset else str(places.card)
    has_split = write_split(places, spec)
    return Gotten(store, places, dataset, encoder, has_split, spec.protocols[0], skipped)


def _label_table(recipe: Recipe, spec: DatasetSpec, labels: Path | None) -> LabelTable | None:
    """The user's label table; None for recipes that bring their own labels."""
    what = f"data get {recipe.name}"
    if labels is None and recipe.needs_labels:
        problem = f"the labels are not published with the features: {recipe.needs_labels}"
        raise InputError(what, [problem], "Name the table with --labels TABLE.")
    if labels is not None and not recipe.needs_labels:
        problem = "--labels is given, but the labels come with the features"
        raise InputError(what, [problem], "Leave --labels out.")
    return read_label_table(labels, spec) if labels is not None else None


def _fetch(
    recipe: Recipe, spec: DatasetSpec, places: Places, table: LabelTable | None, watch: Watch
) -> Counter[str]:
    """Make the store.

    Returns:
        How many slides are left out, by reason.
    """
    hub = Hub(recipe.repository, recipe.page)
    source = source_of(recipe, hub, places.source)
    with open_growing(places.store, spec, _identity(recipe, source, table), watch) as store:
        _pack(recipe, hub, source, store, table, watch)
        skipped = Counter(store.skipped.values())
        if not store.bags:
            problem = f"none of its slides can be packed: {_listed(skipped)}"
            raise InputError(f"data get {recipe.name}", [problem], "Nothing was stored.")
        slides, group_name = _declared(recipe, spec, store, table)
        write_labels(places.labels, spec, slides.values(), group_name)
        if not recipe.is_of_dataset:
            write_card(places.card, spec)
        origin = f"{recipe.repository} at {source.commit[:7]}"
        store.complete(slides, group_name, origin, recipe.encoder)
    return skipped


def _identity(recipe: Recipe, source: Source, table: LabelTable | None) -> str:
    """A text that differs whenever other bags would be packed."""
    labelled = () if table is None else sorted(table.slides)
    read = (recipe.layout, recipe.columns, source, labelled)
    return hashlib.sha256(repr(read).encode()).hexdigest()


def _declared(
    recipe: Recipe, spec: DatasetSpec, store: GrowingStore, table: LabelTable | None
) -> tuple[dict[str, Slide], str]:
    """What is declared of each slide, in the order of the store, and what a group is."""
    if table is not None:
        return {slide: table.slides[slide] for slide in store.bags}, table.group_name
    index_of = {name: c for c, name in enumerate(spec.hierarchy.fine)}
    slides = {
        name: Slide(
            name,
            index_of[bag.label],
            name if recipe.one_slide_per_group else own_group(name),
            bag.split,
        )
        for name, bag in store.bags.items()
    }
    return slides, spec.groups.name if recipe.one_slide_per_group else ""


def _listed(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items()) or "it has none"


def _pack(
    recipe: Recipe,
    hub: Hub,
    source: Source,
    store: GrowingStore,
    table: LabelTable | None,
    watch: Watch,
) -> None:
    """Fetch and pack the files that are missing in a store."""
    files = source.holding("bags")
    numbers = _numbers(files)
    missing = [file for file in files if file.remote.path not in store.finished]
    many = len(files) > _MANY
    outer, inner = (watch, unwatched) if many else (unwatched, watch)
    hub.show_progress(not many)
    with contextlib.ExitStack() as stack:
        read = stack.enter_context(LAYOUTS[recipe.layout]())
        beside: dict[str, list[Path]] = {}
        for file in source.files if missing else ():
            if file.holds != "bags":
                path = stack.enter_context(_local(hub, source, file))
                beside.setdefault(file.holds, []).append(path)
        for file in outer(missing, len(missing), f"fetching {recipe.name}"):
            with _local(hub, source, file) as path:
                fetched = Fetched(path, file, numbers[file.remote.path], recipe, beside)
                bags = read(fetched, store.bags.keys() | store.skipped.keys())
                for bag in inner(bags, _count(recipe, files), f"packing {fetched.name}"):
                    _take(store, bag, table, fetched)
                store.finish(file.remote.path)


def _numbers(files: list[SourceFile]) -> dict[str, int]:
    """The place of each file among those of its role."""
    of_role: Counter[str] = Counter()
    numbers = {}
    for file in files:
        numbers[file.remote.path] = of_role[file.split]
        of_role[file.split] += 1
    return numbers


def _count(recipe: Recipe, files: list[SourceFile]) -> int:
    """About how many slides a file holds, for the progress bar."""
    return max(1, sum(recipe.spec().class_counts) // len(files))


@contextlib.contextmanager
def _local(hub: Hub, source: Source, file: SourceFile) -> Iterator[Path]:
    """A file on this disk, which is removed when the block succeeds unless others put it there."""
    cached = hub.cached(source.commit, file.remote)
    path = cached or hub.fetched(source.commit, file.remote)
    yield path
    if cached is None:
        path.unlink()
        with contextlib.suppress(OSError):  # other files are still there
            path.parent.rmdir()


def _take(store: GrowingStore, bag: PublicBag, table: LabelTable | None, fetched: Fetched) -> None:
    """Append a bag, or note why it is left out."""
    if not len(bag.raw.features):
        store.skip(bag.slide, _EMPTY)
    elif table is not None and bag.slide not in table.slides:
        store.skip(bag.slide, _UNLABELLED)
    elif not all(
        all_finite(values) for values in (bag.raw.features, bag.raw.coords) if values is not None
    ):
        raise fetched.unreadable(f"slide {bag.slide} holds NaN or infinite values")
    else:
        store.add(bag.slide, bag.raw, bag.label, bag.split)
