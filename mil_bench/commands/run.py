"""Train and compare methods."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import (
    add_comparison,
    add_json,
    add_setup,
    output_as_errors,
    requests_of,
    setup_of,
    words_again,
)
from mil_bench.commands.report import (
    comparison_documents,
    document_of,
    print_documents,
    renew_index,
    show,
    show_ranking,
)
from mil_bench.commands.terminal.printing import complain, linked
from mil_bench.errors import InputError, one_line
from mil_bench.planning.asked import OPTIONS, Asked
from mil_bench.planning.options import add_options, from_arguments
from mil_bench.planning.request import RunRequest
from mil_bench.run_file import Datasets, completed, save_run_file
from mil_bench.wording import plural, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.planning.plan import RunPlan
    from mil_bench.planning.prepare import Prepared
    from mil_bench.running.result_store import ResultStore
    from mil_bench.running.setup import Setup


def add_run(subparsers: Any) -> None:
    """``mil-bench run``."""
    parser = subparsers.add_parser(
        "run",
        argument_default=argparse.SUPPRESS,  # of what is not given, a run file may say it
        help="train methods by cross-validation and print the comparison tables",
        description="Train methods by seeded cross-validation and print the comparison tables. "
        "Every finished fold is stored at once: after an interruption, the same command trains "
        "only what is missing.",
    )
    parser.set_defaults(call=run)
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=None,
        metavar="FILE",
        help="a run file (TOML) that gives the options; those on the command line count more",
    )
    add_comparison(parser, has_file=True)
    tuning = parser.add_argument_group("settings (default: the authors' recipes)")
    add_options(tuning.add_mutually_exclusive_group(), RunRequest, "tune", "tuned")
    add_options(tuning, RunRequest, "select", "pruning")
    add_options(parser.add_argument_group("the comparison"), Asked, *OPTIONS)
    how = add_setup(parser, "tracking", "shard", "collect")
    how.add_argument(
        "--dry-run",
        action="store_true",
        default=False,
        help="print what would be trained, and train nothing",
    )
    add_options(how, Datasets, "test_on")
    how.add_argument(
        "--save",
        type=Path,
        default=None,
        metavar="FILE",
        help="write a run file: mil-bench run FILE then does what this command does",
    )
    add_json(how)


def run(arguments: argparse.Namespace) -> int:
    """Train, print and write; returns 1 if a training failed."""
    arguments = completed(arguments)
    if not arguments.dataset:
        remedy = "Give --dataset NAME, or a run file that names one."
        raise InputError("the request", ["no dataset is named"], remedy)
    if arguments.json and arguments.dry_run:
        problem = "json prints results, and dry-run makes none"
        raise InputError("the request", [problem], "Give only one of them.")
    if arguments.json and arguments.test_on:
        problem = "json prints a run's own results, and test-on asks for those of other datasets"
        raise InputError("the request", [problem], "Give only one of them.")
    setup, requests = setup_of(arguments), requests_of(arguments)
    asked = from_arguments(Asked, arguments)
    _announce(requests)
    from mil_bench.api import execute

    # All requests are checked before the first one trains.
    prepared = [_prepared(request, setup, arguments.dry_run) for request in requests]
    for planned in prepared:
        asked.require(planned.plan)
    if arguments.save is not None:
        save_run_file(arguments.save, arguments)
    if arguments.dry_run:
        _print_plans(prepared, setup, arguments)
        return 0
    if setup.tracking:
        _announce_tracking(setup)
    if arguments.json:
        with output_as_errors():
            results = [execute(planned, setup, asked) for planned in prepared]
            documents = [_document(result, setup) for result in results]
            is_part = setup.cluster.detach or setup.shard
            comparisons = comparison_documents([] if is_part else results, setup.folder.reports)
            if not is_part:
                renew_index(setup.folder)
        print_documents(documents, comparisons)
        return 1 if any(result.failures for result in results) else 0
    results = []
    for planned in prepared:
        result = execute(planned, setup, asked)
        results.append(result)
        if waiting := _waiting(result, setup):
            print(waiting)
            continue
        folder = setup.folder.report(result.run_id, asked.name)
        show(result, folder, words_again(arguments, "results"))
        for name in dict.fromkeys(arguments.test_on):
            _show_cohort(result, name, setup.data, folder)
    if not (setup.cluster.detach or setup.shard):
        show_ranking(results, setup.folder.reports)
        renew_index(setup.folder)
    return 1 if any(result.failures for result in results) else 0


def _announce(requests: Sequence[RunRequest]) -> None:
    """Say that a run is planned, which imports torch; unknown names are reported at once."""
    from mil_bench.datasets.catalogue import find_dataset

    for request in requests:
        if not request.plugins:  # they may bring methods, and importing them comes first
            request.rows  # noqa: B018 - as find_dataset
            find_dataset(request.dataset)
    names = dict.fromkeys(one_line(request.dataset) for request in requests)
    complain(f"planning the comparison on {', '.join(names)}")


def _announce_tracking(setup: Setup) -> None:
    """Say where the run is logged: MLflow is used unless somebody says no."""
    from mil_bench.tracking.words import tracking_server, without_password

    where = shortened(without_password(tracking_server()) or str(setup.folder.database))
    complain(f"tracking with MLflow in {where} (--no-tracking turns it off)")


def _prepared(request: RunRequest, setup: Setup, is_dry: bool) -> Prepared:
    """A request with its plan; a dry run keeps no dataset that it generates."""
    from mil_bench.api import prepare
    from mil_bench.datasets.catalogue import find_dataset, store_path

    if not is_dry:
        return prepare(request, setup)
    spec = find_dataset(request.dataset)
    if spec.generator is None or store_path(spec, setup.data).exists():
        return prepare(request, setup)
    with tempfile.TemporaryDirectory() as scratch:
        return prepare(request, replace(setup, data=Path(scratch)))


def _show_cohort(result: Any, name: str, data: Path, folder: Path) -> None:
    """Predict another dataset with the trained models; print and write its tables."""
    from mil_bench.maps.slide_maps import file_name
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.runs.cohorts import tested_on

    cohort = tested_on(result, name, data)
    print(f"\nOn {one_line(name)}:\n")
    print_tables(cohort.main_tables)
    print()
    for sentence in cohort.sentences:
        print(one_line(sentence))
    print(f"\nTables: {linked(cohort.write(folder / f'on-{file_name(name)}'))}")


def _document(result: Any, setup: Any) -> dict[str, Any]:
    from mil_bench.runs.document import waiting_document

    if waiting := _waiting(result, setup):
        return waiting_document(result, waiting)
    return document_of(result, setup.folder.report(result.run_id, result.asked.name))


def _print_plans(prepared: Sequence[Any], setup: Any, arguments: argparse.Namespace) -> None:
    from mil_bench.running.result_store import ResultStore

    for planned in prepared:
        _print_plan(planned.plan, ResultStore(setup.folder.runs))
        request = planned.request
        if request.tune:
            again = request.tune_command(request.tune) + words_again(arguments, "results", "data")
            print(f"Settings are tuned first, as by:\n  {again}")


def _waiting(result: Any, setup: Any) -> str:
    """What is said of a run whose trainings other machines do; "" if it is complete."""
    stored, planned = sum(map(len, result.trained.values())), len(result.plan.trainings)
    if stored == planned or not (setup.cluster.detach or setup.shard):
        return ""
    return (
        f"{result.run_id}: {stored} of {planned} trainings are stored; others do the rest. The "
        "same command with --collect prints what is stored, without --detach or --shard it waits "
        "for the rest or trains it."
    )


def _print_plan(plan: RunPlan, store: ResultStore) -> None:
    folds = len(plan.splits.folds)
    print(f"run {plan.run_id}\n{plan.caption}\n")
    for k, fold in enumerate(plan.splits.folds):
        training, validation, test = (
            len(plan.items(part)) for part in (fold.train, fold.val, fold.test)
        )
        repeat = f"repeat {plan.splits.repeat_of(k)}, " if plan.splits.repeats > 1 else ""
        parts = f"{training} training, {validation} validation, {test} test {plan.unit}s"
        print(f"{repeat}fold {k}: {parts}")
    print()
    width = max(map(len, plan.methods))
    for job in plan.jobs:
        missing = folds - len(store.done(job) & set(range(folds)))
        how = _recipe_line(job.recipe) if job.is_trained else "uses no features"
        print(f"{job.label:{width}}  seed {job.seed}: {missing} of {folds} folds to train, {how}")
    for label, reason in plan.skipped.items():
        print(f"{label:{width}}  is left out: {reason}")
    for label, remark in plan.remarks.items():
        print(f"{label:{width}}  note: {remark}")


def _recipe_line(recipe: Mapping[str, Any]) -> str:
    from mil_bench.methods.recipe import takes_steps

    if not takes_steps(recipe):
        return "fits itself in one pass"
    return (
        f"{plural(recipe['epochs'], 'epoch')}, {recipe['optimizer']}, "
        f"learning rate {recipe['learning_rate']:g}, {plural(recipe['batch_size'], 'bag')} per step"
    )
