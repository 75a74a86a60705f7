"""Reproduce a paper's tables and figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_setup, setup_of
from mil_bench.papers.request import ReproduceRequest
from mil_bench.planning.options import add_options, from_arguments

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

_EXAMPLES = """\
examples:
  Your packed features of BRACS, by the paper's protocol or the authors' splits:
    mil-bench reproduce table1
    mil-bench reproduce table1 --splits hmil.json
  Simulated data instead of BRACS:
    mil-bench reproduce table1 --dataset bracs-sim
  Whether the hierarchy helps, and what it does without signal; hours on a CPU:
    mil-bench reproduce simulated
  All items, small:
    mil-bench reproduce all --preset quick --dataset bracs-sim panda-sim ccc-sim
"""


def add_reproduce(subparsers: Any) -> None:
    """``mil-bench reproduce``."""
    parser = subparsers.add_parser(
        "reproduce",
        help="run the experiments of a paper, and compare with the published values",
        description="Run the experiments behind the tables and figures of the HMIL paper, and show "
        "the results next to the published values that are known. Stored trainings are not "
        "repeated.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=reproduce)
    what = parser.add_argument_group("what to reproduce")
    what.add_argument(
        "items",
        nargs="+",
        metavar="ITEM",
        help="table1 to table6, figure4, or all; or simulated: the parts of HMIL, tested on "
        "simulated data",
    )
    add_options(what, ReproduceRequest, "datasets", "preset", "splits", "epochs", "tune")
    add_setup(parser, "tracking")


def reproduce(arguments: argparse.Namespace) -> int:
    """Run, print and write; 1 if something could not be run or a training failed."""
    from mil_bench.papers.pages import Overview, page_of, write_page
    from mil_bench.papers.reproduce import parts_of
    from mil_bench.papers.reproduce import reproduce as run

    request = from_arguments(ReproduceRequest, arguments)
    request = replace(request, datasets=tuple(dict.fromkeys(request.datasets)))
    parts, setup = parts_of(request), setup_of(arguments)
    tuned = "-tuned" if request.tune else ""
    folder = setup.folder.reports / f"reproduce-{request.preset}{tuned}"
    overview = Overview(request.command)
    for _, group in groupby(run(parts, setup), key=lambda outcome: outcome.part.item.name):
        outcomes = list(group)  # of one item; let go before the next
        page = page_of(outcomes[0].part.item, outcomes)
        path = write_page(page, folder)
        if page.tables:
            _print_page(page, path)
        for outcome in outcomes:
            overview.add(outcome)
    for reason, names in overview.missing.items():
        print(f"! Not done: {', '.join(names)}\n{reason}\n")
    if len({part.item.name for part in parts}) > 1:
        print(f"Overview: {overview.write(folder)}")
    return 1 if overview.missing else 0


def _print_page(page: Any, path: Path) -> None:
    from mil_bench.report.render.terminal import print_tables

    print(page.title)
    print("".join(f"- {line}\n" for line in page.facts))
    for table in page.tables:  # each is about a dataset of its own
        print_tables([table])
    print(f"Page: {path}\n")
