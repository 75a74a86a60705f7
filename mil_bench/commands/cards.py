"""What is known of a dataset, and a card for one of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_cards(actions: Any) -> None:
    """``mil-bench data card`` and ``mil-bench data new``."""
    about = actions.add_parser(
        "card", help="what is known of a dataset: classes, groups, protocols, traps, what to cite"
    )
    about.set_defaults(call=card)
    about.add_argument(
        "dataset", metavar="NAME", help="see mil-bench list datasets; or a card file, my-study.toml"
    )
    own = actions.add_parser(
        "new",
        help="write a commented card, NAME.toml, for a dataset of your own",
        description="Write a card, NAME.toml, for a dataset of your own: its classes, columns and protocols, every key "
        "explained. The file's path then stands wherever a dataset is named.",
    )
    own.set_defaults(call=new)
    own.add_argument("name", metavar="NAME", help="lower case with hyphens: my-study")
    own.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="CSV, TSV or .xlsx: its classes and headings are filled in",
    )


def card(arguments: argparse.Namespace) -> int:
    """A dataset's card."""
    from mil_bench.datasets.catalogue import find_dataset

    spec = find_dataset(arguments.dataset)
    shown = {name: name for name in spec.hierarchy.fine}
    if spec.class_counts:
        shown = {
            name: f"{name} ({n})"
            for name, n in zip(spec.hierarchy.fine, spec.class_counts, strict=True)
        }
    print(f"{spec.caption}\n{spec.title}\n")
    if spec.hierarchy.is_flat:
        print(f"  {', '.join(shown.values())}")
    else:
        for g, coarse in enumerate(spec.hierarchy.coarse):
            own = [
                f
                for f, parent in zip(spec.hierarchy.fine, spec.hierarchy.parent, strict=True)
                if parent == g
            ]
            print(f"  {coarse}: {', '.join(shown[name] for name in own)}")
    if spec.ordered:
        print("  (grades, from low to high)")
    print(f"\ngroups:    {spec.groups.count or 'an unknown number'} of kind {spec.groups.name}")
    if spec.bags:
        print(f"bags:      median {spec.bags.median} instances ({spec.bags.basis})")
    print(
        f"protocols: {', '.join(spec.protocols)}\nsource:    {spec.source}\nlicence:   {spec.licence}"
    )
    print(f"cite:      {spec.citation}")
    if spec.traps:
        print("traps:")
    for trap in spec.traps:
        print(f"  - {trap}")
    return 0


def new(arguments: argparse.Namespace) -> int:
    """A card for a dataset of one's own."""
    from mil_bench.datasets.new_card import new_card

    path = new_card(arguments.name, arguments.labels, Path())
    table = arguments.labels or "TABLE"
    print(f"{path}: look through it, then\n  mil-bench data card {path}")
    print(f"  mil-bench data pack FEATURES --dataset {path} --labels {table}")
    return 0
