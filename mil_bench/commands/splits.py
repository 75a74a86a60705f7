"""Make, import, export and audit splits."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_data_folder, named_again
from mil_bench.errors import InputError
from mil_bench.progress import progress_bar

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides
    from mil_bench.split_files import audit as split_audit
    from mil_bench.split_files.formats.own import SplitFile
    from mil_bench.splits.lists import SplitLists
    from mil_bench.splits.plan import SplitPlan


def add_splits(subparsers: Any) -> None:
    """``mil-bench splits``."""
    group = subparsers.add_parser("splits", help="make, import, export and audit splits")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    making = actions.add_parser(
        "make",
        help="make folds by a protocol and keep them in a file",
        description="Make folds from a label sheet, or from the packed store, and keep them in a split file, which "
        "mil-bench run --splits follows.",
    )
    making.set_defaults(call=make)
    _add_metadata(making, required=True)
    _add_protocol(making)
    making.add_argument(
        "out", type=Path, metavar="OUT", help="the split file, JSON; never overwritten"
    )
    importing = actions.add_parser(
        "import",
        help="take over splits that another tool has made",
        description="Turn split files into one of ours: HMIL's pickles, CLAM's splits_k.csv, Patho-Bench's k=all.tsv, "
        "MIL_BASELINE's and TransMIL's tables, told from their content. Where there is no validation part, one is cut "
        "from every training part, groups kept whole, and captions say so. Labels that contradict the metadata are "
        "named and not taken over.",
    )
    importing.set_defaults(call=import_)
    importing.add_argument(
        "path", type=Path, metavar="PATH", help="a folder with the files of one split, or one file"
    )
    _add_metadata(importing, required=True)
    importing.add_argument(
        "out", type=Path, metavar="OUT", help="the split file, JSON; never overwritten"
    )
    exporting = actions.add_parser("export", help="write a split file in the form of another tool")
    exporting.set_defaults(call=export)
    exporting.add_argument("file", type=Path, metavar="FILE", help="a split file of mil-bench")
    exporting.add_argument(
        "--to", required=True, choices=["clam", "patho-bench"], help="whose form"
    )
    _add_metadata(exporting, required=True)
    exporting.add_argument(
        "folder", type=Path, metavar="FOLDER", help="made if absent; no file in it is overwritten"
    )
    _add_audit(actions)


def _add_audit(actions: Any) -> None:
    auditing = actions.add_parser(
        "audit",
        help="say what is wrong with a split: leaks, classes, label conflicts, centres, near-duplicates",
        description="Count what may be wrong with a split. Exit code 1 where slides, or groups that --allow-leaks does "
        "not name, stand both in test and in training or validation, and where the lists cannot be followed as they "
        "are (lines that begin with FAULT, such as a fold without training slides).",
    )
    auditing.set_defaults(call=audit)
    auditing.add_argument(
        "path",
        type=Path,
        nargs="?",
        metavar="PATH",
        help="a split file, or what splits import takes",
    )
    _add_metadata(auditing, required=False)
    _add_protocol(auditing)
    auditing.add_argument("--json", action="store_true", help="print everything as JSON")
    auditing.add_argument(
        "--allow-leaks", metavar="GROUP", default="", help="what groups may leak, such as: patient"
    )


def _add_metadata(parser: Any, required: bool) -> None:
    parser.add_argument(
        "--dataset", required=required, metavar="NAME", help="see mil-bench list datasets"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="label sheet with groups (default: what the packed store knows)",
    )
    add_data_folder(parser)


def _add_protocol(parser: Any) -> None:
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="see mil-bench list protocols (default: the dataset's first)",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="number of folds (default: the protocol's)"
    )


def make(arguments: argparse.Namespace) -> int:
    """Folds by a protocol into a file."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.split_files.formats.own import SplitFile

    spec = find_dataset(arguments.dataset)
    table = _required_table(arguments, spec)
    plan = _made(arguments, spec, table)
    source = "; ".join(filter(None, [plan.source, f"made from the {table.origin}"]))
    file = SplitFile(spec.slug, plan.protocol, source, plan.folds)
    _write(file, file.lists, arguments, spec, table)
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """Another tool's folds into a file."""
    from mil_bench.commands.audit_report import conflicts
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.datasets.slides import known_slides
    from mil_bench.split_files.formats import read_split_lists
    from mil_bench.split_files.importing import import_lists

    lists = read_split_lists(arguments.path)
    spec = find_dataset(arguments.dataset)
    table = known_slides(spec, arguments.labels, arguments.data)
    file = import_lists(lists, spec, table)
    done = _write(
        file, replace(file.lists, labels=lists.labels, groups=lists.groups), arguments, spec, table
    )
    for line in conflicts(done):
        print(f"mil-bench: warning: {line} Runs follow the metadata.", file=sys.stderr)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """A split file in another tool's form."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.split_files.exporting import export_plan
    from mil_bench.split_files.formats.own import follow_file

    spec = find_dataset(arguments.dataset)
    table = _required_table(arguments, spec)
    plan = follow_file(arguments.file, spec, table)
    written = export_plan(plan, arguments.to, spec, table.frame, arguments.folder)
    print(f"{arguments.folder}: {', '.join(written[:3])}{', ...' if len(written) > 3 else ''}")
    return 0


def audit(arguments: argparse.Namespace) -> int:
    """What is wrong with a split; 1 where it leaks."""
    from mil_bench.commands.audit_report import print_audit
    from mil_bench.split_files import audit as split_audit

    lists, spec, table = _audited(arguments)
    classes = spec.hierarchy.fine if spec is not None else ()
    done = split_audit.audit(lists, table, classes, _near_duplicates(spec, arguments.data))
    if arguments.allow_leaks and arguments.allow_leaks != done.group_name:
        kind = f"of kind '{done.group_name}'" if done.group_name else "unknown"
        problem = f"--allow-leaks {arguments.allow_leaks}, but groups here are {kind}"
        raise InputError(
            "the request", [problem], "Name what may leak as the audit names it, or leave it out."
        )
    if arguments.json:
        print(json.dumps(done.to_json(), indent=1))
    else:
        print_audit(done)
    leaks = [name for name in done.leaks if name != arguments.allow_leaks]
    said = [f"leaks of kind {' and '.join(leaks)} into the test part"] if leaks else []
    said += (
        [f"the lists cannot be followed ({len(done.faults)} FAULT lines)"] if done.faults else []
    )
    if said:
        print(f"mil-bench: {', '.join(said)}, exit code 1", file=sys.stderr)
    return 1 if said else 0


def _required_table(arguments: argparse.Namespace, spec: DatasetSpec) -> Slides:
    from mil_bench.datasets.slides import known_slides

    table = known_slides(spec, arguments.labels, arguments.data)
    if table is None:
        problem = f"neither a label sheet is named nor are features of {spec.name} packed in {arguments.data}"
        raise InputError("the request", [problem], "Give --labels TABLE.")
    return table


def _made(arguments: argparse.Namespace, spec: DatasetSpec, table: Slides) -> SplitPlan:
    from mil_bench.splits.plan import make_splits, protocol_named

    protocol = arguments.protocol or spec.protocols[0]
    usual = protocol_named(protocol, spec.protocols, spec.name).folds or spec.folds
    folds = usual if arguments.folds is None else arguments.folds
    return make_splits(protocol, table.frame, spec.hierarchy, folds, table.group_name)


def _write(
    file: SplitFile,
    lists: SplitLists,
    arguments: argparse.Namespace,
    spec: DatasetSpec,
    table: Slides | None,
) -> split_audit.SplitAudit:
    """Keep a split file, and tell at once what is wrong with it; ``lists`` are its folds with what else is known."""
    from mil_bench.commands.audit_report import sentences
    from mil_bench.datasets.catalogue import store_path
    from mil_bench.split_files import audit as split_audit

    file.write(arguments.out)
    print(f"{arguments.out}: {file.protocol}, {file.source}, digest {file.digest}")
    done = split_audit.audit(lists, table, spec.hierarchy.fine, None)
    again, out = named_again(arguments.dataset, arguments.data), shlex.quote(str(arguments.out))
    looking = "mil-bench splits audit does once features are packed."
    if store_path(spec, arguments.data).exists():
        labels = f" --labels {shlex.quote(str(arguments.labels))}" if arguments.labels else ""
        looking = f"mil-bench splits audit {out} --dataset {again}{labels}"
    for line in sentences(done, f"Near-duplicate bags were not looked for here: {looking}"):
        print(f"- {line}")
    print(f"Run:  mil-bench run --methods all --dataset {again} --splits {out}")
    return done


def _audited(arguments: argparse.Namespace) -> tuple[SplitLists, DatasetSpec | None, Slides | None]:
    """The lists to audit, the dataset's card and what is known of its slides."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.datasets.slides import known_slides
    from mil_bench.split_files.formats import read_split_lists
    from mil_bench.splits.lists import SplitLists

    drawn = arguments.protocol is not None
    if drawn == (arguments.path is not None) or (arguments.folds is not None and not drawn):
        problem = "name either a PATH, or --dataset and --protocol (and --folds) for a split made on the fly"
        raise InputError("the request", [problem], "See mil-bench splits audit --help.")
    if arguments.dataset is None and (drawn or arguments.labels is not None):
        raise InputError(
            "the request", ["no --dataset is named"], "Name it: its card says what labels mean."
        )
    spec = find_dataset(arguments.dataset) if arguments.dataset is not None else None
    if drawn:
        table = _required_table(arguments, spec)
        plan = _made(arguments, spec, table)
        title = (
            f"{plan.protocol} on {spec.slug}, made from the {table.origin}, digest {plan.digest}"
        )
        return SplitLists(title, plan.folds, tuple(range(len(plan.folds)))), spec, table
    lists = read_split_lists(arguments.path)
    return (
        lists,
        spec,
        known_slides(spec, arguments.labels, arguments.data) if spec is not None else None,
    )


def _near_duplicates(spec: DatasetSpec | None, data: Path) -> pd.DataFrame | None:
    """Pairs of bags that are equal or almost so, where features are packed."""
    from mil_bench.datasets.catalogue import open_store, store_path
    from mil_bench.intake.inspection.near_duplicates import near_duplicates

    if spec is None or not store_path(spec, data).exists():
        return None
    return near_duplicates(open_store(spec, data), progress_bar)
