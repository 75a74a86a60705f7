"""Reproduce a paper's tables and figures."""

from __future__ import annotations

import argparse
import shlex
from itertools import groupby
from pathlib import Path
from typing import Any

from mil_bench.commands.options import add_folders

_EXAMPLES = """\
examples:
  mil-bench reproduce table1                          on your packed features of BRACS, by the paper's protocol
  mil-bench reproduce table1 --splits hmil.json       on the authors' splits (mil-bench splits import)
  mil-bench reproduce table1 --dataset bracs-sim      on the generated twin, which is not BRACS
  mil-bench reproduce twin                            does the hierarchy help, and without signal? hours on a CPU
  mil-bench reproduce all --preset quick --dataset bracs-sim panda-sim ccc-sim
"""


def add_reproduce(subparsers: Any) -> None:
    """``mil-bench reproduce``."""
    parser = subparsers.add_parser(
        "reproduce",
        help="run a paper's tables and figures, ours beside the published figures",
        description="Run what makes the tables and figures of the HMIL paper, and show ours beside the published "
        "figures that we know of. What is trained already is not trained again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(call=reproduce)
    what = parser.add_argument_group("what to reproduce")
    what.add_argument(
        "items",
        nargs="+",
        metavar="ITEM",
        help="table1 to table6, figure4, or all; or twin, what the twin of BRACS teaches about HMIL's parts",
    )
    what.add_argument(
        "--dataset",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only these datasets; a twin only if it is named here: bracs-sim, bracs-sim:slides=200",
    )
    what.add_argument(
        "--preset",
        default="paper",
        help="budget: paper, the authors' recipes on all folds (default); or quick, few folds and epochs, and small "
        "twins",
    )
    what.add_argument(
        "--splits",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="follow these split files, one a dataset, instead of the paper's rule",
    )
    what.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="epochs for every method (default: recipe and preset)",
    )
    what.add_argument(
        "--tune",
        type=int,
        metavar="N",
        help="choose the settings of every row by N trials on validation slides; those that a row fixes stay",
    )
    how = parser.add_argument_group("where and how")
    how.add_argument(
        "--workers", type=int, metavar="N", help="trainings at the same time (default: one a core)"
    )
    how.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="default: a GPU if there is one",
    )
    how.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    add_folders(how)


def reproduce(arguments: argparse.Namespace) -> int:
    """Run, print and write; 1 if something could not be run or a training failed."""
    from mil_bench.api import Workplace
    from mil_bench.papers.pages import Overview, page_of, write_page
    from mil_bench.papers.reproduce import ReproduceRequest, parts_of
    from mil_bench.papers.reproduce import reproduce as run

    request = ReproduceRequest(
        items=tuple(arguments.items),
        datasets=tuple(dict.fromkeys(arguments.dataset)),
        preset=arguments.preset,
        splits=tuple(arguments.splits),
        epochs=arguments.epochs,
        tune=arguments.tune,
    )
    parts = parts_of(request)
    place = Workplace(
        results=arguments.results,
        data=arguments.data,
        workers=arguments.workers,
        device=arguments.device,
        tracking=not arguments.no_tracking,
    )
    tuned = "-tuned" if request.tune else ""
    folder = Path(arguments.results) / "reports" / f"reproduce-{request.preset}{tuned}"
    overview = Overview(_command(arguments))
    for _, group in groupby(run(parts, place), key=lambda outcome: outcome.part.item.name):
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


def _command(arguments: argparse.Namespace) -> str:
    words = ["mil-bench", "reproduce", *arguments.items, "--preset", arguments.preset]
    for name in ("dataset", "splits"):
        given = getattr(arguments, name)
        words += [f"--{name}", *map(str, given)] if given else []
    for name in ("epochs", "tune"):
        value = getattr(arguments, name)
        words += [f"--{name}", str(value)] if value else []
    return shlex.join(words)


def _print_page(page: Any, path: Path) -> None:
    from mil_bench.report.render.terminal import print_tables

    print(page.title)
    print("".join(f"- {line}\n" for line in page.facts))
    for table in page.tables:  # each is about a dataset of its own
        print_tables([table])
    print(f"Page: {path}\n")
