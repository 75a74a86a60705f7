"""The command line: parse into one request, call, print. Nothing heavy is imported before it is used."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mil_bench import __version__
from mil_bench.errors import MilBenchError

_EXAMPLES = """\
examples:
  mil-bench run --methods all --dataset digits --preset quick     a result in a minute, nothing to download
  mil-bench run --methods abmil hmil --dataset bracs-sim          on a generated twin of BRACS
  mil-bench data pack features/ --dataset bracs --labels BRACS.csv
  mil-bench run --methods all --dataset bracs                     on your own features, as packed above
  mil-bench list methods                                          what there is: methods, datasets, protocols, runs
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 done, 1 some trainings failed, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.call(arguments)
    except MilBenchError as error:
        print(f"mil-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mil-bench: stopped. What is finished is stored; the same command goes on from there.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mil-bench",
        description="Compare multiple-instance learning methods on whole-slide-image features.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mil-bench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_list(commands)
    _add_report(commands)
    _add_data(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="train methods by cross-validation and print the comparison tables",
        description="Train methods by seeded cross-validation and print the comparison tables. Every finished fold is "
        "stored at once: after an interruption the same command goes on where it stopped.",
    )
    run.set_defaults(call=_run)
    what = run.add_argument_group("what to compare")
    what.add_argument("--methods", nargs="+", default=["all"], metavar="NAME", help="names, or all (default)")
    what.add_argument(
        "--dataset",
        nargs="+",
        required=True,
        metavar="NAME",
        help="one or several; generated ones take settings: bracs-sim:slides=200,difficulty=1.5",
    )
    what.add_argument(
        "--protocol", help="how slides are split (default: the dataset's first; see mil-bench list protocols)"
    )
    what.add_argument("--folds", type=int, metavar="K", help="number of folds (default: the preset's)")
    what.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        metavar="S",
        help="training seeds (default: 0)",
    )
    what.add_argument(
        "--preset",
        default="paper",
        help="budget: paper, the authors' recipes on all folds (default); or quick, 3 folds and at most 40 epochs",
    )
    what.add_argument("--epochs", type=int, metavar="N", help="epochs for every method (default: recipe and preset)")
    how = run.add_argument_group("where and how")
    how.add_argument("--dry-run", action="store_true", help="show what would be trained, and train nothing")
    how.add_argument("--workers", type=int, metavar="N", help="trainings at the same time (default: one a core)")
    how.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one")
    how.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    _add_folders(how)


def _add_list(commands: Any) -> None:
    listing = commands.add_parser("list", help="show methods, datasets, protocols or runs")
    listing.set_defaults(call=_list)
    listing.add_argument("what", choices=["methods", "datasets", "protocols", "runs"])
    _add_folders(listing)


def _add_report(commands: Any) -> None:
    report = commands.add_parser("report", help="print a run's tables again and write its report")
    report.set_defaults(call=_report)
    report.add_argument("run", metavar="RUN", help="name of a run; see mil-bench list runs")
    _add_folders(report)


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="bring your own features in")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    pack = actions.add_parser(
        "pack",
        help="pack a folder of feature files into one bag store",
        description="Pack one feature file a slide (CLAM .h5 or .pt, TRIDENT .h5) and a label sheet into one bag "
        "store, which mil-bench run then reads. Everything that is wrong with the input is listed at once.",
    )
    pack.set_defaults(call=_pack)
    pack.add_argument("folder", type=Path, metavar="FOLDER", help="one file a slide, named by slide id")
    pack.add_argument(
        "--dataset", required=True, metavar="NAME", help="a real dataset's card; see mil-bench list datasets"
    )
    pack.add_argument(
        "--labels", type=Path, required=True, metavar="TABLE", help="CSV with slide, label and, better, patient columns"
    )
    _add_folders(pack)


def _add_folders(parser: Any) -> None:
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("MIL_BENCH_DATA", "data")),
        metavar="DIR",
        help="folder of packed features (default: data, or what MIL_BENCH_DATA says)",
    )


