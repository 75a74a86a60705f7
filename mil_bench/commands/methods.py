"""List methods, check one, write a package for a new one, import a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mil_bench.commands.options import add_plugin_files

_EXAMPLES = """\
examples:
  mil-bench methods list                  all methods that can be compared
  mil-bench methods new my-method         a package for a method of your own
  mil-bench methods check my-method       does it keep the contract?
  mil-bench methods check my-method --plugin my_method.py
  mil-bench methods import FILE --method clam-sb --dataset bracs
"""


def add_methods(subparsers: Any) -> None:
    """``mil-bench methods``."""
    parser = subparsers.add_parser(
        "methods",
        help="list methods, check and add your own, import checkpoints",
        description="List methods, check your own, write a package for a new one, or import\n"
        "a checkpoint of the authors' code.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="list all methods, each with its groups and a line about it"
    )
    listing.set_defaults(call=list_methods)
    _add_check(actions)
    _add_new(actions)
    _add_import(actions)


def _add_check(actions: Any) -> None:
    checking = actions.add_parser(
        "check",
        help="check whether a method keeps the contract",
        description="Run all checks of the contract on a method. Prints pass or FAIL for each, "
        "with the reason. Exits with 1 if a check fails.",
    )
    checking.set_defaults(call=check)
    checking.add_argument(
        "method", metavar="NAME", help="name of a method; see mil-bench methods list"
    )
    add_plugin_files(checking)


def _add_new(actions: Any) -> None:
    package = actions.add_parser(
        "new",
        help="write a package for a method of your own",
        description="Write a package with one method, its entry point and its test. The method is "
        "a small attention MIL that passes all checks; replace it by yours.",
    )
    package.set_defaults(call=new)
    package.add_argument("name", metavar="NAME", help="lower case with hyphens: my-method")
    package.add_argument(
        "--folder",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="write the package into this folder (default: the current one)",
    )


def _add_import(actions: Any) -> None:
    checkpoint = actions.add_parser(
        "import",
        help="convert a checkpoint of the authors' code",
        description="Read a state dict that the authors' code has saved (weights only, nothing is "
        "executed) and save it as a method that mil_bench.load_method opens.",
    )
    checkpoint.set_defaults(call=import_checkpoint)
    checkpoint.add_argument(
        "file", type=Path, metavar="FILE", help="written by torch.save(model.state_dict(), FILE)"
    )
    checkpoint.add_argument(
        "--method", required=True, metavar="NAME", help="the method whose weights these are"
    )
    checkpoint.add_argument(
        "--dataset", required=True, metavar="NAME", help="the dataset whose classes it predicts"
    )
    checkpoint.add_argument(
        "--in-dim", type=int, default=1024, metavar="D", help="feature width (default: 1024)"
    )
    checkpoint.add_argument(
        "--param",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="parameters that differ from the method's defaults",
    )
    checkpoint.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: FILE.mil-bench.pt beside the checkpoint)",
    )


def list_methods(_: argparse.Namespace) -> int:
    """All methods and yardsticks: name, groups, first line of the docstring."""
    from mil_bench.registry import groups, methods, yardsticks

    members = {name: groups.load(name) for name in groups.names() if not groups.fault(name)}
    rows = [(name, methods.fault(name) or methods.summary(name)) for name in methods.names()]
    rows += [(name, yardsticks.summary(name)) for name in yardsticks.names()]
    marks = {
        name: ",".join(g for g, of_group in members.items() if name in of_group) for name, _ in rows
    }
    width, mark_width = (max(map(len, words)) for words in (marks, marks.values()))
    for name, summary in rows:
        print(f"{name:{width}}  {marks[name]:{mark_width}}  {summary}")
    print(
        f"Groups for --methods: all, and as marked: {', '.join(members)}. Groups and names can be "
        "mixed: --methods core dtfd"
    )
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Run all checks on a method; 1 if one fails or says nothing because of another's failure."""
    from mil_bench import registry
    from mil_bench.errors import printable
    from mil_bench.methods import Method
    from mil_bench.methods.conformance import check_method

    for plugin in arguments.plugins:
        registry.methods.add_file(plugin, Method)
    results = check_method(registry.methods.load(arguments.method))
    for result in results:
        mark = "FAIL" if result.reason else "skip" if result.skipped else "pass"
        print(f"{mark}  {result.check.name:19} {result.check.clause}")
        if result.reason or result.skipped:
            print(f"      {printable(result.reason or result.skipped)}")
    said = [result for result in results if not result.skipped]
    passed = sum(not result.reason for result in said)
    print(f"{arguments.method}: {passed} of {len(said)} checks pass")
    return 0 if passed == len(said) else 1


def new(arguments: argparse.Namespace) -> int:
    """Write a package for a method."""
    from mil_bench.methods.scaffold import new_plugin

    for path in new_plugin(arguments.name, arguments.folder):
        print(path)
    folder = arguments.folder / arguments.name
    print(f"Next:  pip install -e {folder}  &&  mil-bench methods check {arguments.name}")
    return 0


def import_checkpoint(arguments: argparse.Namespace) -> int:
    """Save a checkpoint of the authors' code as a method."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.methods.checkpoints import load_official, parse_params, save_method

    hierarchy = find_dataset(arguments.dataset).hierarchy
    params = parse_params(arguments.method, arguments.param)
    method = load_official(
        arguments.method, arguments.dataset, arguments.in_dim, hierarchy, params, arguments.file
    )
    target = arguments.out or arguments.file.with_name(f"{arguments.file.stem}.mil-bench.pt")
    save_method(method, arguments.method, params, target)
    parameters = sum(p.numel() for p in method.parameters())
    print(f"{target}: {arguments.method} with {parameters:,} parameters")
    print(f"In Python:  mil_bench.load_method({str(target)!r})")
    return 0
