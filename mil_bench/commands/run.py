"""Train and compare methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_comparison, add_setup, requests_of, setup_of
from mil_bench.commands.report import show, show_ranking
from mil_bench.planning.options import add_options
from mil_bench.planning.request import RunRequest

if TYPE_CHECKING:
    import argparse


def add_run(subparsers: Any) -> None:
    """``mil-bench run``."""
    parser = subparsers.add_parser(
        "run",
        help="train methods by cross-validation and print the comparison tables",
        description="Train methods by seeded cross-validation and print the comparison tables. Every finished "
        "fold is stored at once: after an interruption the same command trains only what is missing.",
    )
    parser.set_defaults(call=run)
    add_comparison(parser)
    tuning = parser.add_argument_group("settings (default: the authors' recipes)")
    add_options(tuning.add_mutually_exclusive_group(), RunRequest, "tune", "tuned")
    add_options(tuning, RunRequest, "select", "pruning")
    how = add_setup(parser, "tracking")
    how.add_argument(
        "--dry-run", action="store_true", help="show what would be trained, and train nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train and compare; 1 if a training failed."""
    from mil_bench.api import execute, prepare
    from mil_bench.running.result_store import ResultStore

    setup = setup_of(arguments)
    # All requests are checked before the first trains.
    prepared = [prepare(request, setup) for request in requests_of(arguments)]
    if arguments.dry_run:
        for planned in prepared:
            _print_plan(planned.plan, ResultStore(setup.folder.runs))
            request = planned.request
            if request.tune:
                print(f"settings are tuned first, as by {request.tune_command(request.tune)}")
        return 0
    results = []
    for planned in prepared:
        results.append(execute(planned, setup))
        show(results[-1], setup.folder.reports / results[-1].run_id)
    show_ranking(results, setup.folder.reports)
    return 1 if any(result.failures for result in results) else 0


def _print_plan(plan: Any, store: Any) -> None:
    folds = len(plan.splits.folds)
    print(f"run {plan.run_id}\n{plan.caption}\n")
    for k, fold in enumerate(plan.splits.folds):
        print(
            f"fold {k}: {len(fold.train)} training, {len(fold.val)} validation, {len(fold.test)} test slides"
        )
    print()
    for job in plan.jobs:
        recipe = job.recipe
        done = len(store.done(job) & set(range(folds)))
        how = "looks at no image"
        if recipe:
            how = f"{recipe['epochs']} epochs, {recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, "
            how += f"{recipe['batch_size']} bags a step"
        print(f"{job.label:14} seed {job.seed}: {folds - done} of {folds} folds to train, {how}")
    for name, why in plan.skipped.items():
        print(f"{name:14} is left out: {why}")
    for name, what in plan.remarks.items():
        print(f"{name:14} note: {what}")
