"""Bring features in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mil_bench.commands.options import add_folders


def add_data(subparsers: Any) -> None:
    """``mil-bench data``."""
    group = subparsers.add_parser("data", help="bring your own features in")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    about = actions.add_parser(
        "card", help="what is known of a dataset: classes, groups, protocols, traps, what to cite"
    )
    about.set_defaults(call=card)
    about.add_argument("dataset", metavar="NAME", help="see mil-bench list datasets")
    packing = actions.add_parser(
        "pack",
        help="pack a folder of feature files into one bag store",
        description="Pack one feature file a slide (CLAM .h5 or .pt, TRIDENT .h5) and a label sheet into one bag "
        "store, which mil-bench run then reads. Everything that is wrong with the input is listed at once.",
    )
    packing.set_defaults(call=pack)
    packing.add_argument("folder", type=Path, metavar="FOLDER", help="one file a slide, named by slide id")
    packing.add_argument(
        "--dataset", required=True, metavar="NAME", help="a real dataset's card; see mil-bench list datasets"
    )
    packing.add_argument(
        "--labels", type=Path, required=True, metavar="TABLE", help="CSV with slide, label and, better, patient columns"
    )
    add_folders(packing)


def card(arguments: argparse.Namespace) -> int:
    """A dataset's card."""
    from mil_bench.data.catalogue import find_dataset

    spec = find_dataset(arguments.dataset)
    counts = dict(zip(spec.hierarchy.fine, spec.class_counts, strict=True))
    print(f"{spec.caption}\n{spec.title}\n")
    for g, coarse in enumerate(spec.hierarchy.coarse):
        own = [f for f, parent in zip(spec.hierarchy.fine, spec.hierarchy.parent, strict=True) if parent == g]
        print(f"  {coarse}: {', '.join(f'{name} ({counts[name]})' for name in own)}")
    print(f"\ngroups:    {spec.groups.count} of kind {spec.groups.name}")
    print(f"bags:      median {spec.bags.median} instances ({spec.bags.basis})")
    print(f"protocols: {', '.join(spec.protocols)}\nsource:    {spec.source}\nlicence:   {spec.licence}")
    print(f"cite:      {spec.citation}\ntraps:")
    for trap in spec.traps:
        print(f"  - {trap}")
    return 0


def pack(arguments: argparse.Namespace) -> int:
    """Feature files into a store."""
    from rich.console import Console
    from rich.progress import track

    from mil_bench.data import pack as packing
    from mil_bench.data.catalogue import find_dataset

    console = Console(stderr=True)

    def watch(files: Any, total: int) -> Any:
        return track(files, "packing", total, console=console, disable=not console.is_terminal)

    spec = find_dataset(arguments.dataset)
    packed = packing.pack(arguments.folder, spec, arguments.labels, arguments.data, watch)
    store = packed.store
    formats = ", ".join(f"{count} {name}" for name, count in packed.formats.items())
    print(f"{store.path}: {len(store)} slides, {store.rows} instances, {store.width} features ({formats})")
    counts = store.slides["label"].value_counts().reindex(range(spec.hierarchy.n_fine), fill_value=0)
    for name, count, expected in zip(spec.hierarchy.fine, counts, spec.class_counts, strict=True):
        shares = f"{count / len(store):.1%}, on the card {expected / sum(spec.class_counts):.1%}"
        print(f"  {name}: {count} slides ({shares})")
    if not store.group_name:
        blank = f"{len(packed.without_group)} of {len(store)} slides have no {spec.groups.name}"
        print(f"{blank}: slides of one {spec.groups.name} may fall on two sides of a split, and captions say so.")
    if packed.without_features:
        shown = ", ".join(packed.without_features[:5])
        print(f"{len(packed.without_features)} labelled slides have no feature file: {shown}")
    print(f"Run:  mil-bench run --methods all --dataset {spec.name}")
    return 0
