"""The command line: parse into one request, call, print. Nothing heavy is imported before it is used."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from mil_bench import __version__
from mil_bench.commands import data, plugins, reproduce, run, runs, splits, track, tune
from mil_bench.errors import MilBenchError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  mil-bench run --methods abmil hmil --dataset digits --preset quick    a result in two minutes, nothing to download
  mil-bench run --methods all --dataset bracs-sim                 on a generated twin of BRACS; hours on a CPU
  mil-bench data pack features/ --dataset bracs --labels BRACS.csv
  mil-bench run --methods all --dataset bracs                     on your own features, as packed above
  mil-bench splits audit published/ --dataset bracs --labels BRACS.xlsx     what is wrong with a split
  mil-bench list methods                                          what there is: methods, datasets, protocols, runs
  mil-bench new my-method                                         a package for a method of your own
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 done, 1 some trainings failed or a check found something wrong, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.call(arguments)
    except MilBenchError as error:
        print(f"mil-bench: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "mil-bench: stopped. What is finished is stored; the same command goes on from there.",
            file=sys.stderr,
        )
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
    training = (run.add_run, tune.add_tune, run.add_list, run.add_report, reproduce.add_reproduce)
    for add in (
        *training,
        runs.add_runs,
        track.add_track,
        data.add_data,
        splits.add_splits,
        plugins.add_plugins,
    ):
        add(subparsers)
    return parser
