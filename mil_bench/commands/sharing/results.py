"""Export runs as a bundle, and import a bundle that others made."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_data_folder, add_results_folder, words_again

if TYPE_CHECKING:
    import argparse

    from mil_bench.planning.plan import RunPlan
    from mil_bench.sharing.importing import Imported

_EXAMPLES = """\
examples:
  Give your runs to others:
    mil-bench results export RUN bundle.zip --source "Lab A"
  Compare a method of your own with theirs:
    mil-bench results import bundle.zip
    mil-bench run --methods my-method --dataset bracs --splits SPLIT
    mil-bench report THEIR_RUN YOUR_RUN
"""
_LIMITS = (
    "Nothing in a bundle is executed or unpickled, and no file is written under a name that it "
    "brings. A bundle has at most 50,000 members; a plan or record has at most 64 MiB, the "
    "predictions of a fold 256 MiB, both together 4 GiB, the weights of a fold 8 GiB."
)


def add_results(subparsers: Any) -> None:
    """``mil-bench results``."""
    parser = subparsers.add_parser(
        "results",
        help="export and import results, to compare with other labs",
        description="Export runs as one file, and import such a file: what others trained on the "
        "same features and splits is in the same tables, marked with its source.",
        epilog=_EXAMPLES,
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_export(actions)
    _add_import(actions)


def _add_export(actions: Any) -> None:
    parser = actions.add_parser(
        "export",
        help="write runs into a bundle: plans, test predictions, no features",
        description="Write runs into a zip file: plans, training curves and test predictions, no "
        "features. It names the slides of all folds, with labels, patients and centres as far as "
        "they are known.",
    )
    parser.set_defaults(call=export_bundle)
    parser.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="names of runs; an unambiguous part of a name is enough",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the zip file; it must not exist")
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="who trained the runs, as tables of others show it (default: the name of the file)",
    )
    parser.add_argument("--weights", action="store_true", help="write the weights, too")
    add_results_folder(parser)


def _add_import(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="take over the runs of a bundle, marked with their source",
        description="Take over the runs of a bundle, all of it or nothing. Their rows are marked "
        "with their source, such as 'hmil (from Lab A)'. A bundle is refused if runs or packed "
        "features of its dataset are here and have other digests, or its values do not fit each "
        f"other. {_LIMITS}",
    )
    parser.set_defaults(call=import_bundle)
    parser.add_argument("file", type=Path, metavar="FILE", help="written by results export")
    parser.add_argument(
        "--source", default="", metavar="NAME", help="who made it (default: what it says itself)"
    )
    add_results_folder(parser)
    add_data_folder(parser)


def export_bundle(arguments: argparse.Namespace) -> int:
    """Write a bundle and say what is in it."""
    from mil_bench.errors import show
    from mil_bench.progress import progress_bar
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.comparison import named
    from mil_bench.sharing.exporting import export_results

    store = ResultStore(Results(arguments.results).runs)
    runs = list(dict.fromkeys(named(store, text) for text in arguments.run))
    source = arguments.source
    if source is None:
        source = re.sub(r"[^\w.&+-]+", " ", arguments.file.stem).strip()[:40].strip()
    exported = export_results(store, runs, arguments.file, source, arguments.weights, progress_bar)
    for run, (stored, planned) in exported.runs.items():
        digests = exported.digests[run]
        show(
            f"{run}: {stored} of {planned} trainings; data digest {digests.data_digest}, split "
            f"digest {digests.split_digest}"
        )
    with_weights = "with weights" if arguments.weights else "without weights"
    show(
        f"\n{arguments.file}: {exported.size / 2**20:.1f} MiB, {with_weights}, source '{source}'. "
        "It names slides, with labels, patients and centres as far as they are known."
    )
    show(f"To import it elsewhere: mil-bench results import {shlex.quote(arguments.file.name)}")
    return 0


def import_bundle(arguments: argparse.Namespace) -> int:
    """Import a bundle and say how to compare with it."""
    from mil_bench.errors import show
    from mil_bench.progress import progress_bar
    from mil_bench.results import Results
    from mil_bench.sharing.importing import import_results

    imported = import_results(
        Results(arguments.results), arguments.file, arguments.data, arguments.source, progress_bar
    )
    if not imported.is_new:
        show(f"{arguments.file} is imported already, in {imported.folder}:")
    for plan in imported.plans:
        stored = f"{imported.stored[plan.run_id]} of {len(plan.trainings)} trainings"
        show(f"{plan.run_id}: {stored}; {', '.join(plan.methods)}")
    _show_next(imported, words_again(arguments, "results"), words_again(arguments, "data"))
    return 0


def _show_next(imported: Imported, results: str, data: str) -> None:
    """The commands that compare with each run of a bundle."""
    from mil_bench.datasets.catalogue import on_the_command_line
    from mil_bench.errors import show

    for plan in imported.plans:
        own = imported.own.get(plan.run_id, "")
        show(f"\nTo see {plan.run_id}{' beside yours' * bool(own)}:")
        show(f"  mil-bench report {own or plan.run_id}{f' {plan.run_id}' * bool(own)}{results}")
        if own:
            continue
        dataset = shlex.quote(on_the_command_line(plan.dataset))
        show("To train on the same split, and to see both:")
        words = f"--methods NAME --dataset {dataset} {_split_words(imported, plan)}"
        show(f"  mil-bench run {words}{results}{data}")
        show(f"  mil-bench report {plan.run_id} YOUR_RUN{results}")


def _split_words(imported: Imported, plan: RunPlan) -> str:
    """Options that give a run the folds of an imported one."""
    file, splits = imported.split_file(plan), plan.splits
    words = f"--encoder {shlex.quote(plan.encoder)} " if plan.encoder else ""
    words += f"--combine {plan.combine} " if plan.combine else ""
    if file.exists():
        return f"{words}--splits {shlex.quote(str(file))}"
    folds = len(splits.folds) // splits.repeats
    return f"{words}--protocol {splits.protocol} --folds {folds} --repeats {splits.repeats}"
