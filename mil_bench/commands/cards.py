"""The card of a dataset, and a new card for a dataset of your own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_cards(actions: Any) -> None:
    """``mil-bench data card`` and ``mil-bench data new``."""
    about = actions.add_parser(
        "card", help="show a dataset's card: classes, groups, protocols, known mistakes, citation"
    )
    about.set_defaults(call=card)
    about.add_argument(
        "dataset",
        metavar="NAME",
        help="a dataset (mil-bench data list) or a card file, my-study.toml",
    )
    own = actions.add_parser(
        "new",
        help="write a commented card, NAME.toml, for a dataset of your own",
        description="Writes a card, NAME.toml, for a dataset of your own: its classes, columns and "
        "protocols, with every key explained. Give the file's path wherever a command takes a "
        "dataset.",
    )
    own.set_defaults(call=new)
    own.add_argument("name", metavar="NAME", help="lower case with hyphens: my-study")
    own.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="CSV, TSV or .xlsx whose classes and headings are filled in",
    )
    for role, what in _COLUMNS.items():
        own.add_argument(
            f"--{what}-column",
            dest=role,
            metavar="HEADING",
            help=f"heading of the table's column of {what}s, if it is none of the usual ones",
        )
    add_allow_missing(own)


_COLUMNS = {"slide": "slide", "label": "label", "group": "patient"}
"""Roles of columns to the words of their options."""


def add_allow_missing(parser: Any) -> None:
    """Add the option for rows without a label or features."""
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave rows of the table out whose label is blank or a word such as NaN or unknown, "
        "or whose slide has no features",
    )


def card(arguments: argparse.Namespace) -> int:
    """A dataset's card."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.errors import show
    from mil_bench.evaluation.main_metric import measure_named

    spec = find_dataset(arguments.dataset)
    measure_named(spec.main_metric)  # a card may name one that does not exist
    shown = {name: name for name in spec.hierarchy.fine}
    if spec.class_counts:
        shown = {
            name: f"{name} ({n})"
            for name, n in zip(spec.hierarchy.fine, spec.class_counts, strict=True)
        }
    show(f"{spec.caption}\n{spec.title}\n")
    if spec.hierarchy.is_flat:
        show(f"  {', '.join(shown.values())}")
    else:
        for g, coarse in enumerate(spec.hierarchy.coarse):
            children = [
                shown[fine]
                for fine, parent in zip(spec.hierarchy.fine, spec.hierarchy.parent, strict=True)
                if parent == g
            ]
            show(f"  {coarse}: {', '.join(children)}")
    if spec.ordered:
        show("  (grades, from low to high)")
    show(f"\ncompared:  on {spec.main_metric}, unless a run is asked for another metric")
    show(f"{f'{spec.groups.name}s:':10} {spec.groups.count or 'an unknown number'}")
    show(f"labels:    of the {spec.unit}")
    if spec.bags:
        show(f"bags:      median {spec.bags.median} instances ({spec.bags.basis})")
    show(
        f"protocols: {', '.join(spec.protocols)}\n"
        f"source:    {spec.source}\n"
        f"licence:   {spec.licence}"
    )
    show(f"cite:      {spec.citation}")
    if spec.traps:
        show("known mistakes:")
    for trap in spec.traps:
        show(f"  - {trap}")
    return 0


def new(arguments: argparse.Namespace) -> int:
    """A card for a dataset of the user's own."""
    from mil_bench.datasets.card import LabelColumns
    from mil_bench.datasets.new_card import new_card
    from mil_bench.errors import InputError, show

    named: dict[str, Any] = {
        role: (heading,) for role in _COLUMNS if (heading := getattr(arguments, role))
    }
    if named and arguments.labels is None:
        problem = "columns are named, but no table is given"
        raise InputError("the request", [problem], "Name the table: --labels TABLE")
    written = new_card(
        arguments.name, arguments.labels, Path(), arguments.allow_missing, LabelColumns(**named)
    )
    path = written.path
    for note in written.notes:
        show(note)
    table = shlex.quote(str(arguments.labels)) if arguments.labels else "TABLE"
    show(f"{path}: complete it, then\n  mil-bench data card {path}")
    show(f"  mil-bench data pack FEATURES --dataset {path} --labels {table}")
    return 0
