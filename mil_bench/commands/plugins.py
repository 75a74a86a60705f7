"""For people who bring a method, and for checkpoints of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_plugin_files

if TYPE_CHECKING:
    import argparse


def add_plugins(subparsers: Any) -> None:
    """``mil-bench check``, ``new`` and ``import-checkpoint``."""
    checking = subparsers.add_parser(
        "check",
        help="check whether a method keeps the contract",
        description="Run the conformance checks on a method, and print each with pass, fail and the reason.",
    )
    checking.set_defaults(call=check)
    checking.add_argument(
        "method", metavar="NAME", help="name of a method; see mil-bench list methods"
    )
    add_plugin_files(checking)
    package = subparsers.add_parser(
        "new",
        help="write a plugin package for a method of your own",
        description="Write a package with one method, its entry point and its test, to be filled with your method.",
    )
    package.set_defaults(call=new)
    package.add_argument("name", metavar="NAME", help="lower case with hyphens: my-method")
    package.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="where (default: here)"
    )
    checkpoint = subparsers.add_parser(
        "import-checkpoint",
        help="turn a checkpoint of the authors' code into one of ours",
        description="Read a state dict that the authors' code saved (weights only, nothing is executed) and save it "
        "as a method that mil_bench.load_method opens.",
    )
    checkpoint.set_defaults(call=import_checkpoint)
    checkpoint.add_argument(
        "file", type=Path, metavar="FILE", help="as torch.save(model.state_dict()) wrote it"
    )
    checkpoint.add_argument(
        "--method", required=True, metavar="NAME", help="which method it is for"
    )
    checkpoint.add_argument(
        "--dataset", required=True, metavar="NAME", help="whose classes it was trained for"
    )
    checkpoint.add_argument(
        "--in-dim", type=int, default=1024, metavar="D", help="feature width (default: 1024)"
    )
    checkpoint.add_argument(
        "--param",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="parameters other than the method's defaults",
    )


def check(arguments: argparse.Namespace) -> int:
    """The conformance checks of a method; 1 if one fails."""
    from mil_bench import registry
    from mil_bench.methods import Method
    from mil_bench.methods.conformance import check_method

    for plugin in arguments.plugin:
        registry.methods.add_file(plugin, Method)
    outcomes = check_method(registry.methods.load(arguments.method))
    for outcome in outcomes:
        mark = "FAIL" if outcome.reason else "pass"
        print(f"{mark}  {outcome.check.name:19} {outcome.check.clause}")
        if outcome.reason:
            print(f"      {outcome.reason}")
    failed = sum(bool(outcome.reason) for outcome in outcomes)
    print(f"{arguments.method}: {len(outcomes) - failed} of {len(outcomes)} checks pass")
    return 1 if failed else 0


def new(arguments: argparse.Namespace) -> int:
    """A plugin package."""
    from mil_bench.methods.scaffold import new_plugin

    for path in new_plugin(arguments.name, arguments.folder):
        print(path)
    folder = arguments.folder / arguments.name
    print(f"Next:  pip install -e {folder}  &&  mil-bench check {arguments.name}")
    return 0


def import_checkpoint(arguments: argparse.Namespace) -> int:
    """The authors' checkpoint as one of ours."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.methods.checkpoints import (
        build_method,
        parse_params,
        read_checkpoint,
        save_method,
    )

    hierarchy = find_dataset(arguments.dataset).hierarchy
    params = parse_params(arguments.method, arguments.param)
    method = build_method(arguments.method, arguments.in_dim, hierarchy, **params)
    method.load_official_state(read_checkpoint(arguments.file))
    target = arguments.file.with_name(f"{arguments.file.stem}.mil-bench.pt")
    save_method(method, arguments.method, params, target)
    print(
        f"{target}: {arguments.method} with {sum(p.numel() for p in method.parameters()):,} parameters"
    )
    print(f"In Python:  mil_bench.load_method({str(target)!r})")
    return 0
