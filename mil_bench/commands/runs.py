"""List, compare and track stored runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_json, add_results_folder, words_again
from mil_bench.commands.terminal.printing import complain

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  All runs, newest first, or those on a dataset that have a method:
    mil-bench runs list
    mil-bench runs list --dataset bracs --method hmil
  Two runs, value by value, and the settings that differ:
    mil-bench runs compare RUN OTHER
  Log a run to MLflow, for instance after the server was down:
    mil-bench runs track RUN
"""


def add_runs(subparsers: Any) -> None:
    """``mil-bench runs``."""
    parser = subparsers.add_parser(
        "runs",
        help="list, compare and track stored runs",
        description="List stored runs, compare them, or log them to MLflow.",
        epilog=_EXAMPLES,
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_list(actions)
    _add_compare(actions)
    _add_track(actions)


def _add_list(actions: Any) -> None:
    listing = actions.add_parser(
        "list",
        help="list runs, newest first, with their main metric",
        description="List stored runs, newest first, with their methods and their main metric.",
    )
    listing.set_defaults(call=list_runs)
    listing.add_argument("--dataset", metavar="NAME", help="only runs on this dataset")
    listing.add_argument("--method", metavar="NAME", help="only runs that have this method")
    listing.add_argument("--protocol", metavar="NAME", help="only runs with this protocol")
    add_json(listing)
    add_results_folder(listing)


def _add_compare(actions: Any) -> None:
    comparison = actions.add_parser(
        "compare",
        help="show runs side by side: values per method, and the settings that differ",
        description="Show runs side by side: values per method, and the settings that differ.",
    )
    comparison.set_defaults(call=compare_runs)
    comparison.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="names of two or more runs; an unambiguous part of a name is enough",
    )
    add_results_folder(comparison)


def _add_track(actions: Any) -> None:
    track = actions.add_parser(
        "track",
        help="log stored runs to MLflow, for instance after the server was down",
        description="Log the trainings of stored runs that are missing in MLflow. Nothing is "
        "trained and nothing is logged twice. MLFLOW_TRACKING_URI names the server; without it, "
        "mlflow.db in the folder of results is used.",
    )
    track.set_defaults(call=track_runs)
    track.add_argument(
        "run", nargs="+", metavar="RUN", help="names of runs; see mil-bench runs list"
    )
    add_results_folder(track)


def list_runs(arguments: argparse.Namespace) -> int:
    """Print the runs that match the filters; returns 2 if a stored file is broken."""
    from mil_bench.results import Results

    results = Results(arguments.results)
    has_runs = any(folder.is_dir() for folder in (results.runs, results.imported))
    if not (has_runs or arguments.json):
        print(_none_yet(arguments))  # at once, as it is what a new user does first
        return 0
    from mil_bench.errors import StorageError
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.document import table_document, text_of_document
    from mil_bench.runs.listing import RunFilter, run_table

    store = ResultStore(results.runs)
    plans, broken = {}, []
    for run_id in store.runs():
        try:
            plans[run_id] = store.load_plan(run_id)
        except StorageError as error:  # one broken file must not hide the other runs
            broken.append(str(error))
    chosen = RunFilter(arguments.dataset, arguments.method, arguments.protocol).of(plans)
    table, damaged = run_table(store, chosen)
    broken += damaged
    if arguments.json:
        print(text_of_document({"runs": table_document(table)["rows"]}))
    elif chosen:
        print_tables([table])
    elif not broken:
        print(_none_yet(arguments))
    for line in broken:
        complain(line)
    return 2 if broken else 0


def _none_yet(arguments: argparse.Namespace) -> str:
    again = words_again(arguments, "results")
    return (
        f"There is no run in {arguments.results.resolve()} yet (--results DIR names another "
        "folder). "
        f"Begin with: mil-bench run --dataset digits --preset quick{again}"
    )


def compare_runs(arguments: argparse.Namespace) -> int:
    """Print runs side by side."""
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
    """Log the trainings that are missing in MLflow."""
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.tracking.tracker import resync

    results = Results(arguments.results)
    names, store = list(dict.fromkeys(arguments.run)), ResultStore(results.runs)
    for name in names:
        store.load_plan(name)  # all are checked before the first one is logged
    for name in names:
        missing, stored = resync(results, name)
        logged = ", now logged" if missing else ""
        print(f"{name}: {missing} of {stored} stored trainings were missing in MLflow{logged}")
    return 0
