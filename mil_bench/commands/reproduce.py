"""Reproduce a paper's tables and figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_setup, setup_of, words_again
from mil_bench.commands.terminal.printing import complain, linked
from mil_bench.errors import one_line
from mil_bench.papers.request import ReproduceRequest
from mil_bench.planning.asked import Asked
from mil_bench.planning.options import add_options, from_arguments

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mil_bench.papers.pages import Page

_EXAMPLES = """\
examples:
  Your packed features of BRACS, by the paper's protocol or the authors' splits:
    mil-bench reproduce table1
    mil-bench reproduce table1 --splits hmil.json
  Values that you typed from the paper next to yours; the file's first line is
  table,page,method,metric,mean,std and the others are like
  table1,7,ABMIL,accuracy,MEAN,STD:
    mil-bench reproduce table1 --published values.csv
  Simulated data instead of BRACS:
    mil-bench reproduce table1 --dataset bracs-sim
  Whether the hierarchy helps, with and without signal in it; hours on a CPU:
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
    names = ("datasets", "preset", "splits", "allow_missing", "published", "epochs", "tune")
    add_options(what, ReproduceRequest, *names)
    add_options(what, Asked, "metric")
    add_setup(parser, "tracking")


def reproduce(arguments: argparse.Namespace) -> int:
    """Run, print and write; 1 if something could not be run or a training failed."""
    from mil_bench.papers.pages import Overview, page_of, write_page
    from mil_bench.papers.reproduce import parts_of
    from mil_bench.papers.reproduce import reproduce as run

    request = from_arguments(ReproduceRequest, arguments)
    items, datasets = _present_names(request.items), tuple(dict.fromkeys(request.datasets))
    request = replace(request, items=items, datasets=datasets)
    asked = from_arguments(Asked, arguments)
    parts, setup = parts_of(request), setup_of(arguments)
    tuned = "-tuned" if request.tune else ""
    folder = setup.folder.reports / f"reproduce-{request.preset}{tuned}"
    overview = Overview(request.command + asked.again + words_again(arguments, "results", "data"))
    again = asked.again + words_again(arguments, "results")
    for _, of_item in groupby(run(parts, setup, asked), key=lambda result: result.part.item.name):
        part_results = list(of_item)  # the results of one item are in memory at a time
        page = page_of(part_results[0].part.item, part_results, again)
        path = write_page(page, folder)
        if page.tables:
            _print_page(page, path)
        for part_result in part_results:
            overview.add(part_result)
    for reason, names in overview.missing.items():
        print(f"! Not done: {', '.join(names)}\n{reason}\n")
    if len({part.item.name for part in parts}) > 1:
        print(f"Overview: {linked(overview.write(folder))}")
    return 1 if overview.missing else 0


def _present_names(items: tuple[str, ...]) -> tuple[str, ...]:
    """The items by their present names; prints those that differ."""
    from mil_bench.papers.items import FORMER_NAMES

    for old, new in FORMER_NAMES.items():
        if old in items:
            complain(f"'reproduce {old}' is now called 'reproduce {new}'")
    return tuple(FORMER_NAMES.get(name, name) for name in items)


def _print_page(page: Page, path: Path) -> None:
    from mil_bench.report.render.terminal import print_tables

    print(page.title)
    print("".join(f"- {one_line(line)}\n" for line in page.facts))
    for table in page.tables:  # one by one: each has its own dataset and so its own caption
        print_tables([table])
    print(f"Page: {linked(path)}\n")
