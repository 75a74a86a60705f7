"""The command line: parse into one request, call, print. Nothing heavy is imported before it is used."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mil_bench import __version__, commands
from mil_bench.errors import MilBenchError

_EXAMPLES = """\
examples:
  mil-bench run --methods abmil hmil --dataset digits --preset quick    a result in two minutes, nothing to download
  mil-bench run --methods all --dataset bracs-sim                 on a generated twin of BRACS; hours on a CPU
  mil-bench data pack features/ --dataset bracs --labels BRACS.csv
  mil-bench run --methods all --dataset bracs                     on your own features, as packed above
  mil-bench list methods                                          what there is: methods, datasets, protocols, runs
  mil-bench new my-method                                         a package for a method of your own
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
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(subparsers)
    _add_list(subparsers)
    _add_report(subparsers)
    _add_data(subparsers)
    _add_plugins(subparsers)
    return parser


def _add_run(subparsers: Any) -> None:
    run = subparsers.add_parser(
        "run",
        help="train methods by cross-validation and print the comparison tables",
        description="Train methods by seeded cross-validation and print the comparison tables. Every finished fold is "
        "stored at once: after an interruption the same command goes on where it stopped.",
    )
    run.set_defaults(call=commands.run)
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
    _add_plugin_files(what)
    how = run.add_argument_group("where and how")
    how.add_argument("--dry-run", action="store_true", help="show what would be trained, and train nothing")
    how.add_argument("--workers", type=int, metavar="N", help="trainings at the same time (default: one a core)")
    how.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one")
    how.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    _add_folders(how)


def _add_list(subparsers: Any) -> None:
    listing = subparsers.add_parser("list", help="show methods, datasets, protocols or runs")
    listing.set_defaults(call=commands.list_names)
    listing.add_argument("what", choices=["methods", "datasets", "protocols", "runs"])
    _add_folders(listing)


def _add_report(subparsers: Any) -> None:
    report = subparsers.add_parser("report", help="print a run's tables again and write its report")
    report.set_defaults(call=commands.report)
    report.add_argument("run", metavar="RUN", help="name of a run; see mil-bench list runs")
    _add_folders(report)


def _add_data(subparsers: Any) -> None:
    data = subparsers.add_parser("data", help="bring your own features in")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    card = actions.add_parser(
        "card", help="what is known of a dataset: classes, groups, protocols, traps, what to cite"
    )
    card.set_defaults(call=commands.card)
    card.add_argument("dataset", metavar="NAME", help="see mil-bench list datasets")
    pack = actions.add_parser(
        "pack",
        help="pack a folder of feature files into one bag store",
        description="Pack one feature file a slide (CLAM .h5 or .pt, TRIDENT .h5) and a label sheet into one bag "
        "store, which mil-bench run then reads. Everything that is wrong with the input is listed at once.",
    )
    pack.set_defaults(call=commands.pack)
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


def _add_plugins(subparsers: Any) -> None:
    check = subparsers.add_parser(
        "check",
        help="check whether a method keeps the contract",
        description="Run the conformance checks on a method, and print each with pass, fail and the reason.",
    )
    check.set_defaults(call=commands.check)
    check.add_argument("method", metavar="NAME", help="name of a method; see mil-bench list methods")
    _add_plugin_files(check)
    new = subparsers.add_parser(
        "new",
        help="write a plugin package for a method of your own",
        description="Write a package with one method, its entry point and its test, to be filled with your method.",
    )
    new.set_defaults(call=commands.new)
    new.add_argument("name", metavar="NAME", help="lower case with hyphens: my-method")
    new.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where (default: here)")
    load = subparsers.add_parser(
        "import-checkpoint",
        help="turn a checkpoint of the authors' code into one of ours",
        description="Read a state dict that the authors' code saved (weights only, nothing is executed) and save it "
        "as a method that mil_bench.load_method opens.",
    )
    load.set_defaults(call=commands.import_checkpoint)
    load.add_argument("file", type=Path, metavar="FILE", help="as torch.save(model.state_dict()) wrote it")
    load.add_argument("--method", required=True, metavar="NAME", help="which method it is for")
    load.add_argument("--dataset", required=True, metavar="NAME", help="whose classes it was trained for")
    load.add_argument("--in-dim", type=int, default=1024, metavar="D", help="feature width (default: 1024)")
    load.add_argument(
        "--param", nargs="+", default=[], metavar="NAME=VALUE", help="parameters other than the method's defaults"
    )


def _add_plugin_files(parser: Any) -> None:
    parser.add_argument(
        "--plugin",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="Python files with methods of your own; a class MyMethod becomes my-method",
    )
