"""The command line: commands, exit codes, help. Heavy libraries are imported when they are used."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import gc
import io
import sys
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

from mil_bench import __version__
from mil_bench.commands import data, methods, report, reproduce, run, runs, splits, tune, worker
from mil_bench.commands.machine import doctor
from mil_bench.commands.models import export, maps, predict
from mil_bench.commands.planning import plan
from mil_bench.commands.sharing import results
from mil_bench.commands.terminal.printing import Output, complain
from mil_bench.errors import MilBenchError
from mil_bench.wording import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  Two minutes on generated digits, nothing to download:
    mil-bench run --methods abmil hmil --dataset digits --preset quick
  Simulated data like BRACS; hours on a CPU:
    mil-bench run --methods all --dataset bracs-sim
  Your own features:
    mil-bench data pack features/ --dataset bracs --labels BRACS.csv
    mil-bench run --methods all --dataset bracs
  Errors in a published split:
    mil-bench splits audit published/ --dataset bracs --labels BRACS.xlsx
  What the trained models say of new slides, and where they look:
    mil-bench predict RUN --method hmil features/ --out predictions.csv
    mil-bench maps RUN --method all SLIDE --features features/
  The methods, and a package for a method of your own:
    mil-bench methods list
    mil-bench methods new my-method
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
"""Former commands to their present names; both work."""
_RUNS = ("list", "compare", "track", "-h", "--help")


def _renamed(words: list[str]) -> list[str]:
    """The command in its present words; prints a note if the user wrote a former command."""
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
    complain(f"'{old}' is now called '{present}'")
    return [*new, *rest]


_RARELY = 50_000
"""New objects until Python looks for cycles among them; Python has 700, or 2,000 from 3.13 on."""


def program() -> int:
    """``main`` as a program of its own, with less work for the garbage collector.

    Importing torch makes very many objects, all of which stay. Python looks for cycles among them
    while they are made, and again at the end: 0.7 of 1.8 CPU seconds of a program that does no more
    than import torch (*measured*).
    """
    gc.set_threshold(_RARELY)
    try:
        return main()
    finally:
        gc.freeze()  # what is left now ends with the process, cycles or not


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: words of the command line, None for those of this process.

    Returns:
        The exit code: 0 for success, 1 if a training failed or a check found an error, 2 for bad
        input, 130 if interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(_renamed(words))
    try:
        with contextlib.redirect_stdout(Output(sys.stdout)):
            code = arguments.call(arguments)
            sys.stdout.flush()
            return code
    except MilBenchError as error:
        complain(str(error))
        return 2
    except OSError as error:  # a path that no file can have, or that may not be read
        if error.filename is None:
            raise
        complain(f"{shortened(str(error.filename))}: {error.strerror}")
        return 2
    except KeyboardInterrupt:
        complain("interrupted. Finished work is stored; repeat the command to continue.")
        return 130


_PLAIN = "mil_bench.plain"
_SPELLINGS = str.maketrans({"±": "+/-", "×": "x", "–": "-", "—": "-", "─": "-", "…": "..."})


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Spell characters that the stream's encoding lacks in ASCII; ``?`` if there is no spelling."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_SPELLINGS)
    spelled = "".join(
        unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?" for c in text
    )
    return spelled, error.end


codecs.register_error(_PLAIN, _plain)


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps text without breaking names at hyphens; lines that are indented stay as they are."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = []
        for paragraph in text.strip().split("\n\n"):
            if "\n  " not in paragraph:
                paragraph = "\n".join(self._split_lines(paragraph, width - len(indent)))
            paragraphs.append(textwrap.indent(paragraph, indent))
        return "\n\n".join(paragraphs)


class _Parser(argparse.ArgumentParser):
    """A parser whose commands all have this module's form of help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"formatter_class": _HelpFormatter} | options))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mil-bench",
        description="Compare multiple-instance learning methods on whole-slide-image features.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"mil-bench {__version__}")
    subparsers = parser.add_subparsers(
        title="commands",
        description="The first six train and compare methods, the next three use the trained "
        "models, and doctor looks at the machine; the others manage what is compared and what is "
        "stored.",
        required=True,
        metavar="COMMAND",
    )
    verbs = (
        plan.add_plan,
        run.add_run,
        tune.add_tune,
        reproduce.add_reproduce,
        report.add_report,
        worker.add_worker,
        predict.add_predict,
        maps.add_maps,
        export.add_export,
    )
    nouns = (
        data.add_data,
        splits.add_splits,
        methods.add_methods,
        runs.add_runs,
        results.add_results,
        doctor.add_doctor,
    )
    for add in (*verbs, *nouns):
        add(subparsers)
    return parser
