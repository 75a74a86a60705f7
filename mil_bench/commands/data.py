"""Bring features in."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.cards import add_cards
from mil_bench.commands.checks import add_checks
from mil_bench.commands.options import add_data_folder, named_again, progress_bar

if TYPE_CHECKING:
    import argparse

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.intake.pack import Packed

# Each process beyond these waits for the disk (and holds a bag in memory); --workers says
# otherwise.
_MOST_WORKERS = 8


def add_data(subparsers: Any) -> None:
    """``mil-bench data``."""
    group = subparsers.add_parser(
        "data", help="bring your own features in, look at them, check them"
    )
    actions = group.add_subparsers(required=True, metavar="ACTION")
    add_cards(actions)
    packing = actions.add_parser(
        "pack",
        help="pack a folder of feature files into one bag store",
        description="Pack one feature file a slide (as CLAM, TRIDENT, STAMP, torchmil or HMIL write them) and a label "
        "sheet into one bag store, which mil-bench run then reads. Everything that is wrong with the input is listed "
        "at once. Interrupted, even killed, the same command goes on where it was.",
    )
    packing.set_defaults(call=pack)
    packing.add_argument(
        "folder", type=Path, metavar="FOLDER", help="one file a slide, or a tool's output folder"
    )
    packing.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="a real dataset, see mil-bench list datasets; or a card file",
    )
    packing.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="TABLE",
        help="CSV, TSV or .xlsx with slide, label and, better, patient columns",
    )
    packing.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes that read and write; default: cores, {_MOST_WORKERS} at most",
    )
    add_data_folder(packing)
    add_checks(actions)


def pack(arguments: argparse.Namespace) -> int:
    """Feature files into a store."""
    from mil_bench.datasets.catalogue import find_dataset, store_path
    from mil_bench.errors import InputError
    from mil_bench.intake import pack as packing
    from mil_bench.intake.partial_store import hidden_path

    if arguments.workers is not None and arguments.workers < 1:
        raise InputError(
            "--workers", [f"{arguments.workers} processes cannot pack"], "Give 1 or more."
        )
    workers = arguments.workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    spec = find_dataset(arguments.dataset)
    try:
        packed = packing.pack(
            arguments.folder, spec, arguments.labels, arguments.data, progress_bar, workers
        )
    except KeyboardInterrupt:
        hidden = hidden_path(store_path(spec, arguments.data))
        if not hidden.exists():
            raise
        print(
            f"mil-bench: stopped. What is packed lies in {hidden}; the same command goes on from there. "
            f"To give up, remove {hidden}*.",
            file=sys.stderr,
        )
        return 130
    _print_packed(packed, spec)
    again = named_again(arguments.dataset, arguments.data)
    print(f"Check:  mil-bench data check {again}\nRun:    mil-bench run --dataset {again}")
    return 0


def _print_packed(packed: Packed, spec: DatasetSpec) -> None:
    import numpy as np

    from mil_bench.datasets.slides import packed_slides
    from mil_bench.errors import printable
    from mil_bench.intake.inspection.look import counted, some

    store, sheet_classes = packed.store, spec.hierarchy.fine
    formats = ", ".join(f"{count} {name}" for name, count in packed.formats.items())
    print(
        f"{store.path}: {len(store)} slides, {store.rows} instances, {store.width} features ({formats})"
    )
    counts = np.bincount(store.labels, minlength=len(sheet_classes))
    for c, name in enumerate(sheet_classes):
        expected = (
            f", on the card {spec.class_counts[c] / sum(spec.class_counts):.1%}"
            if spec.class_counts
            else ""
        )
        print(f"  {name}: {counts[c]} slides ({counts[c] / len(store):.1%}{expected})")
    if packed.resumed:
        print(
            f"{counted(packed.resumed, 'slide was', 'slides were')} packed by an earlier call that was interrupted."
        )
    if not store.group_name:
        blank = f"{len(store)} of {len(store)} slides have no {spec.groups.name}"
        print(
            f"{blank}: slides of one {spec.groups.name} may fall on two sides of a split, and captions say so."
        )
    for note in packed_slides(store, spec).group_notes(store.slides["slide"]):
        print(printable(note))
    for what, without in (
        ("coordinates", packed.without_coords),
        ("labels of their instances", packed.without_instance_labels),
    ):
        if without:
            print(f"{without} of {len(store)} files come without {what}, so the store has none.")
    if packed.empty:
        left_out = counted(
            len(packed.empty), "slide has no instances and is", "slides have no instances and are"
        )
        print(printable(f"{left_out} left out: {some(packed.empty)}"))
    if packed.without_features:
        missing = counted(
            len(packed.without_features), "labelled slide has", "labelled slides have"
        )
        print(printable(f"{missing} no feature file: {some(packed.without_features)}"))
