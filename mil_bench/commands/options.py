"""Options that several commands have."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any


def add_folders(parser: Any) -> None:
    """Where results and packed features lie."""
    add_results_folder(parser)
    add_data_folder(parser)


def add_results_folder(parser: Any) -> None:
    """Where results lie."""
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default: results"
    )


def add_data_folder(parser: Any) -> None:
    """Where packed features lie."""
    parser.add_argument(
        "--data",
        type=Path,
        default=_data_folder(),
        metavar="DIR",
        help="folder of packed features (default: data, or what MIL_BENCH_DATA says)",
    )


def _data_folder() -> Path:
    return Path(os.environ.get("MIL_BENCH_DATA", "data"))


def named_again(dataset: str, data: Path) -> str:
    """A dataset and, where it is not the usual one, the folder of its features, for a command that can be pasted."""
    folder = "" if data == _data_folder() else f" --data {shlex.quote(str(data))}"
    return shlex.quote(dataset) + folder


def add_plugin_files(parser: Any) -> None:
    """Methods from single files."""
    parser.add_argument(
        "--plugin",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="Python files with methods of your own; a class MyMethod becomes my-method",
    )


def progress_bar(items: Any, count: int, what: str) -> Any:
    """A bar on standard error while something is gone through; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, count, console=console, disable=not console.is_terminal)
