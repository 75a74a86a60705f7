"""List datasets, pack features."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.cards import add_allow_missing, add_cards
from mil_bench.commands.get import add_get
from mil_bench.commands.inspection import add_inspection, add_reading, reading_of
from mil_bench.commands.options import add_data_folder, named_again
from mil_bench.commands.terminal.printing import complain
from mil_bench.progress import progress_bar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.intake.pack import Packed

# More processes only wait for the disk, and each holds a bag in memory.
_MOST_WORKERS = 8


def add_data(subparsers: Any) -> None:
    """``mil-bench data``."""
    group = subparsers.add_parser(
        "data", help="list datasets, get public features, pack your own, inspect them"
    )
    actions = group.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list all datasets, with those still to be packed")
    listing.set_defaults(call=list_datasets)
    add_data_folder(listing)
    add_cards(actions)
    _add_packing(actions)
    _add_labelling(actions)
    add_inspection(actions)
    add_get(actions)


def _add_packing(actions: Any) -> None:
    packing = actions.add_parser(
        "pack",
        help="pack a folder of feature files into one bag store",
        description="Packs one feature file per slide (as CLAM, TRIDENT, STAMP, torchmil or HMIL "
        "write them) and a label table into one bag store, which mil-bench run then reads. All "
        "problems of the input are listed together. If it is interrupted or killed, the same "
        "command continues.",
    )
    packing.set_defaults(call=pack)
    packing.add_argument(
        "folder", type=Path, metavar="FOLDER", help="one file per slide, or a tool's output folder"
    )
    packing.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="a real dataset (mil-bench data list) or a card file",
    )
    packing.add_argument(
        "--encoder",
        default="",
        metavar="NAME",
        help="pack into a store of this encoder, NAME@ENCODER.h5, beside those of others; if the "
        "files name their encoder, it must be the same",
    )
    packing.add_argument(
        "--only",
        action="store_true",
        help="pack only slides that have a label (default: all, so that other label tables can "
        "use them: mil-bench data label)",
    )
    _add_label_table(packing)
    packing.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read and write; default: the number of cores, "
        f"at most {_MOST_WORKERS}",
    )
    add_allow_missing(packing)
    add_reading(packing)
    add_data_folder(packing)


def _add_labelling(actions: Any) -> None:
    labelling = actions.add_parser(
        "label",
        help="give packed features the labels of another table, without a copy of the features",
        description="Writes a small file NAME.labels.json beside the packed features: which label, "
        "patient, centre and role each slide has for this dataset. Several datasets can so use the "
        "features of one. Called again, it replaces the labels; results of other labels are not "
        "mixed in.",
    )
    labelling.set_defaults(call=label)
    labelling.add_argument(
        "--dataset", required=True, metavar="NAME", help="the dataset or card file to be labelled"
    )
    _add_label_table(labelling)
    labelling.add_argument(
        "--features",
        metavar="NAME",
        help="the packed dataset (or its card file) whose features are used (default: its own)",
    )
    add_allow_missing(labelling)
    add_data_folder(labelling)


def _add_label_table(parser: Any) -> None:
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="TABLE",
        help="CSV, TSV or .xlsx with the columns slide, label and, if known, patient",
    )


def list_datasets(arguments: argparse.Namespace) -> int:
    """All datasets, and which of them are still to be packed."""
    from mil_bench.datasets.catalogue import is_packed
    from mil_bench.errors import show
    from mil_bench.registry import datasets

    names = datasets.names()
    width = max(map(len, names))
    for name in names:
        spec = datasets.load(name)
        is_ready = is_packed(spec, arguments.data)
        show(f"{name:{width}}  {spec.title}{'' if is_ready else '  [features to be packed]'}")
    return 0


def pack(arguments: argparse.Namespace) -> int:
    """Feature files into a store."""
    from mil_bench.datasets.catalogue import find_dataset, store_path
    from mil_bench.errors import InputError
    from mil_bench.intake import pack as packing
    from mil_bench.intake.partial_store import hidden_path

    if arguments.workers is not None and arguments.workers < 1:
        raise InputError(
            "--workers",
            [f"{arguments.workers} is less than 1"],
            "Give the number of processes, 1 or more.",
        )
    workers = arguments.workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    spec = find_dataset(arguments.dataset)
    try:
        packed = packing.pack(
            arguments.folder,
            spec,
            arguments.labels,
            arguments.data,
            progress_bar,
            workers,
            reading_of(arguments),
            arguments.allow_missing,
            arguments.only,
            arguments.encoder,
        )
    except KeyboardInterrupt:
        hidden = hidden_path(store_path(spec, arguments.data, arguments.encoder))
        if not hidden.exists():
            raise
        complain(
            f"stopped. What is packed so far is in {hidden}; the same command continues from "
            f"there. To discard it, remove {hidden}*."
        )
        return 130
    _print_packed(packed, spec)
    again = named_again(arguments.dataset, arguments.data)
    chosen = f"{again} --encoder {arguments.encoder}" if arguments.encoder else again
    print(f"Inspect:  mil-bench data inspect {packed.store.path if arguments.encoder else again}")
    print(f"Run:      mil-bench run --dataset {chosen}")
    return 0


def label(arguments: argparse.Namespace) -> int:
    """Labels of a table for packed features."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.errors import show
    from mil_bench.intake import labelling
    from mil_bench.wording import first_names, plural

    spec = find_dataset(arguments.dataset)
    labelled = labelling.label(
        spec, arguments.labels, arguments.data, arguments.features, arguments.allow_missing
    )
    for store in labelled.stores:
        show(
            f"{labelled.path}: {plural(len(store), 'slide')} of the "
            f"{plural(len(store.stored), 'slide')} in {store.path}, digest {store.digest}"
        )
        former = labelled.former.get(store.path, store.digest)
        if former != store.digest:
            show(
                f"Its labels were others before (digest {former}): results of those stay stored "
                "and are not used for these."
            )
        _print_slides(store, spec)
    for note in labelled.table.notes:
        show(note)
    if labelled.table.unlabelled:
        _print_omitted(
            sorted(labelled.table.unlabelled), "has no label and is", "have no label and are"
        )
    if labelled.without_features:
        missing, names = labelled.without_features, first_names(labelled.without_features)
        count = plural(len(missing), "labelled slide has", "labelled slides have")
        show(f"{count} no features and captions say so: {names}")
    print(f"Run:  mil-bench run --dataset {named_again(arguments.dataset, arguments.data)}")
    return 0


