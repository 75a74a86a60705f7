"""Options that several commands have."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from mil_bench.planning.options import add_options, from_arguments
from mil_bench.planning.request import RunRequest
from mil_bench.running.setup import Setup, data_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path


def add_comparison(parser: Any) -> None:
    """What is compared: methods, datasets, splits, budget."""
    group = parser.add_argument_group("what to compare")
    group.add_argument(
        "--dataset",
        nargs="+",
        required=True,
        metavar="NAME",
        help="one or more; generated ones take settings: bracs-sim:slides=200,difficulty=1.5",
    )
    names = ("methods", "protocol", "folds", "splits", "seeds", "preset", "epochs", "plugins")
    add_options(group, RunRequest, *names)


def add_setup(parser: Any, *more: str) -> Any:
    """Workers, device, executor and folders; the group, for more of its kind."""
    group = parser.add_argument_group("where and how")
    add_options(
        group, Setup, "workers", "device", "on", "patience_minutes", "results", "data", *more
    )
    return group


def requests_of(arguments: argparse.Namespace, **more: Any) -> Sequence[Any]:
    """One request per dataset that was named."""
    names = dict.fromkeys(arguments.dataset)
    return [from_arguments(RunRequest, arguments, dataset=name, **more) for name in names]


def setup_of(arguments: argparse.Namespace, **more: Any) -> Any:
    """Where and how it is done."""
    return from_arguments(Setup, arguments, **more)


def add_results_folder(parser: Any) -> None:
    """The folder of results."""
    add_options(parser, Setup, "results")


def add_data_folder(parser: Any) -> None:
    """The folder of packed features."""
    add_options(parser, Setup, "data")


def add_plugin_files(parser: Any) -> None:
    """Methods from single files."""
    add_options(parser, RunRequest, "plugins")


def named_again(dataset: str, data: Path) -> str:
    """A dataset and, unless it is the usual one, the folder of its features, for a command that can be pasted."""
    folder = "" if data == data_folder() else f" --data {shlex.quote(str(data))}"
    return shlex.quote(dataset) + folder
