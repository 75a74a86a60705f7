"""List, filter and compare what was run."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mil_bench.commands.options import add_results_folder

_EXAMPLES = """\
examples:
  mil-bench runs                                    all runs, newest first
  mil-bench runs --dataset bracs --method hmil      those of a dataset that have a method
  mil-bench runs RUN OTHER                          two or more side by side: figures, and what differs in the settings
"""


def add_runs(subparsers: Any) -> None:
    """``mil-bench runs``."""
    parser = subparsers.add_parser(
        "runs",
        help="list, filter and compare what was run",
        description="List what was run, newest first; or compare runs side by side. Everything comes from the result "
        "store: no server is needed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(call=runs)
    parser.add_argument(
        "run", nargs="*", metavar="RUN", help="runs to compare; a part of a name will do"
    )
    parser.add_argument("--dataset", metavar="NAME", help="only runs on this dataset")
    parser.add_argument("--method", metavar="NAME", help="only runs that have this method")
    parser.add_argument("--protocol", metavar="NAME", help="only runs by this protocol")
    add_results_folder(parser)


def runs(arguments: argparse.Namespace) -> int:
    """The list, or a comparison."""
    from mil_bench.errors import StorageError, printable
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.comparison import compare, named
    from mil_bench.runs.listing import RunFilter, run_table

    store = ResultStore(arguments.results / "runs")
    chosen = RunFilter(arguments.dataset, arguments.method, arguments.protocol)
    if arguments.run:
        comparison = compare(store, [named(store, text) for text in arguments.run])
        print_tables(comparison.tables)
        for sentence in comparison.sentences:
            print(sentence)
        return 0
    plans, broken = {}, []
    for run_id in store.runs():
        try:
            plans[run_id] = store.load_plan(run_id)
        except StorageError as error:  # one broken file must not hide the other runs
            broken.append(str(error))
    shown = chosen.of(plans)
    if shown:
        print_tables([run_table(store, shown)])
    elif not broken:
        print(
            f"Nothing was run into {arguments.results} yet. Begin with: mil-bench run --dataset digits --preset quick"
        )
    for line in broken:
        print(f"mil-bench: {printable(line)}", file=sys.stderr)
    return 2 if broken else 0
