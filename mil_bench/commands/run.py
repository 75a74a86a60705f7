"""Train and compare methods."""

from __future__ import annotations

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
    show,
    show_ranking,
)
from mil_bench.errors import InputError, one_line
from mil_bench.planning.asked import OPTIONS, Asked
from mil_bench.planning.options import add_options, from_arguments
from mil_bench.planning.request import RunRequest
from mil_bench.wording import plural

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.planning.plan import RunPlan
    from mil_bench.running.result_store import ResultStore


def add_run(subparsers: Any) -> None:
    """``mil-bench run``."""
    parser = subparsers.add_parser(
        "run",
        help="train methods by cross-validation and print the comparison tables",
        description="Train methods by seeded cross-validation and print the comparison tables. "
        "Every finished fold is stored at once: after an interruption, the same command trains "
        "only what is missing.",
    )
    parser.set_defaults(call=run)
    add_comparison(parser)
    tuning = parser.add_argument_group("settings (default: the authors' recipes)")
    add_options(tuning.add_mutually_exclusive_group(), RunRequest, "tune", "tuned")
    add_options(tuning, RunRequest, "select", "pruning")
    add_options(parser.add_argument_group("the comparison"), Asked, *OPTIONS)
    how = add_setup(parser, "tracking", "shard", "collect")
    how.add_argument(
        "--dry-run", action="store_true", help="print what would be trained, and train nothing"
    )
    how.add_argument(
        "--test-on",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also predict these datasets with all trained models: tables per cohort, and the drop "
        "from the run's own test slides",
    )
    add_json(how)


def run(arguments: argparse.Namespace) -> int:
    """Train, print and write; returns 1 if a training failed."""
    from mil_bench.api import execute, prepare

    if arguments.json and arguments.dry_run:
        problem = "json prints results, and dry-run makes none"
        raise InputError("the request", [problem], "Give only one of them.")
    if arguments.json and arguments.test_on:
        problem = "json prints a run's own results, and test-on asks for those of other datasets"
        raise InputError("the request", [problem], "Give only one of them.")
    setup = setup_of(arguments)
    # All requests are checked before the first one trains.
    prepared = [prepare(request, setup) for request in requests_of(arguments)]
    asked = from_arguments(Asked, arguments)
    for planned in prepared:
        asked.require(planned.plan)
    if arguments.dry_run:
        _print_plans(prepared, setup, arguments)
        return 0
    if arguments.json:
        with output_as_errors():
            results = [execute(planned, setup, asked) for planned in prepared]
            documents = [_document(result, setup) for result in results]
            is_part = setup.cluster.detach or setup.shard
            comparisons = comparison_documents([] if is_part else results, setup.folder.reports)
        print_documents(documents, comparisons)
        return 1 if any(result.failures for result in results) else 0
    results = []
    for planned in prepared:
        result = execute(planned, setup, asked)
        results.append(result)
        if waiting := _waiting(result, setup):
            print(waiting)
            continue
        folder = setup.folder.reports / results[-1].run_id
        show(results[-1], folder, words_again(arguments, "results"))
        for name in dict.fromkeys(arguments.test_on):
            _show_cohort(result, name, setup.data, folder)
    if not (setup.cluster.detach or setup.shard):
        show_ranking(results, setup.folder.reports)
    return 1 if any(result.failures for result in results) else 0


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
    print(f"\nTables: {cohort.write(folder / f'on-{file_name(name)}')}")


def _document(result: Any, setup: Any) -> dict[str, Any]:
    from mil_bench.runs.document import waiting_document

    if waiting := _waiting(result, setup):
        return waiting_document(result, waiting)
    return document_of(result, setup.folder.reports / result.run_id)


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
    for job in plan.jobs:
        missing = folds - len(store.done(job) & set(range(folds)))
        how = _recipe_line(job.recipe) if job.is_trained else "uses no features"
        print(f"{job.label:14} seed {job.seed}: {missing} of {folds} folds to train, {how}")
    for label, reason in plan.skipped.items():
        print(f"{label:14} is left out: {reason}")
    for label, remark in plan.remarks.items():
        print(f"{label:14} note: {remark}")


def _recipe_line(recipe: Mapping[str, Any]) -> str:
    from mil_bench.methods.recipe import takes_steps

    if not takes_steps(recipe):
        return "fits itself in one pass"
    return (
        f"{plural(recipe['epochs'], 'epoch')}, {recipe['optimizer']}, "
        f"learning rate {recipe['learning_rate']:g}, {recipe['batch_size']} bags per step"
    )
