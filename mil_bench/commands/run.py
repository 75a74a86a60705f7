"""Train and compare, list what there is, show a run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.commands.comparison import (
    add_comparison,
    add_selection,
    add_workplace,
    requests_of,
    workplace_of,
)
from mil_bench.commands.options import add_folders
from mil_bench.errors import InputError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def add_run(subparsers: Any) -> None:
    """``mil-bench run``."""
    parser = subparsers.add_parser(
        "run",
        help="train methods by cross-validation and print the comparison tables",
        description="Train methods by seeded cross-validation and print the comparison tables. Every finished fold is "
        "stored at once: after an interruption the same command goes on where it stopped.",
    )
    parser.set_defaults(call=run)
    add_comparison(parser)
    tuning = parser.add_argument_group("settings (default: the authors' recipes)")
    budget = tuning.add_mutually_exclusive_group()
    budget.add_argument(
        "--tune",
        type=int,
        metavar="N",
        help="choose settings by N trials for every method first; stored ones count",
    )
    budget.add_argument(
        "--tuned", action="store_true", help="take the settings that stored trials have chosen"
    )
    add_selection(tuning)
    how = add_workplace(parser)
    how.add_argument(
        "--dry-run", action="store_true", help="show what would be trained, and train nothing"
    )
    how.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")


def add_list(subparsers: Any) -> None:
    """``mil-bench list``."""
    listing = subparsers.add_parser("list", help="show methods, datasets, protocols or runs")
    listing.set_defaults(call=list_names)
    listing.add_argument("what", choices=["methods", "datasets", "protocols", "runs"])
    add_folders(listing)


def add_report(subparsers: Any) -> None:
    """``mil-bench report``."""
    parser = subparsers.add_parser(
        "report",
        help="print a run's tables again and write its report",
        description="Print a run's tables and verdict again, and write its report: report.html, one file with all "
        "tables and figures, and the tables as Markdown, CSV and LaTeX. Several runs on different datasets are also "
        "ranked together, with a critical-difference diagram.",
    )
    parser.set_defaults(call=report)
    parser.add_argument(
        "run", nargs="+", metavar="RUN", help="name of a run; see mil-bench list runs"
    )
    add_folders(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train and compare; 1 if a training failed."""
    from mil_bench.api import execute, prepare

    place = workplace_of(arguments, tracking=not arguments.no_tracking)
    requests = requests_of(arguments, tune=arguments.tune, tuned=arguments.tuned)
    prepared = [
        prepare(request, place) for request in requests
    ]  # all of them are checked before the first trains
    if arguments.dry_run:
        for each in prepared:
            _print_plan(each.plan, place.store)
            if each.request.is_tuned and each.request.tune:
                print(
                    f"settings are chosen first, as by {each.request.tune_command(each.request.tune)}"
                )
        return 0
    results = []
    for each in prepared:
        results.append(execute(each, place))
        _show(results[-1], place.report_folder(results[-1].plan))
    _show_across(results, place.results / "reports")
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


def _show(result: Any, folder: Path) -> None:
    """Print the main tables and the verdict, and write the report."""
    from mil_bench.report.render.terminal import print_tables

    print_tables(result.main_tables)
    print()
    for sentence in result.summary:
        print(sentence)
    for fact in result.facts:
        print(f"! {fact}")
    page = result.write(folder)
    print(f"\nReport: {page}  (tables as Markdown, CSV and LaTeX beside it)")
    print(f"Again with: mil-bench report {result.run_id}")


def _show_across(results: list[Any], reports: Path) -> None:
    """How methods rank over several datasets, where there are several."""
    if len(results) < 2:
        return
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.runs.ranking import Across

    print()
    try:
        across = Across(results)
    except InputError as error:  # each run is done and shown: only the ranking is missing
        print(f"! Not done: {error}")
        return
    print_tables([across.table])
    print(f"\n{across.sentence}\n\nRanking: {across.write(reports)}")


def list_names(arguments: argparse.Namespace) -> int:
    """Methods, datasets, protocols or runs."""
    if arguments.what == "runs":
        from mil_bench.running.result_store import ResultStore

        store = ResultStore(arguments.results / "runs")
        for run_id in store.runs():
            plan = store.load_plan(run_id)
            done = sum(fold in store.done(job) for job, fold in plan.trainings)
            print(f"{run_id}  {done} of {len(plan.trainings)} trainings  {', '.join(plan.methods)}")
        return 0
    if arguments.what == "protocols":
        from mil_bench.splits.plan import PROTOCOLS

        rows = [(name, protocol.summary) for name, protocol in PROTOCOLS.items()]
    else:
        rows = _methods() if arguments.what == "methods" else _datasets(arguments.data)
    width = max(len(name) for name, _ in rows)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}")
    return 0


def _methods() -> list[tuple[str, str]]:
    from mil_bench.registry import methods, yardsticks

    rows = [(name, methods.fault(name) or methods.summary(name)) for name in methods.names()]
    return rows + [(name, yardsticks.summary(name)) for name in yardsticks.names()]


def _datasets(data: Path) -> list[tuple[str, str]]:
    from mil_bench.datasets.catalogue import store_path
    from mil_bench.registry import datasets

    rows = []
    for name in datasets.names():
        spec = datasets.load(name)
        ready = spec.generator is not None or store_path(spec, data).exists()
        rows.append((name, spec.title + ("" if ready else "  [features to be packed]")))
    return rows


def report(arguments: argparse.Namespace) -> int:
    """Tables and report of runs again, and how methods rank over their datasets."""
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.result import RunResult

    store, reports = ResultStore(arguments.results / "runs"), arguments.results / "reports"
    plans = [
        store.load_plan(name) for name in dict.fromkeys(arguments.run)
    ]  # all are known before the first is shown
    results = [RunResult.collect(store, plan) for plan in plans]
    for result in results:
        _show(result, reports / result.run_id)
    _show_across(results, reports)
    return 0
