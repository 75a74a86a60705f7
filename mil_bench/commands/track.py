"""Fill in what MLflow lacks of stored runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_results_folder

if TYPE_CHECKING:
    import argparse


def add_track(subparsers: Any) -> None:
    """``mil-bench track``."""
    parser = subparsers.add_parser(
        "track",
        help="log stored runs to MLflow: what a dead server missed, or what ran untracked",
        description="Log what MLflow lacks of stored runs, from the result store alone: nothing is trained, nothing is "
        "logged twice. The server is the one that MLFLOW_TRACKING_URI names, else a SQLite file beside the results.",
    )
    parser.set_defaults(call=track)
    parser.add_argument(
        "--resync",
        nargs="+",
        required=True,
        metavar="RUN",
        help="names of runs; see mil-bench runs",
    )
    add_results_folder(parser)


def track(arguments: argparse.Namespace) -> int:
    """Resync runs."""
    from mil_bench.running.result_store import ResultStore
    from mil_bench.tracking.tracker import resync

    runs, store = list(dict.fromkeys(arguments.resync)), ResultStore(arguments.results / "runs")
    for run in runs:
        store.load_plan(run)  # all are known before the first is logged
    for run in runs:
        missing, stored = resync(arguments.results, run)
        print(
            f"{run}: {missing} of {stored} stored trainings were missing in MLflow"
            + (", now there" if missing else "")
        )
    return 0