def _run(arguments: argparse.Namespace) -> int:
    from mil_bench.running.plan import RunRequest
    from mil_bench.running.runner import Workplace, execute, prepare

    place = Workplace(
        results=arguments.results,
        data=arguments.data,
        workers=arguments.workers,
        device=arguments.device,
        tracking=not arguments.no_tracking,
    )
    requests = [
        RunRequest(
            dataset=dataset,
            methods=tuple(arguments.methods),
            protocol=arguments.protocol,
            folds=arguments.folds,
            seeds=tuple(arguments.seeds),
            preset=arguments.preset,
            epochs=arguments.epochs,
        )
        for dataset in dict.fromkeys(arguments.dataset)
    ]
    prepared = [prepare(request, place) for request in requests]  # all of them are checked before the first trains
    if arguments.dry_run:
        for each in prepared:
            _print_plan(each.plan, place.store)
        return 0
    failed = False
    for each in prepared:
        result = execute(each, place)
        _print_result(result, place.report_folder(result.plan) / "report.md")
        failed |= bool(result.failures)
    return 1 if failed else 0


def _print_plan(plan: Any, store: Any) -> None:
    folds = len(plan.splits.folds)
    print(f"run {plan.run_id}\n{plan.caption}\n")
    for k, fold in enumerate(plan.splits.folds):
        print(f"fold {k}: {len(fold.train)} training, {len(fold.val)} validation, {len(fold.test)} test slides")
    print()
    for job in plan.jobs:
        recipe = job.recipe
        done = len(store.done(job) & set(range(folds)))
        print(
            f"{job.method:14} seed {job.seed}: {folds - done} of {folds} folds to train, {recipe['epochs']} epochs, "
            f"{recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, {recipe['batch_size']} bags a step"
        )


def _print_result(result: Any, report: Path) -> None:
    from mil_bench.evaluation.report.terminal import print_tables

    print_tables(result.report_tables)
    for fact in result.facts:
        print(f"! {fact}")
    print(f"\nReport: {report}  (tables as CSV and LaTeX beside it; again with: mil-bench report {result.run_id})")


def _list(arguments: argparse.Namespace) -> int:
    if arguments.what == "runs":
        from mil_bench.running.result_store import ResultStore

        store = ResultStore(arguments.results / "runs")
        for run_id in store.runs():
            plan = store.load_plan(run_id)
            folds = set(range(len(plan.splits.folds)))
            done = sum(len(store.done(job) & folds) for job in plan.jobs)
            print(f"{run_id}  {done} of {len(plan.jobs) * len(folds)} trainings  {', '.join(plan.methods)}")
        return 0
    if arguments.what == "protocols":
        from mil_bench.data.splits import PROTOCOLS

        rows = [(name, protocol.summary) for name, protocol in PROTOCOLS.items()]
    else:
        rows = _methods() if arguments.what == "methods" else _datasets(arguments.data)
    width = max(len(name) for name, _ in rows)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}")
    return 0


def _methods() -> list[tuple[str, str]]:
    from mil_bench.registry import methods

    return [(name, methods.summary(name)) for name in methods.names()]


def _datasets(data: Path) -> list[tuple[str, str]]:
    from mil_bench.data.catalogue import store_path
    from mil_bench.registry import datasets

    rows = []
    for name in datasets.names():
        spec = datasets.load(name)
        ready = spec.generator is not None or store_path(spec, data).exists()
        rows.append((name, spec.title + ("" if ready else "  [features to be packed]")))
    return rows


def _report(arguments: argparse.Namespace) -> int:
    from mil_bench.running.result_store import ResultStore
    from mil_bench.running.run_result import RunResult

    store = ResultStore(arguments.results / "runs")
    result = RunResult.collect(store, store.load_plan(arguments.run))
    _print_result(result, result.write(arguments.results / "reports" / arguments.run))
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from mil_bench.data.catalogue import find_dataset
    from mil_bench.data.pack import pack

    console = Console(stderr=True)

    def watch(files: Any, total: int) -> Any:
        return track(files, "packing", total, console=console, disable=not console.is_terminal)

    spec = find_dataset(arguments.dataset)
    packed = pack(arguments.folder, spec, arguments.labels, arguments.data, watch)
    store = packed.store
    formats = ", ".join(f"{count} {name}" for name, count in packed.formats.items())
    print(f"{store.path}: {len(store)} slides, {store.rows} instances, {store.width} features ({formats})")
    counts = store.slides["label"].value_counts().reindex(range(spec.hierarchy.n_fine), fill_value=0)
    for name, count, expected in zip(spec.hierarchy.fine, counts, spec.class_counts, strict=True):
        print(f"  {name}: {count} slides (card: {expected})")
    if not store.group_name:
        print("No patient column in the sheet: slides of one patient may fall on two sides of a split.")
    if packed.without_features:
        shown = ", ".join(packed.without_features[:5])
        print(f"{len(packed.without_features)} labelled slides have no feature file: {shown}")
    print(f"Run:  mil-bench run --methods all --dataset {spec.name}")
    return 0
