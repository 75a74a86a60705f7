"""Export the trained models of a run as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.models.predict import stored_run
from mil_bench.commands.options import add_plugin_files, add_results_folder

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  The models of all folds and seeds, with a model card beside the file:
    mil-bench export RUN --method hmil --out hmil.safetensors
  The model of one fold:
    mil-bench export RUN --method hmil --fold 3
  In Python:
    mil_bench.load_model("hmil.safetensors").predict(features)
"""


def add_export(subparsers: Any) -> None:
    """``mil-bench export``."""
    parser = subparsers.add_parser(
        "export",
        help="write the trained models of a method into one file",
        description="Write the trained models of a method into one safetensors file: weights of "
        "all folds and seeds, sizes, classes, features, how they were trained, what to cite. A "
        "model card in Markdown is written beside it. Nothing in the file can be executed.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=export)
    parser.add_argument("run", metavar="RUN", help="name of a run; see mil-bench runs list")
    parser.add_argument("--method", required=True, metavar="NAME", help="as its tables call it")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: RUN-NAME.safetensors); the card has the ending .md",
    )
    parser.add_argument("--fold", type=int, metavar="K", help="only the models of this fold")
    parser.add_argument("--seed", type=int, metavar="N", help="only those of this training seed")
    add_plugin_files(parser)
    add_results_folder(parser)


def export(arguments: argparse.Namespace) -> int:
    """Write the file and its card."""
    from mil_bench.errors import show
    from mil_bench.sharing.model_export import export_model

    path, card = export_model(
        stored_run(arguments), arguments.method, arguments.out, arguments.fold, arguments.seed
    )
    show(f"{path}: {path.stat().st_size / 2**20:.1f} MiB\n{card}: the model card")
    show(f"In Python:  mil_bench.load_model({str(path)!r}).predict(features)")
    return 0
