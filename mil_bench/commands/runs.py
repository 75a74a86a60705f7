"""List, compare and track stored runs."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mil_bench.commands.options import add_results_folder

_EXAMPLES = """\
examples:
  mil-bench runs list                                    all runs, newest first
  mil-bench runs list --dataset bracs --method hmil      runs on a dataset that have a method
  mil-bench runs compare RUN OTHER                       values by method, and which settings differ
  mil-bench runs track RUN                               log to MLflow what it lacks of a run
"""


def add_runs(subparsers: Any) -> None:
    """``mil-bench runs``."""
    parser = subparsers.add_parser(
        "runs",
        help="list, compare and track stored runs",
        description="List stored runs, compare them, or log them to MLflow. Everything comes from the result "
        "store.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add_list(actions)
    _add_compare(actions)
    _add_track(actions)


def _add_list(actions: Any) -> None:
    listing = actions.add_parser("list", help="list runs, newest first, with their main metric")
    listing.set_defaults(call=list_runs)
    listing.add_argument("--dataset", metavar="NAME", help="only runs on this dataset")
    listing.add_argument("--method", metavar="NAME", help="only runs that have this method")
    listing.add_argument("--protocol", metavar="NAME", help="only runs with this protocol")
    add_results_folder(listing)


def _add_compare(actions: Any) -> None:
    comparison = actions.add_parser(
        "compare", help="show runs next to each other: values by method, and which settings differ"
    )
    comparison.set_defaults(call=compare_runs)
    comparison.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="two or more runs; an unambiguous part of a name is enough",
    )
    add_results_folder(comparison)


def _add_track(actions: Any) -> None:
    track = actions.add_parser(
        "track",
        help="log stored runs to MLflow, for instance after the server was down",
        description="Log what MLflow lacks of stored runs. Nothing is trained and nothing is logged twice. The "
        "server is the one that MLFLOW_TRACKING_URI names, or else a SQLite file in the folder of results.",
    )
    track.set_defaults(call=track_runs)
    track.add_argument(
        "run", nargs="+", metavar="RUN", help="names of runs; see mil-bench runs list"
    )
    add_results_folder(track)


def list_runs(arguments: argparse.Namespace) -> int:
    """The runs that fit; 2 if a stored plan is broken."""
    from mil_bench.errors import StorageError, printable
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.listing import RunFilter, run_table

    store = ResultStore(Results(arguments.results).runs)
    plans, broken = {}, []
    for run_id in store.runs():
        try:
            plans[run_id] = store.load_plan(run_id)
        except StorageError as error:  # one broken file must not hide the other runs
            broken.append(str(error))
    chosen = RunFilter(arguments.dataset, arguments.method, arguments.protocol).of(plans)
    if chosen:
        print_tables([run_table(store, chosen)])
    elif not broken:
        print(
            f"There is no run in {arguments.results} yet. "
            "Begin with: mil-bench run --dataset digits --preset quick"
        )
    for line in broken:
        print(f"mil-bench: {printable(line)}", file=sys.stderr)
    return 2 if broken else 0


def compare_runs(arguments: argparse.Namespace) -> int:
    """Runs next to each other."""
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.comparison import compare, named

    store = ResultStore(Results(arguments.results).runs)
    comparison = compare(store, [named(store, text) for text in arguments.run])
    print_tables(comparison.tables)
    for sentence in comparison.sentences:
        print(sentence)
    return 0


def track_runs(arguments: argparse.Namespace) -> int:
    """Log what MLflow lacks."""
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.tracking.tracker import resync

    results = Results(arguments.results)
    names, store = list(dict.fromkeys(arguments.run)), ResultStore(results.runs)
    for name in names:
        store.load_plan(name)  # all are checked before the first is logged
    for name in names:
        missing, stored = resync(results, name)
        logged = ", now logged" if missing else ""
        print(f"{name}: {missing} of {stored} stored trainings were missing in MLflow{logged}")
    return 0
