"""The command line: parse into one request, call, print. Nothing heavy is imported before it is used."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from mil_bench import __version__
from mil_bench.commands import data, methods, report, reproduce, run, runs, splits, tune
from mil_bench.errors import MilBenchError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  mil-bench run --methods abmil hmil --dataset digits --preset quick    a result in two minutes, nothing to download
  mil-bench run --methods all --dataset bracs-sim                 on simulated data like BRACS; hours on a CPU
  mil-bench data pack features/ --dataset bracs --labels BRACS.csv
  mil-bench run --methods all --dataset bracs                     on your own features, as packed above
  mil-bench splits audit published/ --dataset bracs --labels BRACS.xlsx     what is wrong with a split
  mil-bench methods list                                          the methods; also: data list, runs list
  mil-bench methods new my-method                                 a package for a method of your own
"""


_MOVED = {
    ("list", "methods"): "methods list",
    ("list", "datasets"): "data list",
    ("list", "protocols"): "splits protocols",
    ("list", "runs"): "runs list",
    ("check",): "methods check",
    ("new",): "methods new",
    ("import-checkpoint",): "methods import",
    ("data", "check"): "data inspect",
    ("track", "--resync"): "runs track",
    ("track",): "runs track",
}
"""Former commands, and what each is called now; they keep working."""
_RUNS = ("list", "compare", "track", "-h", "--help")


def _renamed(words: list[str]) -> list[str]:
    """The command in its present words; says so if they differ."""
    if words[:1] == ["runs"] and (len(words) == 1 or words[1] not in _RUNS):
        names_runs = len(words) > 1 and not words[1].startswith("-")
        new = ["runs", "compare" if names_runs else "list"]
        former, rest = words[:1], words[1:]
    else:
        former = next((list(old) for old in _MOVED if words[: len(old)] == list(old)), [])
        if not former:
            return words
        new = _MOVED[tuple(former)].split()
        rest = [word for word in words[len(former) :] if word != "--resync"]
    old, present = " ".join(former), " ".join(new)
    print(f"mil-bench: '{old}' is now called '{present}'", file=sys.stderr)
    return [*new, *rest]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 done, 1 some trainings failed or a check found something wrong, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(_renamed(words))
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
    verbs = (run.add_run, tune.add_tune, reproduce.add_reproduce, report.add_report)
    nouns = (data.add_data, splits.add_splits, methods.add_methods, runs.add_runs)
    for add in (*verbs, *nouns):
        add(subparsers)
    return parser