def _print_omitted(slides: Sequence[str], one: str, many: str) -> None:
    from mil_bench.errors import show
    from mil_bench.wording import first_names, plural

    count = plural(len(slides), f"slide {one}", f"slides {many}")
    show(f"{count} left out: {first_names(slides)}")


def _print_slides(store: BagStore, spec: DatasetSpec) -> None:
    """Slides per class, and what is not known of groups."""
    import numpy as np

    from mil_bench.datasets.slides import packed_slides
    from mil_bench.errors import show

    classes = spec.hierarchy.fine
    counts = np.bincount(store.labels, minlength=len(classes))
    for c, name in enumerate(classes):
        share = f"{counts[c] / len(store):.1%}"
        if spec.class_counts:
            share += f", on the card {spec.class_counts[c] / sum(spec.class_counts):.1%}"
        show(f"  {name}: {counts[c]} slides ({share})")
    if not store.group_name:
        show(
            f"{len(store)} of {len(store)} slides have no {spec.groups.name}: slides of one "
            f"{spec.groups.name} may be on two sides of a split, and captions say so."
        )
    for note in packed_slides(store, spec).group_notes(store.slides["slide"]):
        show(note)


def _print_packed(packed: Packed, spec: DatasetSpec) -> None:
    from mil_bench.errors import show
    from mil_bench.wording import first_names, plural

    store = packed.store
    formats = ", ".join(f"{count} {name}" for name, count in packed.formats.items())
    show(
        f"{store.path}: {len(store)} slides, {store.rows} instances, {store.width} features "
        f"({formats})"
    )
    _print_slides(store, spec)
    if packed.resumed:
        resumed = plural(packed.resumed, "slide was", "slides were")
        show(f"{resumed} packed by an earlier call that was interrupted.")
    if packed.unneeded:
        count = plural(len(packed.unneeded), "slide has", "slides have")
        show(
            f"{count} no label in this table; packed for other tables (mil-bench data label; "
            f"--only leaves them out): {first_names(packed.unneeded)}"
        )
    if packed.left:
        show(f"{plural(packed.left, 'file is', 'files are')} not packed: no label in this table.")
    if packed.doubles:
        held = plural(packed.doubles, "file holds", "files hold")
        show(f"{held} float64 features, which are packed as float32.")
    for what, without in (
        ("coordinates", packed.without_coords),
        ("labels of their instances", packed.without_instance_labels),
    ):
        if without:
            show(f"{without} of {len(store)} files have no {what}, so the store has none.")
    for note in packed.notes:
        show(note)
    if packed.unlabelled:
        _print_omitted(packed.unlabelled, "has no label and is", "have no label and are")
    if packed.empty:
        _print_omitted(packed.empty, "has no instances and is", "have no instances and are")
    if packed.without_features:
        missing = plural(len(packed.without_features), "labelled slide has", "labelled slides have")
        show(f"{missing} no feature file: {first_names(packed.without_features)}")
