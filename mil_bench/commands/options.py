"""Options that several commands share."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from mil_bench.planning.options import add_options, from_arguments, words_of
from mil_bench.planning.request import RunRequest
from mil_bench.run_file import Datasets
from mil_bench.running.setup import Cluster, Setup, data_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def add_comparison(parser: Any, has_file: bool = False) -> None:
    """Add the options for methods, datasets, splits and budget.

    Args:
        parser: of the command.
        has_file: whether the command takes a run file, which may name the datasets.
    """
    group = parser.add_argument_group("what to compare")
    add_options(group, Datasets, "dataset", required=() if has_file else ("dataset",))
    names = (
        "encoders",
        "methods",
        "protocol",
        "folds",
        "repeats",
        "splits",
        "allow_missing",
        "seeds",
        "preset",
        "epochs",
        "combine",
    )
    add_options(group, RunRequest, *names, "class_weights", "sampler", "plugins")


def add_setup(parser: Any, *more: str) -> Any:
    """Add the options for workers, device, executor and folders; returns their group."""
    group = parser.add_argument_group("machine and folders")
    names = ("workers", "device", "deterministic", "on", "patience_minutes", "debug")
    add_options(group, Setup, *names, "results", "data", *more)
    cluster = parser.add_argument_group("other machines (--on slurm, workers or dask)")
    add_options(cluster, Cluster, "sbatch", "array_limit", "bundle", "detach", "scheduler")
    return group


def requests_of(arguments: argparse.Namespace, **more: Any) -> Sequence[Any]:
    """One request per dataset and encoder in the arguments."""
    encoders = tuple(dict.fromkeys(arguments.encoders))
    return [
        from_arguments(RunRequest, arguments, dataset=name, encoders=own, **more)
        for name in dict.fromkeys(arguments.dataset)
        for own in _each_first(encoders)
    ]


def _each_first(encoders: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The encoders in as many orders, each once in front; () if there are none."""
    return [(own, *(e for e in encoders if e != own)) for own in encoders] or [()]


def setup_of(arguments: argparse.Namespace, **more: Any) -> Any:
    """The setup in the arguments."""
    return from_arguments(Setup, arguments, cluster=from_arguments(Cluster, arguments), **more)


def add_results_folder(parser: Any) -> None:
    """Add the option for the folder of results."""
    add_options(parser, Setup, "results")


def add_data_folder(parser: Any) -> None:
    """Add the option for the folder of packed features."""
    add_options(parser, Setup, "data")


def add_plugin_files(parser: Any) -> None:
    """Add the option for methods from single files."""
    add_options(parser, RunRequest, "plugins")


def add_json(parser: Any) -> None:
    """Add the option for a JSON document in place of text."""
    parser.add_argument(
        "--json",
        action="store_true",
        default=False,
        help="print one JSON document and nothing else on standard output",
    )


@contextlib.contextmanager
def output_as_errors() -> Iterator[None]:
    """What is printed in the block, also by processes that it starts, goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def words_again(arguments: argparse.Namespace, *names: str) -> str:
    """Options that were given, for a command that can be pasted; "" if all have their defaults.

    Args:
        arguments: the result of argparse.
        names: fields of ``Setup``.
    """
    given = from_arguments(Setup, argparse.Namespace(**{n: getattr(arguments, n) for n in names}))
    return "".join(f" {shlex.quote(word)}" for word in words_of(given))


def named_again(dataset: str, data: Path) -> str:
    """A dataset for a command that can be pasted, with its folder if that is not the default."""
    folder = "" if data == data_folder() else f" --data {shlex.quote(str(data))}"
    return shlex.quote(dataset) + folder
