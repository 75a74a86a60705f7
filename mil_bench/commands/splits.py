"""``mil-bench splits``: make, import, export and audit splits."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_data_folder, named_again
from mil_bench.commands.terminal.printing import complain
from mil_bench.errors import InputError, printable
from mil_bench.progress import progress_bar

if TYPE_CHECKING:
    import argparse

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides
    from mil_bench.split_files.audit import SplitAudit
    from mil_bench.split_files.formats.own import SplitFile
    from mil_bench.split_files.overlaps import NearDuplicates
    from mil_bench.splits.lists import SplitLists
    from mil_bench.splits.plan import SplitPlan


def add_splits(subparsers: Any) -> None:
    """``mil-bench splits``."""
    group = subparsers.add_parser("splits", help="make, import, export and audit splits")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    _add_make(actions)
    _add_import(actions)
    _add_export(actions)
    _add_audit(actions)
    listing = actions.add_parser("protocols", help="list the protocols that make splits")
    listing.set_defaults(call=protocols)


def _add_make(actions: Any) -> None:
    parser = actions.add_parser(
        "make",
        help="make folds by a protocol and write them to a split file",
        description="Make folds from a label table or the packed store, and write them to a split "
        "file. mil-bench run --splits trains on them.",
    )
    parser.set_defaults(call=make)
    _add_metadata(parser, required=True)
    _add_protocol(parser)
    _add_out(parser)


def _add_import(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="turn the splits of another tool into a split file",
        description="Turn the splits of another tool into a split file of mil-bench. It reads "
        "HMIL's pickles, CLAM's splits_k.csv, Patho-Bench's k=all.tsv, MIL_BASELINE's and "
        "TransMIL's tables, and tells them apart by their content. If there is no validation part, "
        "mil-bench holds one out of every training part, keeps groups together, and says so in "
        "captions. Labels that contradict the metadata are reported and not imported.",
    )
    parser.set_defaults(call=import_)
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a folder with the files of one split, or one file"
    )
    _add_metadata(parser, required=True)
    _add_allow_missing(parser)
    _add_out(parser)


def _add_export(actions: Any) -> None:
    parser = actions.add_parser("export", help="write a split in the format of another tool")
    parser.set_defaults(call=export)
    parser.add_argument("file", type=Path, metavar="FILE", help="a split file of mil-bench")
    parser.add_argument(
        "--to", required=True, choices=["clam", "patho-bench"], help="the tool whose format it is"
    )
    _add_metadata(parser, required=True)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="made if absent; no file in it is overwritten"
    )


def _add_audit(actions: Any) -> None:
    parser = actions.add_parser(
        "audit",
        help="look for errors in a split: leaks, classes, label conflicts, centres",
        description="Look for errors in a split. Exits with 1 if a slide, or a group that "
        "--allow-leaks does not name, is in both test and training or validation, or if the lists "
        "cannot be followed (lines that begin with FAULT, such as a fold without training slides).",
    )
    parser.set_defaults(call=audit)
    parser.add_argument(
        "path",
        type=Path,
        nargs="?",
        metavar="PATH",
        help="a split file of mil-bench, or files that splits import reads",
    )
    _add_metadata(parser, required=False)
    _add_allow_missing(parser)
    _add_protocol(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--allow-leaks",
        metavar="GROUP",
        default="",
        help="a kind of group that may leak, such as patient",
    )


def _add_metadata(parser: Any, required: bool) -> None:
    parser.add_argument(
        "--dataset", required=required, metavar="NAME", help="see mil-bench data list"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="label table with groups (default: the packed store)",
    )
    add_data_folder(parser)


def _add_allow_missing(parser: Any) -> None:
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out listed slides that the label table or the packed store does not have",
    )


def _add_protocol(parser: Any) -> None:
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="see mil-bench splits protocols (default: the dataset's first)",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="number of folds (default: the protocol's)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=1,
        metavar="R",
        help="repeat a cross-validation so often with other folds (default: 1)",
    )


def _add_out(parser: Any) -> None:
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="the split file, JSON; never overwritten"
    )


def protocols(_: argparse.Namespace) -> int:
    """List the protocols."""
    from mil_bench.splits.protocols import PROTOCOLS

    width = max(map(len, PROTOCOLS))
    for name, protocol in PROTOCOLS.items():
        print(f"{name:{width}}  {protocol.summary}")
    return 0


def make(arguments: argparse.Namespace) -> int:
    """Write folds by a protocol to a split file."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.split_files.formats.own import SplitFile

    spec = find_dataset(arguments.dataset)
    table = _required_table(arguments, spec)
    plan = _plan(arguments, spec, table)
    source = "; ".join(filter(None, [plan.source, f"made from the {table.origin}"]))
    file = SplitFile(spec.slug, plan.protocol, source, plan.folds, plan.repeats)
    _write(file, file.lists, arguments, spec, table)
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """Write the folds of another tool to a split file."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.datasets.slides import known_slides
    from mil_bench.report.audit_sentences import conflicts
    from mil_bench.split_files.formats import read_split_lists
    from mil_bench.split_files.importing import import_lists
    from mil_bench.split_files.spelling import respelled

    lists = read_split_lists(arguments.path)
    spec = find_dataset(arguments.dataset)
    table = known_slides(spec, arguments.labels, arguments.data)
    if table is not None:
        lists = respelled(lists, table.frame["slide"])
    file = import_lists(lists, spec, table, arguments.allow_missing)
    written = replace(
        file.lists, labels=lists.labels, groups=lists.groups, respelled=lists.respelled
    )
    for line in conflicts(_write(file, written, arguments, spec, table)):
        complain(f"warning: {line} Runs use the metadata.")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write a split file in the format of another tool."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.split_files.exporting import export_plan
    from mil_bench.split_files.formats.own import follow_file

    spec = find_dataset(arguments.dataset)
    table = _required_table(arguments, spec)
    plan = follow_file(arguments.file, spec, table)
    names = export_plan(plan, arguments.to, spec, table.frame, arguments.folder)
    listed = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    print(printable(f"{arguments.folder}: {listed}"))
    return 0


def audit(arguments: argparse.Namespace) -> int:
    """Show what is wrong with a split; 1 if it leaks or cannot be followed."""
    from mil_bench.split_files.audit import audit as count

    lists, spec, table = _audited(arguments)
    classes = spec.hierarchy.fine if spec is not None else ()
    result = count(lists, table, classes, _near_duplicates(spec, arguments.data))
    allowed, group = arguments.allow_leaks, result.group_name
    if allowed and allowed != group:
        groups = (
            f"the groups of this split are called '{group}'" if group else "patients are unknown"
        )
        problem = f"--allow-leaks {allowed}, but {groups}"
        remedy = "Use the name that the audit prints, or leave out --allow-leaks."
        raise InputError("the request", [problem], remedy)
    if arguments.json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        _show(result)
    leaks = [f"{kind}s" for kind in result.leaks if kind != allowed]
    reasons = []
    if leaks:
        reasons.append(f"test shares {' and '.join(leaks)} with training or validation")
    if result.faults:
        reasons.append("the lists cannot be followed (see FAULT)")
    if reasons:
        complain(f"{'; '.join(reasons)}: exit code 1")
    return 1 if reasons else 0


def _show(result: SplitAudit) -> None:
    """Print an audit: its sentences, one line each for programs that read them, and its tables."""
    from rich.console import Console
    from rich.text import Text

    from mil_bench.report.audit_sentences import sentences
    from mil_bench.report.audit_tables import audit_tables
    from mil_bench.report.render.terminal import print_tables

    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal  # a pipe gets one sentence per line
    console.print(Text(printable(f"Audit of {result.title}"), style="bold"))
    for line in sentences(result):
        console.print(Text(f"- {line}", style="bold red" if line.startswith("LEAKS") else ""))
    console.print()
    print_tables(audit_tables(result))


def _required_table(arguments: argparse.Namespace, spec: DatasetSpec) -> Slides:
    from mil_bench.datasets.slides import known_slides

    table = known_slides(spec, arguments.labels, arguments.data)
    if table is None:
        problem = f"there is no label table, and {arguments.data} has no features of {spec.name}"
        raise InputError("the request", [problem], "Give --labels TABLE.")
    return table


def _plan(arguments: argparse.Namespace, spec: DatasetSpec, table: Slides) -> SplitPlan:
    from mil_bench.datasets.card import PATIENT
    from mil_bench.datasets.patients import require_patients
    from mil_bench.splits.patients import split_patients
    from mil_bench.splits.protocols import make_splits, protocol_named

    protocol = arguments.protocol or spec.protocols[0]
    named = protocol_named(protocol, spec.protocols, spec.name)
    folds = arguments.folds
    if folds is None:
        folds = named.usual_folds(table.frame, spec.folds)
    if arguments.repeats < 1:
        problem = f"repeats must be a whole number from 1 on, not {arguments.repeats}"
        raise InputError("the request", [problem], "Leave out --repeats for one cross-validation.")
    about = protocol, table.frame, spec.hierarchy, folds, table.group_name
    if spec.unit == PATIENT:
        slides, name = table.frame, table.group_name
        require_patients(slides, spec.hierarchy.fine, name, f"slides of the {table.origin}")
        return split_patients(*about, arguments.repeats)
    return make_splits(*about, arguments.repeats)


def _write(
    file: SplitFile,
    lists: SplitLists,
    arguments: argparse.Namespace,
    spec: DatasetSpec,
    table: Slides | None,
) -> SplitAudit:
    """Write a split file and print its audit; ``lists`` are its folds with what else is known."""
    from mil_bench.datasets.catalogue import is_packed
    from mil_bench.report.audit_sentences import sentences
    from mil_bench.split_files.audit import audit as count

    file.write(arguments.out)
    print(printable(f"{arguments.out}: {file.protocol}, {file.source}, digest {file.digest}"))
    result = count(lists, table, spec.hierarchy.fine, None)
    again, out = named_again(arguments.dataset, arguments.data), shlex.quote(str(arguments.out))
    search = "mil-bench splits audit does it once features are packed."
    if is_packed(spec, arguments.data):
        labels = f" --labels {shlex.quote(str(arguments.labels))}" if arguments.labels else ""
        search = f"to search for them, run mil-bench splits audit {out} --dataset {again}{labels}"
    for line in sentences(result, f"Near-duplicate bags were not searched for; {search}"):
        print(f"- {line}")
    print(f"Run:  mil-bench run --methods all --dataset {again} --splits {out}")
    return result


def _audited(arguments: argparse.Namespace) -> tuple[SplitLists, DatasetSpec | None, Slides | None]:
    """The lists to audit, the dataset's card and what is known of its slides."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.datasets.slides import known_slides
    from mil_bench.split_files.formats import read_split_lists
    from mil_bench.split_files.formats.own import another_dataset
    from mil_bench.splits.lists import SplitLists

    drawn = arguments.protocol is not None
    asked = arguments.folds is not None or arguments.repeats != 1
    if drawn == (arguments.path is not None) or (asked and not drawn):
        problem = (
            "name either a PATH, or --dataset and --protocol (and --folds, --repeats) to make a "
            "split"
        )
        raise InputError("the request", [problem], "See mil-bench splits audit --help.")
    if arguments.dataset is None:
        if drawn or arguments.labels is not None:
            remedy = "Name it: its card says what labels mean."
            raise InputError("the request", ["no --dataset is named"], remedy)
        return read_split_lists(arguments.path), None, None
    spec = find_dataset(arguments.dataset)
    if not drawn:
        lists = read_split_lists(arguments.path)
        lists = replace(lists, refusals=(*another_dataset(lists, spec), *lists.refusals))
        known = known_slides(spec, arguments.labels, arguments.data)
        if known is not None and arguments.allow_missing:
            lists = lists.only(frozenset(known.frame["slide"]), f"the {known.origin}")
        return lists, spec, known
    table = _required_table(arguments, spec)
    plan = _plan(arguments, spec, table)
    source = "; ".join(filter(None, [plan.source, f"made from the {table.origin}"]))
    title = f"{plan.protocol} on {spec.slug}, {source}, digest {plan.digest}"
    numbers = tuple(range(len(plan.folds)))
    return SplitLists(title, plan.folds, numbers, repeats=plan.repeats), spec, table


def _near_duplicates(spec: DatasetSpec | None, data: Path) -> NearDuplicates | None:
    """Pairs of bags that are equal or almost so, if features are packed."""
    from mil_bench.datasets.catalogue import is_packed
    from mil_bench.datasets.slides import any_store
    from mil_bench.intake.inspection.near_duplicates import near_duplicates
    from mil_bench.split_files.overlaps import NearDuplicates

    if spec is None or not is_packed(spec, data):
        return None
    store = any_store(spec, data)
    return NearDuplicates.of(near_duplicates(store, progress_bar), store.slides["slide"])
