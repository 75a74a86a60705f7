"""What the commands that train have in common: what is compared, how settings are chosen, where it is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_folders, add_plugin_files

if TYPE_CHECKING:
    import argparse


def add_comparison(parser: Any) -> None:
    """Methods, datasets, splits, budget."""
    what = parser.add_argument_group("what to compare")
    what.add_argument(
        "--methods",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="names, or all (default); with settings: hmil:align_bags=false,temperature=0.2",
    )
    what.add_argument(
        "--dataset",
        nargs="+",
        required=True,
        metavar="NAME",
        help="one or several; generated ones take settings: bracs-sim:slides=200,difficulty=1.5",
    )
    what.add_argument(
        "--protocol",
        help="how slides are split (default: the dataset's first; see mil-bench list protocols)",
    )
    what.add_argument(
        "--folds", type=int, metavar="K", help="number of folds (default: the preset's)"
    )
    what.add_argument(
        "--splits",
        type=Path,
        metavar="FILE",
        help="follow a split file: its protocol and all its folds (mil-bench splits)",
    )
    what.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="S", help="training seeds (default: 0)"
    )
    what.add_argument(
        "--preset",
        default="paper",
        help="budget: paper, the authors' recipes on all folds (default); or quick, 3 folds and at most 40 epochs; "
        "where settings are tuned, 100 or 20 epochs for every method",
    )
    what.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="epochs for every method (default: recipe and preset)",
    )
    add_plugin_files(what)


def add_selection(parser: Any) -> None:
    """How trials are chosen and given up."""
    parser.add_argument(
        "--select",
        default="per-fold",
        help="per-fold: each fold keeps the trial its own validation slides like best (default); shared: one setting "
        "for all folds, whose validation slides vote together; fixed: the recipes, with a tuned run's epochs",
    )
    parser.add_argument("--no-pruning", action="store_true", help="train every trial to its end")


def add_workplace(parser: Any) -> Any:
    """Workers, device, folders; the group, for more of its kind."""
    how = parser.add_argument_group("where and how")
    how.add_argument(
        "--workers", type=int, metavar="N", help="trainings at the same time (default: one a core)"
    )
    how.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="default: a GPU if there is one",
    )
    add_folders(how)
    return how


def requests_of(arguments: argparse.Namespace, tune: int | None, tuned: bool) -> list[Any]:
    """One request a dataset."""
    from mil_bench.planning.request import RunRequest

    return [
        RunRequest(
            dataset=dataset,
            methods=tuple(arguments.methods),
            protocol=arguments.protocol,
            folds=arguments.folds,
            splits=arguments.splits,
            seeds=tuple(arguments.seeds),
            preset=arguments.preset,
            epochs=arguments.epochs,
            plugins=tuple(arguments.plugin),
            tune=tune,
            tuned=tuned,
            select=arguments.select,
            pruning=not arguments.no_pruning,
        )
        for dataset in dict.fromkeys(arguments.dataset)
    ]


def workplace_of(arguments: argparse.Namespace, tracking: bool) -> Any:
    """Where it is done."""
    from mil_bench.api import Workplace

    return Workplace(
        results=arguments.results,
        data=arguments.data,
        workers=arguments.workers,
        device=arguments.device,
        tracking=tracking,
    )
