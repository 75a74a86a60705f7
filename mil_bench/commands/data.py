"""List datasets, pack features."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.cards import add_allow_missing, add_cards
from mil_bench.commands.get import add_get
from mil_bench.commands.inspection import add_inspection, add_reading, reading_of
from mil_bench.commands.options import add_data_folder, named_again
from mil_bench.progress import progress_bar

if TYPE_CHECKING:
    import argparse

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
        "--labels",
        type=Path,
        required=True,
        metavar="TABLE",
        help="CSV, TSV or .xlsx with the columns slide, label and, if known, patient",
    )
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
    add_inspection(actions)
    add_get(actions)


def list_datasets(arguments: argparse.Namespace) -> int:
    """All datasets, and which of them are still to be packed."""
    from mil_bench.datasets.catalogue import store_path
    from mil_bench.errors import show
    from mil_bench.registry import datasets

    names = datasets.names()
    width = max(map(len, names))
    for name in names:
        spec = datasets.load(name)
        is_ready = spec.generator is not None or store_path(spec, arguments.data).exists()
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
        )
    except KeyboardInterrupt:
        hidden = hidden_path(store_path(spec, arguments.data))
        if not hidden.exists():
            raise
        print(
            f"mil-bench: stopped. What is packed so far is in {hidden}; the same command continues "
            f"from there. To discard it, remove {hidden}*.",
            file=sys.stderr,
        )
        return 130
    _print_packed(packed, spec)
    again = named_again(arguments.dataset, arguments.data)
    print(f"Inspect:  mil-bench data inspect {again}\nRun:      mil-bench run --dataset {again}")
    return 0


def _print_packed(packed: Packed, spec: DatasetSpec) -> None:
    import numpy as np

    from mil_bench.datasets.slides import packed_slides
    from mil_bench.errors import show
    from mil_bench.wording import first_names, plural

    store, classes = packed.store, spec.hierarchy.fine
    formats = ", ".join(f"{count} {name}" for name, count in packed.formats.items())
    show(
        f"{store.path}: {len(store)} slides, {store.rows} instances, {store.width} features "
        f"({formats})"
    )
    counts = np.bincount(store.labels, minlength=len(classes))
    for c, name in enumerate(classes):
        share = f"{counts[c] / len(store):.1%}"
        if spec.class_counts:
            share += f", on the card {spec.class_counts[c] / sum(spec.class_counts):.1%}"
        show(f"  {name}: {counts[c]} slides ({share})")
    if packed.resumed:
        resumed = plural(packed.resumed, "slide was", "slides were")
        show(f"{resumed} packed by an earlier call that was interrupted.")
    if not store.group_name:
        show(
            f"{len(store)} of {len(store)} slides have no {spec.groups.name}: slides of one "
            f"{spec.groups.name} may be on two sides of a split, and captions say so."
        )
    for note in packed_slides(store, spec).group_notes(store.slides["slide"]):
        show(note)
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
        omitted = plural(
            len(packed.unlabelled), "slide has no label and is", "slides have no label and are"
        )
        show(f"{omitted} left out: {first_names(packed.unlabelled)}")
    if packed.empty:
        omitted = plural(
            len(packed.empty), "slide has no instances and is", "slides have no instances and are"
        )
        show(f"{omitted} left out: {first_names(packed.empty)}")
    if packed.without_features:
        missing = plural(len(packed.without_features), "labelled slide has", "labelled slides have")
        show(f"{missing} no feature file: {first_names(packed.without_features)}")
